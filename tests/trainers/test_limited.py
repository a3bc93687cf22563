"""Trainings within a budget of minutes or epochs: the environment's rules, the clock, and every family of trainers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import DATASET_ID, PLANS, Workspace
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_promise import trainers
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers import limited
from nnunetv2_promise.trainers.limited import (
    EPOCHS_VARIABLE,
    MINUTES_VARIABLE,
    PATCHES_VARIABLE,
    Budget,
    budget_from_environment,
)
from nnunetv2_promise.trainers.restartable import RestartableTraining

LIMITED = [name for name in trainers.__all__ if name.endswith("_limited")]
SMALL_UNET = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
SMALL: dict[str, dict[str, Any]] = {
    "nnUNetTrainer_limited": {},
    "ProMISeTrainer_limited": {},
    "UXNet3DTrainer_limited": {
        "network_options": {"features": (4, 8, 8, 8), "hidden": 16, "depths": (1, 1, 1, 1)},
        "iterations_per_epoch": 2,
        "val_iterations_per_epoch": 1,
    },
    "SwinUNETRTrainer_limited": {
        "network_options": {"feature_size": 12, "num_heads": (2, 2, 2, 2), "depths": (1, 1, 1, 1)},
        "iterations_per_epoch": 2,
        "val_iterations_per_epoch": 1,
    },
}
FAMILIES = pytest.mark.parametrize(
    "name", ["nnUNetTrainer_limited", "ProMISeTrainer_limited", "UXNet3DTrainer_limited"]
)


@pytest.fixture
def planned(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace's folders in this process, and no budget."""
    for variable, value in workspace.environment().items():
        if variable.startswith("nnUNet_"):
            monkeypatch.setenv(variable, value)
    monkeypatch.delenv(MINUTES_VARIABLE, raising=False)
    monkeypatch.delenv(EPOCHS_VARIABLE, raising=False)
    return workspace


def make(name: str, workspace: Workspace, title: str, **more: Any) -> Any:
    """A trainer with a small network on the workspace's data; ``title`` names its folder."""
    plans = json.loads((workspace.preprocessed / f"{PLANS}.json").read_text()) | {"continue_training": False}
    if name == "nnUNetTrainer_limited":
        plans["configurations"]["3d_fullres"]["architecture"] = SMALL_UNET
    dataset = json.loads((workspace.preprocessed / "dataset.json").read_text())
    short = type(f"{name}_{title}", (getattr(trainers, name),), SMALL[name] | more)
    trainer = short(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    if name == "nnUNetTrainer_limited":  # the others have knobs
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 1
    return trainer


def test_every_system_of_the_tables_has_a_limited_form() -> None:
    table_1 = ["nnUNet", "UXNet3D", "nnFormer", "SwinUNETR", "SAMAdapter3D", "ProMISe"]
    table_2 = ["_TwoAdapters", "_UpConv", "_R", "_R_B", "_C"]
    correcting = ["InteractiveUNetTrainer", "InteractiveUNetTrainer_KeepUNet", "ProMISeInteractiveTrainer"]
    assert set(LIMITED) == {f"{name}Trainer_limited" for name in table_1} | {
        f"ProMISeTrainer{name}_limited" for name in table_2
    } | {f"{name}_limited" for name in correcting}
    for name in LIMITED:
        trainer, own = getattr(trainers, name), name.removesuffix("_limited")
        assert issubclass(trainer, getattr(trainers, own, RestartableTraining))
        assert trainer.__init__ is getattr(trainers, own, RestartableTraining).__init__


@pytest.mark.parametrize(
    ("minutes", "epochs", "patches", "reason"),
    [
        ("", "", "", "none is set"),
        ("5", "5", "", "several are set"),
        ("", "5", "5", "several are set"),
        *((value, "", "", f"{MINUTES_VARIABLE} is '{value}'") for value in ("soon", "-1", "0", "nan", "inf")),
        *(("", value, "", f"{EPOCHS_VARIABLE} is '{value}'") for value in ("many", "-1", "0", "1.5", "²", " ")),
        *(("", "", value, f"{PATCHES_VARIABLE} is '{value}'") for value in ("0", "1.5")),
    ],
)
def test_budget_must_be_one_positive_number(
    minutes: str, epochs: str, patches: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MINUTES_VARIABLE, minutes)
    monkeypatch.setenv(EPOCHS_VARIABLE, epochs)
    monkeypatch.setenv(PATCHES_VARIABLE, patches)
    with pytest.raises(UserError, match=re.escape(reason)):
        budget_from_environment()


def test_budget_is_read_from_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MINUTES_VARIABLE, "0.5")
    monkeypatch.delenv(EPOCHS_VARIABLE, raising=False)
    assert budget_from_environment() == Budget(minutes=0.5)
    monkeypatch.setenv(MINUTES_VARIABLE, "")
    monkeypatch.setenv(EPOCHS_VARIABLE, "12")
    assert budget_from_environment() == Budget(epochs=12)
    monkeypatch.setenv(EPOCHS_VARIABLE, "")
    monkeypatch.setenv(PATCHES_VARIABLE, "500")
    assert budget_from_environment() == Budget(patches=500)


