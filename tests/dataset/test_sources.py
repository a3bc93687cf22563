"""Files that change behind preprocessed data are noticed, copies are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from generated_msd import label_map, write_msd, write_volume

from nnunetv2_promise.dataset.msd_conversion import convert_msd
from nnunetv2_promise.dataset.sources import note_sources, require_same_sources, stamp_of_dataset
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import file_stamp, write_json
from nnunetv2_promise.planning import preparation
from nnunetv2_promise.trainers.restartable import RestartableTraining

DATA = "ProMISePlans_3d_fullres"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("size", [12, 90])
def test_stamp_holds_contents_and_names_but_not_times(ending: str, size: int, tmp_path: Path) -> None:
    """One voxel in the middle of 0.7 MB of noise, which no compression shortens, changes it."""
    array = np.random.default_rng(0).integers(0, 256, (size, size, size), dtype=np.uint8)
    file, copied = tmp_path / f"a{ending}", tmp_path / "elsewhere" / f"a{ending}"
    write_volume(array, file)
    copied.parent.mkdir()
    shutil.copyfile(file, copied)
    stamp = file_stamp(file)
    assert file_stamp(copied) == stamp
    assert file_stamp(shutil.copyfile(file, tmp_path / f"b{ending}")) != stamp
    assert file_stamp(file, copied) != stamp
    array[size // 2, size // 2, size // 2] ^= 1
    write_volume(array, file)
    assert file_stamp(file) != stamp


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of links to an MSD folder."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    convert_msd(write_msd(tmp_path / "Task10_Colon"), 10)
    return tmp_path / "nnUNet_raw" / "Dataset010_Colon"


def preprocess(raw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the command does, without nnU-Net's work; the dataset's folder of preprocessed data."""
    folder = raw.parents[1] / "nnUNet_preprocessed" / raw.name
    write_json({"configurations": {"3d_fullres": {"data_identifier": DATA}}}, folder / "ProMISePlans.json")
    monkeypatch.setattr(preparation, "preprocess_dataset", lambda *_: (folder / f".partial_{DATA}").mkdir())
    preparation.preprocess(raw.name, "ProMISePlans", num_processes=1)
    return folder


def correct(msd: Path) -> None:
    corrected = label_map(1)
    corrected[0, 0, 0] = 2
    write_volume(corrected, msd / "labelsTr" / "scan_001.nii.gz")


def replace_image(msd: Path) -> None:
    write_volume(np.ones(label_map(1).shape, np.int16), msd / "imagesTr" / "scan_002.nii.gz")


def lose_a_label(msd: Path) -> None:
    (msd / "labelsTr" / "scan_003.nii.gz").unlink()


@pytest.mark.parametrize("change", [correct, replace_image, lose_a_label])
def test_training_refuses_what_was_preprocessed_from_other_files(
    change, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = preprocess(raw, monkeypatch)
    require_same_sources(folder, DATA)
    change(raw.parents[1] / "Task10_Colon")
    trainer = RestartableTraining.__new__(RestartableTraining)
    trainer.output_folder_base, trainer.preprocessed_dataset_folder_base = str(raw.parent / "model"), str(folder)
    trainer.configuration_manager = SimpleNamespace(data_identifier=DATA)
    with pytest.raises(UserError, match=rf"{raw.name} changed after .*{DATA} was made of them; call nnUNetv2_promise_"):
        trainer.on_train_start()
    if change is not lose_a_label:
        require_same_sources(preprocess(raw, monkeypatch), DATA)


def test_without_raw_data_or_a_note_nothing_is_checked(raw: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "nnUNet_preprocessed" / raw.name
    require_same_sources(folder, DATA)  # stock nnU-Net preprocessed
    note_sources(folder, DATA, "of other files")
    with pytest.raises(UserError):
        require_same_sources(folder, DATA)
    note_sources(folder, DATA, stamp_of_dataset(raw))
    require_same_sources(folder, DATA)
    note_sources(folder, DATA, "of other files")
    monkeypatch.delenv("nnUNet_raw")
    require_same_sources(folder, DATA)
