"""What a clickable U-Net of a benchmark starts from: its budget, its cases, its layers, and that nobody changes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.leakage import check_model
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training, load_settings, save_settings, with_earlier
from nnunetv2_promise.benchmark.start import check_architectures
from nnunetv2_promise.benchmark.units import unit_steps
from nnunetv2_promise.errors import UserError

DATASET = "Dataset009_Small"
UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
OURS = "nnunetv2_promise.network_architectures.InteractiveUNet"
STARTED = Method(
    "InteractiveUNetTrainer",
    "Clickable",
    "InteractiveUNetTrainer_limited",
    prompted=True,
    engine=True,
    start="nnUNetTrainer:Plain",
)


@pytest.fixture
def layout(split_only: Path) -> BenchmarkLayout:
    """A benchmark of a clickable U-Net in 9 minutes, whose dataset has a split and no images."""
    return BenchmarkLayout(split_only / "out", BenchmarkSettings(9, (STARTED,), (0,), minutes=9.0, device="cpu"))


def note(folder: Path, train: list[str], validation: list[str], *checkpoints: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_record.json").write_text(json.dumps({"train": train, "validation": validation}))
    for kind in checkpoints:
        (folder / f"checkpoint_{kind}.pth").touch()


def test_the_start_has_half_of_the_budget_and_a_folder_of_its_own(layout: BenchmarkLayout) -> None:
    start, train = unit_steps(layout, STARTED, Training(0, 1))[:2]
    own = layout.root / "units" / "InteractiveUNetTrainer__Clickable" / "fold_0_seed_1" / "start"
    assert start.environment == {"nnUNet_results": str(own), "nnUNet_promise_minutes": "4.5"}
    command = "nnUNetv2_train 9 3d_fullres 0 -tr nnUNetTrainer_limited -p Plain -device cpu"
    assert start.line == f"env nnUNet_results={own} nnUNet_promise_minutes=4.5 {command}"
    weights = own / DATASET / "nnUNetTrainer_limited__Plain__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    assert train.command[-2:] == ("-pretrained_weights", str(weights))
    assert train.environment == {"nnUNet_promise_minutes": "4.5"}


def test_a_training_that_has_begun_is_resumed_and_not_started_from_weights(layout: BenchmarkLayout) -> None:
    training = Training(0)
    note(layout.start_fold(STARTED, training), ["a", "b"], ["c"], "final")
    note(layout.model_fold(STARTED, training), ["a", "b"], ["c"], "latest")
    start, train = unit_steps(layout, STARTED, training)[:2]
    assert start.already is not None
    assert start.already()
    assert train.resumable()
    assert "-pretrained_weights" not in train.command


def test_a_training_within_a_budget_is_not_validated_by_itself(layout: BenchmarkLayout) -> None:
    """The benchmark predicts the held-out cases; without a budget the models are the user's, as nnU-Net leaves them."""
    training, whole = Training(0), BenchmarkLayout(layout.root, replace(layout.settings, minutes=None))
    method = replace(STARTED, start=None, runs=STARTED.trainer)
    assert layout.environment()["nnUNet_promise_final_validation"] == "0"
    assert "nnUNet_promise_final_validation" not in whole.environment()
    for each, done in ((layout, True), (whole, False)):
        fold = each.model_fold(method, training)
        note(fold, ["a", "b"], ["c"], "final")
        train = unit_steps(each, method, training)[0]
        assert train.already is not None
        assert train.already() is done
    (fold / "validation").mkdir()
    (fold / "validation" / "summary.json").touch()
    assert train.already()


def test_a_start_that_has_begun_is_resumed(layout: BenchmarkLayout) -> None:
    training = Training(0)
    assert not unit_steps(layout, STARTED, training)[0].resumable()
    note(layout.start_fold(STARTED, training), ["a", "b"], ["c"], "best")
    start = unit_steps(layout, STARTED, training)[0]
    assert start.already is not None
    assert not start.already()
    assert start.resumable()