def test_training_without_a_budget_is_refused_at_the_start(planned: Workspace) -> None:
    trainer = make("ProMISeTrainer_limited", planned, "Unlimited")
    with pytest.raises(UserError, match="none is set"):
        trainer.run_training()


# With a clock of our own: nnU-Net's loop without its work.


class Curves:
    """A logger that only counts how often it is asked to draw."""

    drawn = 0

    def plot_progress_png(self, output_folder: str) -> None:
        self.drawn += 1


class Clocked(limited.LimitedTraining):
    """Steps that only take time; the machine gets three times slower half way."""

    seconds_per_step = 1.0
    local_rank = 0
    output_folder = ""

    def __init__(self) -> None:
        self.logger = Curves()
        self.now = 0.0
        self.budget, self.is_ddp = Budget(minutes=10), False
        self.num_epochs, self.current_epoch = self.timed_epochs, 0
        self.steps: list[int] = []
        self.lines: list[str] = []

    def work(self) -> None:
        """What nnU-Net does in an epoch and at its end."""
        self.steps.append(self.num_iterations_per_epoch)
        slower = 3 if self.now > 300 else 1
        self.now += self.num_iterations_per_epoch * self.seconds_per_step * slower
        self.logger.plot_progress_png(self.output_folder)
        self.current_epoch += 1

    def print_to_log_file(self, *args: Any, **kwargs: Any) -> None:
        self.lines.append(str(args[0]))


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    trainer = Clocked()

    def loop(self: Any) -> None:
        self.on_train_start()
        for _ in range(self.current_epoch, self.num_epochs):
            self.on_epoch_start()
            self.on_epoch_end()
        self.on_train_end()

    monkeypatch.setattr(limited, "monotonic", lambda: trainer.now)
    monkeypatch.setattr(nnUNetTrainer, "run_training", loop)
    for hook in ("on_train_start", "on_epoch_start", "on_train_end"):
        monkeypatch.setattr(limited.RestartableTraining, hook, lambda self: None)
    monkeypatch.setattr(limited.RestartableTraining, "on_epoch_end", lambda self: self.work())
    return trainer


@pytest.mark.parametrize("seconds_per_step", [0.05, 0.5, 2.0])
def test_epochs_end_on_time_on_fast_and_slow_machines(clocked: Clocked, seconds_per_step: float) -> None:
    clocked.seconds_per_step = seconds_per_step
    clocked.run_training()
    assert clocked.now == pytest.approx(600, rel=0.05)
    assert len(clocked.steps) == 20
    assert clocked.steps[0] == 4
    assert clocked.lines == [f"Trained {clocked.now / 60:.2f} minutes of 10."]


