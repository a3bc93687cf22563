"""Which commands predict: every method is mirrored, or none is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nnunetv2_promise.benchmark import crops, unit_corrections
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training
from nnunetv2_promise.benchmark.units import unit_steps
from nnunetv2_promise.inference import clickables

UNPROMPTED = Method("nnUNetTrainer", "Plans", "nnUNetTrainer", prompted=False)
PROMISE = Method("ProMISeTrainer", "Plans", "ProMISeTrainer", prompted=True)
ENGINE = Method("InteractiveUNetTrainer", "Plans", "InteractiveUNetTrainer", prompted=True, engine=True)


@pytest.fixture
def layout(split_only: Path) -> BenchmarkLayout:
    """Three methods with crops, on a dataset that has a split and no images."""
    methods = (UNPROMPTED, PROMISE, ENGINE)
    return BenchmarkLayout(split_only / "out", BenchmarkSettings(9, methods, (0,), crop=True, device="cpu"))


@pytest.mark.parametrize("disable_tta", [False, True])
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (UNPROMPTED, {"predict_none", "crop_1"}),
        (PROMISE, {"predict_clicks_1"}),
        (ENGINE, set()),  # nnInteractive's engine never mirrors and knows no such option
    ],
)
def test_every_command_that_mirrors_is_told_not_to(
    method: Method, expected: set[str], disable_tta: bool, layout: BenchmarkLayout
) -> None:
    chosen = BenchmarkLayout(layout.root, replace(layout.settings, disable_tta=disable_tta))
    told = {step.name for step in unit_steps(chosen, method, Training(0)) if "--disable_tta" in step.command}
    assert told == (expected if disable_tta else set())


@pytest.mark.parametrize("options", [[], ["--disable_tta"], ["--disable_tta", "--resume"]])
def test_crops_are_mirrored_unless_that_is_disabled(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    class _Predictor:
        def __init__(self, *, use_mirroring: bool, **_: object) -> None:
            asked.append(use_mirroring)

        def initialize_from_trained_model_folder(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(crops, "nnUNetPredictor", _Predictor)
    with pytest.raises(KeyboardInterrupt):
        crops.main([*map(str, (tmp_path / "fold_0", tmp_path, tmp_path / "prompts.json", tmp_path)), "cpu", *options])
    assert asked == [not options]


@pytest.mark.parametrize("disable_tta", [False, True])
def test_corrections_of_a_model_that_segments_afresh_are_mirrored_unless_that_is_disabled(
    disable_tta: bool, layout: BenchmarkLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Any = SimpleNamespace(check_checkpoints=lambda: None, prompt_kinds=lambda: {"points"}, plans={})
    loaded: list[bool] = []
    monkeypatch.setattr(clickables, "open_model_folder", lambda *_, **__: folder)
    monkeypatch.setattr(clickables, "PlansManager", lambda _: SimpleNamespace(image_reader_writer_class=object))
    monkeypatch.setattr(clickables.PromptedModel, "load", lambda *_, use_mirroring: loaded.append(use_mirroring))
    for name in ("find_cases", "read_json"):
        monkeypatch.setattr(unit_corrections, name, lambda *_: {})
    chosen = BenchmarkLayout(layout.root, replace(layout.settings, disable_tta=disable_tta))
    unit_corrections._Opener(chosen, PROMISE, Training(0))
    assert loaded == [not disable_tta]
