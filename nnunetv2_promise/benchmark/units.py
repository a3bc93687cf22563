"""A unit of work: one training of one method, from training to scores. Units do not depend on each other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nnunetv2_promise.benchmark.fingerprints import digest, digest_of, versions
from nnunetv2_promise.benchmark.inputs import conditions
from nnunetv2_promise.benchmark.layout import BenchmarkLayout, budget_variables
from nnunetv2_promise.benchmark.leakage import check_model
from nnunetv2_promise.benchmark.measure import prefix
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.predicting import (
    NO_CLICKS,
    crop,
    digest_of_masks,
    nearest,
    predict,
    predict_clicks,
    predict_crops,
    prediction_inputs,
    restrict,
)
from nnunetv2_promise.benchmark.scoring import prompts_of
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training, load_settings
from nnunetv2_promise.benchmark.start import has_checkpoint, start_step
from nnunetv2_promise.benchmark.unit_scores import score_unit
from nnunetv2_promise.files import locked
from nnunetv2_promise.steps import Step, run_steps
from nnunetv2_promise.training.records import TRAINING_RECORD


def units(settings: BenchmarkSettings) -> list[tuple[str, str]]:
    """Method key and training of every unit; all methods of a training come before the next training."""
    return [
        (method.key, str(training))
        for training in settings.trainings
        for method in settings.methods
        if method.trained or not training.seed
    ]


def run_unit(
    root: Path,
    trainer: str,
    training: str,
    *,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Do what is not done yet of one unit.

    Args:
        root: The benchmark's folder.
        trainer: Key of the method.
        training: The training, as ``str`` writes it.
        environment: Variables for the commands beside the benchmark's own, such as the GPU to use.
        say: Prints one line; ``print`` if None.

    Raises:
        UserError: If a step fails, or another process works on this unit.
    """
    layout = BenchmarkLayout(root, load_settings(root))
    method, which = layout.settings.method(trainer), Training.parse(training)
    folder = layout.unit(method, which)
    with locked(folder / "unit.lock", wait_seconds=5, doing=f"working on {trainer}, fold {training}"):
        run_steps(
            unit_steps(layout, method, which),
            folder,
            {**layout.environment(which.seed), **(environment or {})},
            say or _print,
            echo=False,
        )


def unit_steps(layout: BenchmarkLayout, method: Method, training: Training) -> list[Step]:
    """Train, predict under every condition, score."""
    steps = [start_step(layout, method, training)] if method.origin else []
    steps += [_train(layout, method, training)] if method.trained else []
    if method.prompted:
        for condition in conditions(layout):
            steps.append(predict_clicks(layout, method, training, condition))
            steps.append(_score(layout, method, training, condition.name))
        return steps + _correct(layout, method, training)
    steps += [] if method.masks else [predict(layout, method, training)]
    steps.append(_score(layout, method, training, NO_CLICKS))
    for condition in conditions(layout):
        if condition.name.startswith("clicks_"):
            steps.append(restrict(layout, method, training, condition))
            steps.append(_score(layout, method, training, nearest(condition)))
            if layout.settings.crop and method.trained:
                steps.append(predict_crops(layout, method, training, condition))
                steps.append(_score(layout, method, training, crop(condition)))
    return steps + _correct(layout, method, training)


def scored_conditions(layout: BenchmarkLayout, method: Method) -> list[str]:
    """The conditions that a method is scored under."""
    ways = conditions(layout)
    if method.prompted:
        return [condition.name for condition in ways]
    clicked = [condition for condition in ways if condition.name.startswith("clicks_")]
    crops = clicked if layout.settings.crop and method.trained else []
    return [NO_CLICKS, *map(nearest, clicked), *map(crop, crops)]


def _train(layout: BenchmarkLayout, method: Method, training: Training) -> Step:
    settings, folder = layout.settings, layout.model_fold(method, training)
    train = ("nnUNetv2_train", str(settings.dataset_id), settings.configuration, str(training.fold))
    options: tuple[str, ...] = ("-tr", method.runs, "-p", method.plans, "-device", settings.device)
    budget: dict[str, str] = {}
    if method.origin is not None:
        budget = budget_variables(settings.half_budgets()[1])
        if not has_checkpoint(folder):  # nnU-Net resumes a training or starts it from weights
            options += ("-pretrained_weights", str(layout.start_fold(method, training) / "checkpoint_final.pth"))

    def begun() -> bool:
        if not has_checkpoint(folder):
            return False
        if (folder / TRAINING_RECORD).is_file():
            check_model(layout, method, training)
        return True

    def finished() -> bool:
        # A clickable U-Net without an automatic mask is validated by clicks alone; under a budget nothing is.
        validated = any((folder / "validation" / name).is_file() for name in ("summary.json", "clicks.json"))
        if not ((folder / "checkpoint_final.pth").is_file() and (validated or settings.limited)):
            return False
        check_model(layout, method, training)
        return True

    return Step(
        "train",
        "Train",
        (*train, *options),
        resume=("--c",),
        resumable=begun,
        already=finished,
        needs=(),
        prefix=prefix(layout.training_cost(method, training)),
        environment=budget,
    )


def _score(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> Step:
    truths, settings = layout.truths(training.fold), layout.settings
    module = (sys.executable, "-m", "nnunetv2_promise.benchmark.unit_scores")
    unit = (layout.root, method.key, str(training), condition)

    def inputs() -> dict[str, Any]:
        prompts = prompts_of(layout, training.fold, condition)
        return {
            "masks": digest_of_masks(layout, method, training, condition),
            "truths": digest_of(truths.iterdir()),
            "prompts": None if prompts is None else digest(prompts),
            "tolerance_mm": settings.tolerance_mm,
            **({"label_tolerances_mm": dict(own)} if (own := settings.label_tolerances_mm) else {}),
            "versions": versions(),
        }

    return Step(
        f"score_{condition}",
        f"Score ({condition})",
        (*module, *map(str, unit)),
        # Units side by side are threads, which would wait for each other; a single one saves the start of a process.
        action=(lambda: score_unit(*unit)) if settings.jobs == 1 else None,
        needs=(),
        made_from=inputs,
    )


def _correct(layout: BenchmarkLayout, method: Method, training: Training) -> list[Step]:
    """Click on errors by the field's protocol, where the benchmark asks for it."""
    settings, folder = layout.settings, layout.corrections(method, training)
    if not settings.corrections:
        return []
    module = (sys.executable, "-m", "nnunetv2_promise.benchmark.unit_corrections")

    def inputs() -> dict[str, Any]:
        if method.prompted:
            made = prediction_inputs(layout, method, training, None)
        else:
            made = {"masks": digest_of_masks(layout, method, training, NO_CLICKS)}
        return {
            **made,
            "truths": digest_of(layout.truths(training.fold).iterdir()),
            "clicks": settings.corrections,
            "jitter_mm": settings.jitter_mm,
            "seed": settings.seed,
            "per": settings.per,
            "tolerances_mm": [settings.tolerance_mm, dict(settings.label_tolerances_mm)],
            "versions": versions(),
        }

    step = Step(
        "corrections",
        f"Correct by {settings.corrections} clicks",
        (*module, str(layout.root), method.key, str(training)),
        resume=("--resume",),
        resumable=folder.is_dir,
        needs=(),
        made_from=inputs,
    )
    return [step]


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201
