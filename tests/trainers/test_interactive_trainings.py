"""The trainers that correct: two processes together, and one that is killed and resumed."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from clickable_workspace import CLICKABLE_PLANS
from commands import DATASET, PLANS, Workspace
from short_trainings import FOLDERS, make_trainer, train_together, train_until_killed

from nnunetv2_promise.network_architectures.weights.weight_files import read_weight_file

TRAININGS = [
    pytest.param("ProMISeInteractiveTrainer_Short", PLANS, "corrections.json", id="ProMISe"),
    pytest.param("InteractiveUNetTrainer_Short", CLICKABLE_PLANS, "clicks.json", id="UNet"),
]

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(clickable_plans: Workspace, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """nnU-Net's folders, for this process and those that it starts."""
    values = {name: clickable_plans.environment()[name] for name in FOLDERS}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def fold_of(environment: dict[str, str], name: str, plans: str) -> Path:
    return Path(environment["nnUNet_results"], DATASET, f"{name}__{plans}__3d_fullres", "fold_0")


@pytest.mark.parametrize(("name", "plans", "scores"), TRAININGS)
def test_killed_and_resumed_training_equals_an_undisturbed_one(
    environment: dict[str, str], name: str, plans: str, scores: str
) -> None:
    fold = fold_of(environment, name, plans)
    make_trainer(name, plans).run_training()
    undisturbed = read_weight_file(fold / "checkpoint_final.pth")["network_weights"]
    (fold / "checkpoint_final.pth").unlink()
    process = multiprocessing.get_context("spawn").Process(
        target=train_until_killed, args=(name, plans, environment, 8)
    )  # in the third of three epochs with three steps
    process.start()
    process.join()
    assert process.exitcode == -9
    assert not (fold / "checkpoint_final.pth").exists()
    assert read_weight_file(fold / "checkpoint_latest.pth")["current_epoch"] == 2
    resumed = make_trainer(name, plans, resume=True)
    resumed.run_training()
    assert resumed.steps == 3
    found = read_weight_file(fold / "checkpoint_final.pth")["network_weights"]
    assert found.keys() == undisturbed.keys()
    assert [key for key in found if not torch.equal(found[key], undisturbed[key])] == []


@pytest.mark.parametrize(("name", "plans", "scores"), TRAININGS)
def test_two_processes_train_and_validate_together(
    environment: dict[str, str], name: str, plans: str, scores: str
) -> None:
    from nnunetv2.run.run_training import find_free_network_port

    arguments = (name, plans, environment, find_free_network_port())
    torch.multiprocessing.spawn(train_together, arguments, nprocs=2)
    found = json.loads((fold_of(environment, name, plans) / "validation" / scores).read_text())
    split = json.loads(Path(environment["nnUNet_preprocessed"], DATASET, "splits_final.json").read_text())[0]
    assert {row["case"] for row in found["objects"]} == set(split["val"])
    assert not set(split["val"]) & set(split["train"])