def test_a_start_that_has_seen_a_scored_case_is_refused(layout: BenchmarkLayout) -> None:
    training = Training(0)
    note(layout.model_fold(STARTED, training), ["a", "b"], ["c"], "final")
    note(layout.start_fold(STARTED, training), ["a", "c"], ["b"], "best")
    with pytest.raises(UserError, match=r"start.*it has seen case 'c', which would be scored"):
        check_model(layout, STARTED, training)
    with pytest.raises(UserError, match="it has seen case 'c'"):
        unit_steps(layout, STARTED, training)[0].resumable()
    note(layout.start_fold(STARTED, training), ["a", "b"], ["c"], "best")
    check_model(layout, STARTED, training)


@pytest.mark.parametrize(
    ("budget", "halves"),
    [
        ({"minutes": 5.0}, ({"minutes": 2.5}, {"minutes": 2.5})),
        ({"patches": 7}, ({"patches": 3}, {"patches": 4})),
        ({"epochs": 2}, ({"epochs": 1}, {"epochs": 1})),
    ],
)
def test_budgets_are_halved(budget: dict[str, float], halves: tuple[dict[str, float], dict[str, float]]) -> None:
    assert BenchmarkSettings(9, (STARTED,), (0,), **budget).half_budgets() == halves


@pytest.mark.parametrize("name", ["patches", "epochs"])
def test_one_patch_or_epoch_cannot_be_shared(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} 1 cannot be shared"):
        BenchmarkSettings(9, (STARTED,), (0,), **{name: 1}).half_budgets()


def test_a_method_keeps_its_start_in_a_benchmark(layout: BenchmarkLayout) -> None:
    layout.root.mkdir()
    save_settings(layout.settings, layout.root)
    assert load_settings(layout.root) == layout.settings
    other = Method("nnUNetTrainer", "Plain", "nnUNetTrainer_limited", prompted=False)
    added = with_earlier(replace(layout.settings, methods=(other,)), layout.root, reference_named=False)
    assert added.methods == (STARTED, other)
    for start, words in ((None, "now it starts without --start_from"), ("nnUNetTrainer:X", "now it starts from")):
        changed = replace(layout.settings, methods=(replace(STARTED, start=start),))
        with pytest.raises(UserError, match=f"InteractiveUNetTrainer starting from nnUNetTrainer:Plain, {words}"):
            with_earlier(changed, layout.root, reference_named=False)


def plans(name: str, **arguments: Any) -> dict[str, Any]:
    architecture = {"network_class_name": name, "arch_kwargs": {"n_stages": 4, **arguments}}
    return {"configurations": {"3d_fullres": {"architecture": architecture, "interactive": {}}}}


CLICKABLE = {"unet": UNET, "image_channels": 1, "labels": 2, "prompts": "decoder"}


@pytest.mark.parametrize(
    ("own", "start", "sentence"),
    [
        (plans(OURS, **CLICKABLE), plans(UNET), None),
        (plans(OURS, **CLICKABLE), plans(OURS, **CLICKABLE), None),
        (plans(OURS, **CLICKABLE), plans(UNET, n_stages=5), "plan different networks"),
        (plans(OURS, **CLICKABLE), plans(UNET.replace("PlainConv", "ResidualEncoder")), "plan different networks"),
        (plans(OURS, **CLICKABLE | {"prompts": "input"}), plans(UNET), "put interactions beside the image"),
    ],
)
def test_a_start_has_to_have_the_layers_of_the_unet(
    layout: BenchmarkLayout, own: dict[str, Any], start: dict[str, Any], sentence: str | None
) -> None:
    for name, content in (("Clickable", own), ("Plain", start)):
        (layout.preprocessed / f"{name}.json").write_text(json.dumps(content))
    if sentence is None:
        check_architectures(layout)
        return
    with pytest.raises(UserError, match=f"--start_from nnUNetTrainer:Plain: .*{sentence}"):
        check_architectures(layout)
