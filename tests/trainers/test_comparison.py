"""The comparison trainers in nnU-Net's own loop: plans' patch, loss, schedule, checkpoints, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from commands import Workspace
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise import trainers
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers.comparison import SWIN_WEIGHTS_VARIABLE

SMALL: dict[str, dict[str, Any]] = {
    "UXNet3DTrainer": {"features": (4, 8, 8, 8), "hidden": 16, "depths": (1, 1, 1, 1)},
    "SwinUNETRTrainer": {"feature_size": 12, "num_heads": (2, 2, 2, 2), "depths": (1, 1, 1, 1)},
    "nnFormerTrainer": {"embed_dim": 16, "num_heads": (1, 2, 2, 4), "drop_path": 0.0},
}
EACH = pytest.mark.parametrize("name", SMALL)
PATCH = (16, 23, 18)
DATASET = {
    "channel_names": {"0": "CT", "1": "CT"},
    "labels": {"background": 0, "a": 1, "b": 2},
    "file_ending": ".nii.gz",
}


def plans() -> dict[str, Any]:
    """As much of nnU-Net's plans as a trainer looks at before it loads data."""
    configuration = {"batch_size": 2, "batch_dice": False, "data_identifier": "x", "architecture": {}}
    return {
        "dataset_name": "Dataset001_X",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {
            "3d_fullres": {**configuration, "patch_size": list(PATCH)},
            "2d": {**configuration, "patch_size": [32, 32]},
        },
        "continue_training": False,
    }


@pytest.fixture
def nnunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty folders."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    monkeypatch.delenv(SWIN_WEIGHTS_VARIABLE, raising=False)


def make(name: str, *, title: str = "Short", dataset: dict[str, Any] = DATASET, **knobs: Any) -> Any:
    """A trainer with a small network; ``title`` names its folder."""
    short = type(f"{name}_{title}", (getattr(trainers, name),), {"network_options": SMALL[name]} | knobs)
    return short(plans(), "3d_fullres", 0, dataset, torch.device("cpu"))


def build(trainer: Any) -> None:
    """What ``initialize`` makes, without data."""
    manager = trainer.plans_manager, trainer.configuration_manager
    heads = trainer.label_manager.num_segmentation_heads
    trainer.network = trainer.build_network_architecture(*manager, 2, heads, trainer.enable_deep_supervision)
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    trainer.loss = trainer._build_loss()


