"""A folder in the layout of nnInteractive's published model: planned from, fine-tuned, loaded back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import DATASET, DATASET_ID, Workspace
from nnInteractive.inference.inference_session import nnInteractiveInferenceSession
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunetv2_promise.cli.plan_and_preprocess import main
from nnunetv2_promise.network_architectures.interactive.channels import CHANNELS
from nnunetv2_promise.network_architectures.weights.weight_files import read_weight_file
from nnunetv2_promise.trainers import InteractiveUNetTrainer

RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
CONFIGURATION = "3d_fullres_ps192_bs24"
ARCH_KWARGS: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "n_blocks_per_stage": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]


class _Short(InteractiveUNetTrainer):
    epochs = 1

    def __init__(self, plans: Any, configuration: str, fold: int, dataset_json: Any, device: torch.device) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1


def write_published(folder: Path, *, network: str = RESIDUAL, channels: int = 1) -> Path:
    """A folder as nnInteractive publishes one, with a small network of random weights."""
    (folder / "fold_0").mkdir(parents=True)
    base = {
        "patch_size": [16, 16, 16],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "architecture": {
            "network_class_name": network,
            "arch_kwargs": ARCH_KWARGS,
            "_kw_requires_import": IMPORTED,
        },
    }
    configurations = {
        "3d_fullres": base,
        CONFIGURATION: {"inherits_from": "3d_fullres", "patch_size": [16, 24, 16], "batch_size": 24},
    }
    plans = {
        "dataset_name": "Dataset225_nnInteractiveV2",
        "plans_name": "nnUNetResEncUNetLPlans_noResampling",
        "configurations": configurations,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
    }
    dataset = {
        "channel_names": {str(index): f"channel {index}" for index in range(channels)},
        "labels": {"background": 0, **{f"object {number}": number for number in range(1, 2000)}},
        "file_ending": ".nii.gz",
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "inference_info.json").write_text(json.dumps({"interaction_channels": 6, "point_radius": 4}))
    (folder / "LICENSE").write_text("CC BY-NC-SA 4.0\nThe whole text.\n")
    built = get_network_from_plans(RESIDUAL, ARCH_KWARGS, IMPORTED, channels + CHANNELS, 2, deep_supervision=False)
    content = {
        "network_weights": built.state_dict(),
        "trainer_name": "nnInteractiveTrainer_stub",
        "init_args": {"configuration": CONFIGURATION},
        "_best_ema": np.float64(0.9),
    }
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    return folder


@pytest.fixture
def plan(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
        monkeypatch.setenv(variable, workspace.environment()[variable])

    def run(folder: Path, *options: str, planner: str = "InteractiveUNetPlanner") -> int:
        command = ["-d", DATASET_ID, "-pl", planner, "--start_from", str(folder), "-np", "1", *options]
        return main([*command, "-overwrite_plans_name", "FineTunedPlans"])

    return run


def test_a_published_folder_is_fine_tuned_and_loads_back(
    plan: Callable[..., int], workspace: Workspace, tmp_path: Path
):
    torch.manual_seed(0)
    published = write_published(tmp_path / "published")
    assert plan(published) == 0
    plans = json.loads((workspace.preprocessed / "FineTunedPlans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["architecture"]["network_class_name"] == RESIDUAL
    assert configuration["patch_size"] == [16, 24, 16]
    assert configuration["batch_size"] >= 1

    dataset = json.loads((workspace.preprocessed / "dataset.json").read_text())
    arguments = (plans | {"continue_training": False}, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer = _Short(*arguments)
    trainer.initialize()
    before = read_weight_file(published / "fold_0" / "checkpoint_final.pth")["network_weights"]
    torch.testing.assert_close(dict(trainer.network.state_dict()), dict(before))  # seg head included
    trainer.run_training()
    changed = [key for key, value in trainer.network.state_dict().items() if not torch.equal(value, before[key])]
    assert "decoder.seg_layers.1.weight" in changed

    model = workspace.results / DATASET / "_Short__FineTunedPlans__3d_fullres"
    assert (model / "LICENSE").read_text().startswith("CC BY-NC-SA 4.0")
    session = nnInteractiveInferenceSession(device=torch.device("cpu"), torch_n_threads=1, do_autozoom=False)
    session.initialize_from_trained_model_folder(str(model), 0)
    session.set_image(np.random.default_rng(0).normal(size=(1, 20, 24, 20)).astype(np.float32))
    session.set_target_buffer(np.zeros((20, 24, 20), np.uint8))
    session.add_point_interaction((10, 12, 10), True)
    for key, value in trainer.network.state_dict().items():
        torch.testing.assert_close(session.network.state_dict()[key], value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "inference_info.json").unlink(), "inference_info.json does not exist"),
        (lambda folder: (folder / "fold_0" / "checkpoint_final.pth").unlink(), "checkpoint_final.pth does not exist"),
        (lambda folder: _edit(folder, network="torch.nn.Conv3d"), "cannot be built"),
        (lambda folder: _edit(folder, features_per_stage=[4, 8, 16]), "where"),
        (lambda folder: torch.save([1], folder / "fold_0" / "checkpoint_final.pth"), "has no 'trainer_name'"),
    ],
)
def test_a_folder_that_is_not_whole_ends_in_one_sentence(
    plan: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], change, words: str
):
    published = write_published(tmp_path / "published")
    change(published)
    assert plan(published, "--no_pp") == 2
    sentence = capsys.readouterr().err.splitlines()[-1]  # after the bar of the cases' checks
    assert sentence.startswith("Error: ")
    assert words in sentence


def test_another_architecture_ends_in_one_sentence(
    plan: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    published = write_published(tmp_path / "published")
    other = "dynamic_network_architectures.architectures.unet.ResidualUNet"
    _edit(published, network=other)
    kwargs = (other, ARCH_KWARGS, IMPORTED, 1 + CHANNELS, 2)
    content = read_weight_file(published / "fold_0" / "checkpoint_final.pth")
    content["network_weights"] = get_network_from_plans(*kwargs, deep_supervision=False).state_dict()
    torch.save(content, published / "fold_0" / "checkpoint_final.pth")
    assert plan(published, "--no_pp") == 2
    assert (
        "its architecture is ResidualUNet, but InteractiveUNetTrainer trains PlainConvUNet" in capsys.readouterr().err
    )


def test_other_channels_end_in_one_sentence(
    plan: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert plan(write_published(tmp_path / "published", channels=2), "--no_pp") == 2
    assert "sees 2 image channels, the dataset has 1" in capsys.readouterr().err


def test_start_from_needs_a_planner_of_unets(
    plan: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert plan(write_published(tmp_path / "published"), "--no_pp", planner="ProMISeTinyPlanner") == 2
    assert "use -pl InteractiveUNetPlanner" in capsys.readouterr().err


def _edit(folder: Path, *, network: str | None = None, **arch_kwargs: Any) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = network or architecture["network_class_name"]
    architecture["arch_kwargs"] |= arch_kwargs
    (folder / "plans.json").write_text(json.dumps(plans))