@pytest.mark.parametrize(("budget", "drawn"), [({"minutes": 19.9}, 1), ({"minutes": 20}, 20), ({"epochs": 3}, 3)])
def test_curves_are_drawn_once_where_minutes_are_short(clocked: Clocked, budget: dict[str, Any], drawn: int) -> None:
    clocked.budget = Budget(**budget)
    clocked.num_epochs = budget.get("epochs", 20)
    clocked.num_iterations_per_epoch = 1
    clocked.run_training()
    assert len(clocked.steps) == clocked.num_epochs
    assert clocked.logger.drawn == drawn


@pytest.mark.parametrize(
    ("seconds_per_step", "steps", "seconds"),
    # Three times slower after 300 s: 4 * 60, 60, 60, 180 and 180 s; or the first epoch alone takes 4 * 200 s.
    [(60.0, [4, 1, 1, 1, 1], 720.0), (200.0, [4], 800.0)],
)
def test_no_epoch_starts_once_the_time_is_over(
    clocked: Clocked, seconds_per_step: float, steps: list[int], seconds: float
) -> None:
    clocked.seconds_per_step = seconds_per_step
    clocked.run_training()
    assert (clocked.steps, clocked.now) == (steps, seconds)
    assert clocked.lines[0].startswith(f"The time was over after {len(steps)} of 20 epochs")
    assert clocked.current_epoch == 20


def test_resumed_training_gets_its_remaining_share(clocked: Clocked) -> None:
    clocked.current_epoch = 15
    clocked.run_training()
    assert clocked.now == pytest.approx(600 * 5 / 20, rel=0.05)


def test_processes_take_the_first_ones_number_of_steps(clocked: Clocked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they would wait for each other forever."""
    asked: list[int] = []

    def broadcast(box: list[int], src: int) -> None:
        assert src == 0
        asked.append(box[0])
        box[0] = 7 if len(asked) < 3 else 0

    monkeypatch.setattr(limited.distributed, "broadcast_object_list", broadcast)
    clocked.is_ddp = True
    clocked.run_training()
    assert clocked.steps == [4, 7, 7]
    assert 0 not in asked


# With data.


def one_epoch(trainer: Any) -> None:
    """The body of nnU-Net's loop."""
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    steps = range(trainer.num_iterations_per_epoch)
    trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in steps])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        steps = range(trainer.num_val_iterations_per_epoch)
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val)) for _ in steps])
    trainer.on_epoch_end()