def batch_of(trainer: Any, labels: int) -> dict[str, Any]:
    """Random, with targets at every resolution as nnU-Net's loader makes them."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(labels, (2, 1, *PATCH), generator=generator).float()
    scales = trainer._get_deep_supervision_scales()
    if scales is not None:
        each = [DownsampleSegForDSTransform(scales)._apply_to_segmentation(case) for case in target]
        target = [torch.stack(level) for level in zip(*each, strict=True)]
    return {"data": torch.randn(2, 2, *PATCH, generator=generator), "target": target}


@EACH
def test_trainer_is_exported_and_keeps_nnunets_hooks(name: str) -> None:
    trainer = getattr(trainers, name)
    assert name in trainers.__all__
    assert issubclass(trainer, nnUNetTrainer)
    hooks = ("build_network_architecture", "configure_optimizers", "set_deep_supervision_enabled", "_build_loss")
    assert all(hasattr(nnUNetTrainer, hook) for hook in hooks)
    assert (trainer.epochs, trainer.iterations_per_epoch, trainer.val_iterations_per_epoch) == (1000, 250, 50)


@EACH
def test_2d_is_refused_before_anything_is_written(name: str, nnunet: None, tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match=f"{name} segments in 3D; configuration '2d' has patches with 2 axes"):
        getattr(trainers, name)(plans(), "2d", 0, DATASET, torch.device("cpu"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "parameters"),
    # One channel, two classes; nnFormer's with the outputs for deep supervision and 64 x 128 x 128 patches.
    [("UXNet3DTrainer", 53_005_922), ("SwinUNETRTrainer", 62_186_708), ("nnFormerTrainer", 149_712_426)],
)
def test_network_has_the_published_size(name: str, parameters: int) -> None:
    wanted = plans()
    wanted["configurations"]["3d_fullres"]["patch_size"] = [64, 128, 128]
    manager = PlansManager(wanted)
    network = getattr(trainers, name).build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 2)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("UXNet3DTrainer", "labels"),
        ("UXNet3DTrainer", "ignore"),
        ("UXNet3DTrainer", "regions"),
        ("SwinUNETRTrainer", "labels"),
        ("nnFormerTrainer", "labels"),
        ("nnFormerTrainer", "ignore"),
        ("nnFormerTrainer", "regions"),
    ],
)
def test_one_step_validates_and_trains_every_weight(name: str, kind: str, nnunet: None) -> None:
    labels = {
        "labels": {"background": 0, "a": 1, "b": 2},
        "ignore": {"background": 0, "a": 1, "b": 2, "ignore": 3},
        "regions": {"background": 0, "whole": [1, 2], "core": [2]},
    }[kind]
    order = {"regions_class_order": [1, 2]} if kind == "regions" else {}
    trainer = make(name, dataset={**DATASET, **order, "labels": labels})
    build(trainer)
    batch = batch_of(trainer, 4 if kind == "ignore" else 2)
    if kind == "regions":
        levels = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
        doubled = [level.repeat(1, 2, 1, 1, 1) for level in levels]
        batch["target"] = doubled if isinstance(batch["target"], list) else doubled[0]
    trainer.network.train()
    assert np.isfinite(trainer.train_step(batch)["loss"])
    gradients = {key: p.grad for key, p in trainer.network.named_parameters()}
    idle = [key for key, g in gradients.items() if g is None or not torch.isfinite(g).all() or not g.any()]
    # The deepest grid has one token here, and its bias cancels in the softmax.
    alone = [f"encoder.3.blocks.{index}.attention.bias" for index in range(2)]
    assert idle == (alone if name == "nnFormerTrainer" else [])
    with torch.no_grad():
        scores = trainer.validation_step(batch_of(trainer, 2) if kind == "labels" else batch)
    assert len(scores["tp_hard"]) == 2


@EACH
def test_prediction_builds_the_network_that_was_trained(name: str, nnunet: None) -> None:
    trainer = make(name)
    build(trainer)
    arguments = trainer.plans_manager, trainer.configuration_manager, 2, 3
    loaded = trainer.build_network_architecture(*arguments, enable_deep_supervision=False)
    loaded.load_state_dict(trainer.network.state_dict())
    trainer.set_deep_supervision_enabled(False)
    image = torch.randn(1, 2, *PATCH)
    with torch.no_grad():
        logits = loaded.eval()(image)
        assert torch.equal(logits, trainer.network.eval()(image))
    assert logits.shape == (1, 3, *PATCH)


def rates(trainer: Any, epochs: list[int]) -> list[float]:
    found = []
    for epoch in epochs:
        trainer.lr_scheduler.step(epoch)
        found.append(trainer.optimizer.param_groups[0]["lr"])
    return found


def test_ux_net_has_adamw_with_a_constant_rate(nnunet: None) -> None:
    trainer = make("UXNet3DTrainer")
    build(trainer)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert rates(trainer, [0, 1, 500, 999]) == [1e-4] * 4


def test_swin_unetr_warms_up_and_follows_a_cosine_from_any_epoch(nnunet: None) -> None:
    trainer = make("SwinUNETRTrainer")
    build(trainer)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 1e-5
    first, middle, top, half, last = rates(trainer, [0, 25, 50, 525, 999])
    assert first == pytest.approx(8e-4 / 51)
    assert middle == pytest.approx(8e-4 * (1 / 51 + 50 / 51 / 2))
    assert top == pytest.approx(8e-4)
    assert half == pytest.approx(4e-4)
    assert last == pytest.approx(4e-4 * (1 + math.cos(math.pi * 949 / 950)))
    assert rates(trainer, [25]) == [pytest.approx(middle)]


def test_swin_unetr_of_one_epoch_trains_at_the_full_rate(nnunet: None) -> None:
    trainer = make("SwinUNETRTrainer", epochs=1)
    build(trainer)
    assert rates(trainer, [0]) == [8e-4]


def test_nnformer_has_nnunets_optimiser_and_halving_weights(nnunet: None) -> None:
    trainer = make("nnFormerTrainer")
    build(trainer)
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    group = trainer.optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)
    assert rates(trainer, [0, 500]) == [1e-2, pytest.approx(1e-2 * 0.5**0.9)]
    assert trainer.loss.weight_factors == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert trainer._get_deep_supervision_scales() == [[1.0] * 3, [0.5] * 3, [0.25] * 3]


def test_nnformer_loss_is_the_weighted_sum_of_nnunets_at_each_resolution(nnunet: None) -> None:
    trainer = make("nnFormerTrainer")
    build(trainer)
    batch = batch_of(trainer, 3)
    outputs = trainer.network.eval()(batch["data"])
    single = nnUNetTrainer._build_loss(make("UXNet3DTrainer"))
    each = [single(output, target) for output, target in zip(outputs, batch["target"], strict=True)]
    assert trainer.loss(outputs, batch["target"]).item() == pytest.approx(
        ((4 * each[0] + 2 * each[1] + each[2]) / 7).item()
    )


def test_save_is_complete_or_absent(nnunet: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainer = make("UXNet3DTrainer")
    build(trainer)
    target = tmp_path / "checkpoint.pth"
    trainer.save_checkpoint(str(target))
    before = target.read_bytes()

    def full_disk(content: Any, filename: str) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        trainer.save_checkpoint(str(target))
    assert target.read_bytes() == before


# With data: these train for a moment.


@pytest.fixture
def planned(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace's folders in this process."""
    for variable, value in workspace.environment().items():
        if variable.startswith("nnUNet_"):
            monkeypatch.setenv(variable, value)
    monkeypatch.delenv(SWIN_WEIGHTS_VARIABLE, raising=False)
    return workspace


