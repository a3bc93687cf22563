"""Datasets with odd cases, from the MSD folder through the real commands to a validated model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import only_error, shrink
from generated_msd import label_map, write_msd, write_volume

from nnunetv2_promise.cli.plan_and_preprocess import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers import ProMISeTrainer_1epoch

PLANS = "ProMISeTinyPlans"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    return tmp_path


def planned(msd: Path, folders: Path) -> Path:
    """Plan and preprocess with the real command, and make the network as small as tests need it."""
    assert main(["-i", str(msd), "-d", "31", "-pl", "ProMISeTinyPlanner", "-np", "1"]) == 0
    (folder,) = (folders / "nnUNet_preprocessed").iterdir()
    plans = json.loads((folder / f"{PLANS}.json").read_text())
    shrink(plans["configurations"]["3d_fullres"])
    (folder / f"{PLANS}.json").write_text(json.dumps(plans))
    return folder


def train(folder: Path, fold: int | str) -> Path:
    """Train for an epoch and validate; the fold's folder."""
    plans = json.loads((folder / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = ProMISeTrainer_1epoch(plans, "3d_fullres", fold, dataset, torch.device("cpu"))
    trainer.run_training()
    trainer.perform_actual_validation()
    return Path(trainer.output_folder)


def test_odd_cases_train_and_validate_with_finite_scores(folders: Path) -> None:
    """Spacings from 0.3 to 6 mm, no object, a single voxel, one at the border, and a case thinner than the patch."""
    msd = write_msd(folders / "Task31_Mixed", cases=6, tests=0, shape=(20, 28, 24))
    image, label = np.zeros((20, 28, 24), np.int16), label_map(1, (20, 28, 24))
    image[label > 0] = 80
    voxel, border = np.zeros_like(label), np.zeros_like(label)
    voxel[10, 10, 10] = 2
    border[:3, :3, :3], border[-1, -1, -1] = 2, 1
    cases = {
        0: (image, label, (0.3, 0.3, 6.0)),
        1: (image, np.zeros_like(label), (0.8, 0.9, 2.0)),
        2: (image, voxel, (0.8, 0.9, 2.0)),
        3: (image, border, (0.8, 0.9, 2.0)),
        4: (image[4:7], label[4:7], (0.8, 0.9, 2.0)),
        5: (image, label, (3.0, 2.0, 0.5)),
    }
    for number, (voxels, objects, spacing) in cases.items():
        write_volume(voxels, msd / "imagesTr" / f"scan_{number:03d}.nii.gz", spacing=spacing)
        write_volume(objects, msd / "labelsTr" / f"scan_{number:03d}.nii.gz", spacing=spacing)
    folder = planned(msd, folders)
    train_on, validate_on = [[f"scan_{number:03d}" for number in numbers] for numbers in ((0, 3, 5), (1, 2, 4))]
    (folder / "splits_final.json").write_text(json.dumps([{"train": train_on, "val": validate_on}]))
    validation = train(folder, 0) / "validation"
    scores = json.loads((validation / "objects.json").read_text())
    assert math.isfinite(scores["mean_dice"])
    assert scores["clicks"] in (1, 2), scores  # none in the empty case; a single voxel may be lost to resampling
    assert all((validation / f"{name}.nii.gz").is_file() for name in validate_on)


@pytest.mark.parametrize("cases", [1, 3])
def test_few_cases_are_too_few_for_a_fold_and_train_as_all(cases: int, folders: Path) -> None:
    msd = write_msd(folders / "Task32_Few", cases=cases, tests=0, make_label=lambda _, shape: label_map(1, shape))
    folder = planned(msd, folders)
    with pytest.raises(UserError, match=rf"{cases} training case\(s\), too few for .* 5 folds; train fold .all."):
        train(folder, 0)
    assert (train(folder, "all") / "checkpoint_final.pth").is_file()


def test_cases_of_one_slice_are_refused_at_planning(folders: Path, capfd: pytest.CaptureFixture[str]) -> None:
    msd = write_msd(
        folders / "Task33_Slices",
        cases=5,
        tests=0,
        shape=(1, 24, 24),
        make_label=lambda index, shape: label_map(1, (20, 24, 24))[3:4],
    )
    assert main(["-i", str(msd), "-d", "31", "-pl", "ProMISeTinyPlanner", "-np", "1"]) == 2
    assert "are 2D; ProMISe segments volumes" in only_error(capfd.readouterr().err)