def rates(trainer: Any) -> list[float]:
    found = []
    for epoch in range(trainer.num_epochs):
        trainer.lr_scheduler.step(epoch)
        found.append(trainer.optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("name", SMALL)
def test_schedule_is_that_of_the_budgets_epochs(name: str, planned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EPOCHS_VARIABLE, "40")
    trainer = make(name, planned, "Schedule")
    trainer.initialize()
    start = trainer.initial_lr
    expected = {
        "nnUNetTrainer_limited": [start * (1 - epoch / 40) ** 0.9 for epoch in (0, 20, 39)],
        "ProMISeTrainer_limited": [start * (1 - epoch / 40) for epoch in (0, 20, 39)],
        "UXNet3DTrainer_limited": [start] * 3,
        # Two epochs of warm-up, then half a cosine over 38.
        "SwinUNETRTrainer_limited": [start / 3, start * 0.5413, start * 0.00171],
    }[name]
    found = rates(trainer)
    assert [found[0], found[20], found[39]] == pytest.approx(expected, rel=1e-2)


@FAMILIES
def test_epochs_are_counted_and_a_killed_training_goes_on_as_if_undisturbed(
    name: str, planned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EPOCHS_VARIABLE, "3")
    undisturbed = make(name, planned, "Undisturbed")
    own_steps = undisturbed.num_iterations_per_epoch
    undisturbed.run_training()
    assert undisturbed.current_epoch == 3
    if name != "ProMISeTrainer_limited":  # whose epochs are as long as the data
        assert undisturbed.num_iterations_per_epoch == own_steps == 2

    killed = make(name, planned, "Resumed")
    killed.on_train_start()
    one_epoch(killed)
    one_epoch(killed)
    resumed = make(name, planned, "Resumed")
    resumed.load_checkpoint(str(Path(killed.output_folder, "checkpoint_latest.pth")))
    assert resumed.current_epoch == 2
    resumed.run_training()
    records = [json.loads(Path(t.output_folder, "training_record.json").read_text()) for t in (undisturbed, resumed)]
    assert records[0] == records[1]
    assert len(records[0]["steps"]) == 3
    expected = undisturbed.network.state_dict()
    assert [k for k, value in resumed.network.state_dict().items() if not torch.equal(value, expected[k])] == []


@FAMILIES
def test_minutes_run_the_whole_schedule(name: str, planned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only training steps move: 0.1 minutes are 12 steps of half a second."""
    now = 0.0
    steps = [0] * 5

    def timed_step(self: Any, batch: dict[str, Any]) -> Any:
        nonlocal now
        now += 0.5
        steps[self.current_epoch] += 1
        return super(type(self), self).train_step(batch)

    monkeypatch.setattr(limited, "monotonic", lambda: now)
    monkeypatch.setenv(MINUTES_VARIABLE, "0.1")
    trainer = make(name, planned, "Minutes", timed_epochs=5, train_step=timed_step)
    trainer.run_training()
    assert steps == [4, 2, 2, 2, 2]
    log = Path(trainer.log_file).read_text()
    assert "Trained 0.10 minutes of 0.1." in log
    found = [float(rate) for rate in re.findall(r"Current learning rate: (\S+)", log)]
    assert len(found) == 5
    assert found == sorted(found, reverse=True)
    assert trainer.num_val_iterations_per_epoch == 1
    assert Path(trainer.output_folder, "progress.png").is_file()


@FAMILIES
def test_every_family_sees_the_patches_of_the_budget(
    name: str, planned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch is a number of patches for one and another for the other; a budget in patches is the same for all."""
    monkeypatch.setenv(PATCHES_VARIABLE, "13")
    trainer = make(name, planned, "Patches", timed_epochs=4)
    trainer.run_training()
    record = json.loads(Path(trainer.output_folder, "training_record.json").read_text())
    assert len(record["steps"]) == 4
    assert max(record["steps"]) - min(record["steps"]) <= 1
    assert 13 <= sum(record["steps"]) * record["batch_size"] < 13 + record["batch_size"]
    splits = json.loads((planned.preprocessed / "splits_final.json").read_text())
    assert (record["train"], record["validation"]) == (sorted(splits[0]["train"]), sorted(splits[0]["val"]))
    assert record["start"] == "random weights"


def test_training_that_ran_out_of_time_is_finished_and_stays_so(
    planned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MINUTES_VARIABLE, "0.0001")
    trainer = make("nnUNetTrainer_limited", planned, "Late")
    trainer.run_training()
    final = Path(trainer.output_folder, "checkpoint_final.pth")
    before = torch.load(final, weights_only=False)
    assert before["current_epoch"] == 20
    again = make("nnUNetTrainer_limited", planned, "Late")
    again.load_checkpoint(str(final))
    again.run_training()
    after = torch.load(final, weights_only=False)
    assert all(torch.equal(value, after["network_weights"][key]) for key, value in before["network_weights"].items())


def test_command_trains_and_validates_within_the_budget(workspace: Workspace) -> None:
    done = workspace.run(
        "nnUNetv2_train", DATASET_ID, "3d_fullres", "0", "-tr", "ProMISeTrainer_limited", "-p", PLANS, "-device", "cpu",
        nnUNet_promise_epochs="2",
    )  # fmt: skip
    assert re.findall(r"Epoch (\d+)\b", done.stdout.replace("Epoch time", "")) == ["0", "1"]
    fold = workspace.model("ProMISeTrainer_limited") / "fold_0"
    assert json.loads((fold / "run.json").read_text())["epochs"] == 2
    assert (fold / "validation" / "summary.json").is_file()