def make_planned(name: str, workspace: Workspace, title: str) -> Any:
    """A trainer of two epochs of one iteration on the workspace's data."""
    knobs = {"epochs": 2, "iterations_per_epoch": 1, "val_iterations_per_epoch": 1, "network_options": SMALL[name]}
    short = type(f"{name}_{title}", (getattr(trainers, name),), knobs)
    real = json.loads((workspace.preprocessed / "ProMISeTinyPlans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((workspace.preprocessed / "dataset.json").read_text())
    return short(real, "3d_fullres", 0, dataset, torch.device("cpu"))


def one_epoch(trainer: Any) -> None:
    """The body of nnU-Net's loop."""
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train))])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
    trainer.on_epoch_end()


@EACH
def test_training_resumed_after_an_epoch_equals_an_undisturbed_one(name: str, planned: Workspace) -> None:
    undisturbed = make_planned(name, planned, "Undisturbed")
    undisturbed.run_training()
    fold = Path(undisturbed.output_folder)
    assert (fold / "checkpoint_final.pth").is_file()
    assert not list(fold.glob("*.tmp"))

    killed = make_planned(name, planned, "Resumed")
    killed.save_every = 1
    killed.on_train_start()
    one_epoch(killed)
    resumed = make_planned(name, planned, "Resumed")
    resumed.load_checkpoint(str(Path(killed.output_folder, "checkpoint_latest.pth")))
    assert resumed.current_epoch == 1
    resumed.run_training()
    expected = undisturbed.network.state_dict()
    different = [key for key, value in resumed.network.state_dict().items() if not torch.equal(value, expected[key])]
    assert not different


def test_self_supervised_weights_are_loaded_once(
    planned: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At the start of a training; not when it resumes from a checkpoint, and a missing file stops it at the start."""
    donor = make_planned("SwinUNETRTrainer", planned, "Donor")
    donor.initialize()
    own = donor.network.network.swinViT.state_dict()
    weights = {f"module.{key}": value + 1 for key, value in own.items()}
    torch.save({"state_dict": weights}, tmp_path / "swin.pt")
    donor.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    monkeypatch.setenv(SWIN_WEIGHTS_VARIABLE, str(tmp_path / "swin.pt"))

    started = make_planned("SwinUNETRTrainer", planned, "Started")
    started.initialize()
    key = "patch_embed.proj.weight"
    assert torch.equal(started.network.network.swinViT.state_dict()[key], weights[f"module.{key}"])

    monkeypatch.setenv(SWIN_WEIGHTS_VARIABLE, str(tmp_path / "nowhere.pt"))
    resumed = make_planned("SwinUNETRTrainer", planned, "Resumed")
    resumed.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert torch.equal(resumed.network.network.swinViT.state_dict()[key], own[key])
    with pytest.raises(UserError, match=r"nowhere\.pt does not exist"):
        make_planned("SwinUNETRTrainer", planned, "Missing").initialize()
