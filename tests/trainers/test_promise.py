"""The trainer through stock ``nnUNetv2_train``: what it writes, resuming, repeating, several processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import DATASET, DATASET_ID, PLANS, Workspace

from nnunetv2_promise.training.supported import check_supported

ONE = "ProMISeTrainer_1epoch"


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location="cpu", weights_only=False)["network_weights"]


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different, different[:3]


def test_training_writes_nnunets_files_and_its_own_record(trained: Workspace) -> None:
    fold = trained.model(ONE) / "fold_0"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    split = json.loads((trained.preprocessed / "splits_final.json").read_text())[0]
    cases = sorted(Path(case["prediction_file"]).name.removesuffix(".nii.gz") for case in summary["metric_per_case"])
    assert cases == sorted(split["val"])
    assert not set(split["val"]) & set(split["train"])
    for case in split["val"]:
        assert (fold / "validation" / f"{case}.npz").is_file()
        clicks = json.loads((fold / "validation" / "clicks" / f"{case}.json").read_text())["cases"][case]
        assert {prompt["label"] for prompt in clicks} <= {1, 2}
        assert clicks
    record = json.loads((fold / "run.json").read_text())
    assert record["seed"] == 0
    assert record["command"][1:3] == [DATASET_ID, "3d_fullres"]
    assert record["iterations_per_epoch"] == -(-len(split["train"]) // record["batch_size"])
    assert "nnUNetv2_promise_predict" in (trained.model(ONE) / "MODEL_CARD.md").read_text()
    assert (fold / "checkpoint_final.pth").is_file()
    assert not list(fold.glob("*.tmp"))


def test_validation_clicks_lie_on_their_label(trained: Workspace) -> None:
    import SimpleITK as sitk  # noqa: N813

    for file in (trained.model(ONE) / "fold_0" / "validation" / "clicks").glob("*.json"):
        truth = sitk.ReadImage(str(trained.preprocessed / "gt_segmentations" / f"{file.stem}.nii.gz"))
        for prompt in json.loads(file.read_text())["cases"][file.stem]:
            near = [truth[tuple(round(v) for v in point)] for point in prompt["points"]]
            assert near == [prompt["label"]]


def test_val_only_repeats_the_validation(trained: Workspace) -> None:
    summary = trained.model(ONE) / "fold_0" / "validation" / "summary.json"
    before = json.loads(summary.read_text())
    summary.unlink()
    trained.train(ONE, "--val")
    assert json.loads(summary.read_text())["mean"] == before["mean"]


def test_killed_and_resumed_training_equals_an_undisturbed_one(workspace: Workspace, tmp_path: Path) -> None:
    """Also shows that two runs with the same seed are equal."""
    trainer = "ProMISeTrainer_5epochs"
    workspace.train(trainer)
    final = workspace.model(trainer) / "fold_0" / "checkpoint_final.pth"
    undisturbed = tmp_path / "undisturbed.pth"
    final.rename(undisturbed)
    for checkpoint in final.parent.glob("checkpoint_*.pth"):
        checkpoint.unlink()
    arguments = [DATASET_ID, "3d_fullres", "0", "-tr", trainer, "-p", PLANS, "-device", "cpu"]
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("nnUNetv2_train")), *arguments],
        env=workspace.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        best = final.with_name("checkpoint_best.pth")
        deadline = time.monotonic() + 240
        while not best.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert best.is_file()
    assert not final.is_file()
    workspace.train(trainer, "--c")
    assert_same_weights(undisturbed, final)


def test_pretrained_weights_are_taken(trained: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source.pth"
    source.write_bytes((trained.model(ONE) / "fold_0" / "checkpoint_final.pth").read_bytes())
    done = trained.train(ONE, "-pretrained_weights", str(source), fold=1)
    assert "Loading pretrained weights" in done.stdout
    assert (trained.model(ONE) / "fold_1" / "checkpoint_final.pth").is_file()


def test_leaking_split_is_refused(workspace: Workspace) -> None:
    splits = workspace.preprocessed / "splits_final.json"
    original = splits.read_text() if splits.is_file() else None
    cases = [f"scan_{i:03d}" for i in range(8)]
    splits.write_text(json.dumps([{"train": cases[:6], "val": cases[5:]}]))
    try:
        done = workspace.run(
            "nnUNetv2_train", DATASET_ID, "3d_fullres", "0", "-tr", ONE, "-p", PLANS, "-device", "cpu", check=False
        )
    finally:
        if original is None:
            splits.unlink()
        else:
            splits.write_text(original)
    assert done.returncode
    assert "fold 0 trains and validates on 'scan_005'" in done.stderr


@pytest.mark.parametrize(
    ("configuration", "labels", "reason"),
    [
        ("2d", {"background": 0, "a": 1}, "segments in 3D"),
        ("3d_cascade_fullres", {"background": 0, "a": 1}, "cascade"),
        ("3d_fullres", {"background": 0, "whole": [1, 2], "core": 2}, "Region-based labels .whole."),
    ],
)
def test_what_is_not_supported_says_why(configuration: str, labels: dict[str, Any], reason: str) -> None:
    architecture = {"network_class_name": "x", "arch_kwargs": {}, "_kw_requires_import": []}
    plans = {
        "configurations": {
            "2d": {"patch_size": [8, 8], "architecture": architecture},
            "3d_fullres": {"patch_size": [8, 8, 8], "architecture": architecture},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        }
    }
    with pytest.raises(NotImplementedError, match=reason):
        check_supported(plans, configuration, {"labels": labels})


def test_no_validation_case_reaches_training(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2_promise.trainers import ProMISeTrainer_20epochs

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_n_proc_DA"):
        monkeypatch.setenv(name, workspace.environment()[name])
    plans = json.loads((workspace.preprocessed / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((workspace.preprocessed / "dataset.json").read_text())
    seen: list[set[str]] = []
    for fold in range(5):
        trainer = ProMISeTrainer_20epochs(dict(plans), "3d_fullres", fold, dataset_json, torch.device("cpu"))
        trainer.initialize()
        training, validation = trainer.get_dataloaders()
        trained_on = {str(key) for _ in range(20) for key in next(training)["keys"]}
        validated_on = {str(key) for _ in range(20) for key in next(validation)["keys"]}
        assert not trained_on & validated_on
        seen.append(validated_on)
    assert set.union(*seen) == {f"scan_{i:03d}" for i in range(8)}
    assert sum(map(len, seen)) == 8


def test_folds_are_there_whole_before_nnunet_looks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net writes the file bit by bit, and another process may read half of it."""
    from nnunetv2_promise.trainers import ProMISeTrainer_1epoch

    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.save_json", None)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, workspace.environment()[name])
    plans = json.loads((workspace.preprocessed / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((workspace.preprocessed / "dataset.json").read_text())
    (workspace.preprocessed / "splits_final.json").unlink(missing_ok=True)
    train, validation = ProMISeTrainer_1epoch(plans, "3d_fullres", 3, dataset, torch.device("cpu")).do_split()
    split = json.loads((workspace.preprocessed / "splits_final.json").read_text())
    assert len(split) == 5
    assert split[3] == {"train": train, "val": validation}


def _train_in_process(rank: int, environment: dict[str, str], port: int) -> None:
    """One of two DDP processes; the trainer does all the work."""
    import os

    os.environ.update(environment, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    from torch import distributed

    from nnunetv2_promise.trainers import ProMISeTrainer_1epoch

    class ProMISeTrainer_Distributed(ProMISeTrainer_1epoch):
        """Its own output folder."""

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    base = Path(environment["nnUNet_preprocessed"], DATASET)
    plans = json.loads((base / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((base / "dataset.json").read_text())
    trainer = ProMISeTrainer_Distributed(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    trainer.run_training()
    trainer.perform_actual_validation()
    state = torch.cat([p.detach().flatten() for p in trainer.network.parameters()])
    other = [torch.empty_like(state) for _ in range(2)]
    distributed.all_gather(other, state)
    if not torch.equal(*other):
        raise RuntimeError("the processes' weights differ")
    distributed.destroy_process_group()


def test_two_processes_train_together(workspace: Workspace) -> None:
    from nnunetv2.run.run_training import find_free_network_port

    wanted = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_n_proc_DA", "nnUNet_def_n_proc")
    environment = {name: workspace.environment()[name] for name in wanted}
    (workspace.preprocessed / "splits_final.json").unlink(missing_ok=True)  # so that both find none
    torch.multiprocessing.spawn(_train_in_process, (environment, find_free_network_port()), nprocs=2)
    fold = workspace.model("ProMISeTrainer_Distributed") / "fold_0"
    split = json.loads((workspace.preprocessed / "splits_final.json").read_text())[0]
    predicted = {file.name.removesuffix(".nii.gz") for file in (fold / "validation").glob("*.nii.gz")}
    assert predicted == set(split["val"])
    assert np.isfinite(json.loads((fold / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"])
