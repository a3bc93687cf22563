"""A unit of work: one training of one method, from training to scores. Units do not depend on each other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nnunetv2_promise.benchmark.conditions import Condition
from nnunetv2_promise.benchmark.fingerprints import digest, digest_of, versions
from nnunetv2_promise.benchmark.inputs import conditions
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.leakage import check_model
from nnunetv2_promise.benchmark.measure import prefix
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.nearest import restrict_to_clicks
from nnunetv2_promise.benchmark.scores_of_clicks import write_object_scores
from nnunetv2_promise.benchmark.scoring import kind_of, prompts_of, write_condition_scores
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training, load_settings
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import locked, read_json
from nnunetv2_promise.images.folders import ENDINGS, find_volumes
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.steps import Step, run_steps
from nnunetv2_promise.training.records import TRAINING_RECORD

NO_CLICKS = "none"


def units(settings: BenchmarkSettings) -> list[tuple[str, str]]:
    """Method key and training of every unit; all methods of a training come before the next training."""
    return [
        (method.key, str(training))
        for training in settings.trainings
        for method in settings.methods
        if method.masks is None or not training.seed
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
    steps = [] if method.masks else [_train(layout, method, training)]
    if method.prompted:
        for condition in conditions(layout):
            steps.append(_predict_clicks(layout, method, training, condition))
            steps += _score(layout, method, training, condition.name)
        return steps
    steps += [] if method.masks else [_predict(layout, method, training)]
    steps += _score(layout, method, training, NO_CLICKS)
    for condition in conditions(layout):
        if condition.name.startswith("clicks_"):
            steps.append(_restrict(layout, method, training, condition))
            steps += _score(layout, method, training, nearest(condition))
    return steps


def scored_conditions(layout: BenchmarkLayout, method: Method) -> list[str]:
    """The conditions that a method is scored under."""
    ways = conditions(layout)
    if method.prompted:
        return [condition.name for condition in ways]
    return [NO_CLICKS, *(nearest(condition) for condition in ways if condition.name.startswith("clicks_"))]


def nearest(condition: Condition) -> str:
    """The condition of an unprompted method's masks that were cut down by clicks."""
    return f"nearest_{condition.points}"


def _model(layout: BenchmarkLayout, method: Method) -> tuple[str, ...]:
    settings = layout.settings
    return ("-d", str(settings.dataset_id), "-c", settings.configuration, "-tr", method.runs, "-p", method.plans)


def _train(layout: BenchmarkLayout, method: Method, training: Training) -> Step:
    settings, folder = layout.settings, layout.model_fold(method, training)
    train = ("nnUNetv2_train", str(settings.dataset_id), settings.configuration, str(training.fold))

    def begun() -> bool:
        checkpoints = [folder / f"checkpoint_{kind}.pth" for kind in ("final", "latest", "best")]
        if not any(file.is_file() for file in checkpoints):
            return False
        if (folder / TRAINING_RECORD).is_file():
            check_model(layout, method, training)
        return True

    def finished() -> bool:
        if not ((folder / "checkpoint_final.pth").is_file() and (folder / "validation/summary.json").is_file()):
            return False
        check_model(layout, method, training)
        return True

    return Step(
        "train",
        "Train",
        (*train, "-tr", method.runs, "-p", method.plans, "-device", settings.device),
        resume=("--c",),
        resumable=begun,
        already=finished,
        needs=(),
        prefix=prefix(layout.training_cost(method, training)),
    )


def _predict(layout: BenchmarkLayout, method: Method, training: Training) -> Step:
    masks, processes = layout.predictions(method, training, NO_CLICKS), str(layout.settings.processes)
    options = ("-f", str(training.fold), "-device", layout.settings.device, "-npp", processes, "-nps", processes)
    images = layout.images(training.fold)
    return Step(
        f"predict_{NO_CLICKS}",
        "Predict",
        ("nnUNetv2_predict", "-i", str(images), "-o", str(masks), *_model(layout, method), *options),
        resume=("--continue_prediction",),
        resumable=lambda: _keep_complete_masks(masks),
        needs=(),
        made_from=lambda: _prediction_inputs(layout, method, training, None),
        prefix=prefix(masks.with_name(f"{NO_CLICKS}_cost.json")),
    )


def _predict_clicks(layout: BenchmarkLayout, method: Method, training: Training, condition: Condition) -> Step:
    masks = layout.predictions(method, training, condition.name)
    prompts = layout.prompts(training.fold, condition.name)
    options = ("-f", str(training.fold), "-device", layout.settings.device, "-np", str(layout.settings.processes))
    files = ("-i", str(layout.images(training.fold)), "-o", str(masks), "--prompts", str(prompts))
    return Step(
        f"predict_{condition.name}",
        f"Predict ({condition.name})",
        ("nnUNetv2_promise_predict", *files, *_model(layout, method), *options),
        resume=("--continue_prediction",),
        resumable=lambda: _keep_complete_masks(masks),
        needs=(),
        made_from=lambda: _prediction_inputs(layout, method, training, prompts),
        prefix=prefix(masks.with_name(f"{condition.name}_cost.json")),
    )


def _prediction_inputs(
    layout: BenchmarkLayout, method: Method, training: Training, prompts: Path | None
) -> dict[str, Any]:
    """What a prediction is made from: the model, images, clicks and versions."""
    folder = layout.model(method, training.seed)
    return {
        "checkpoint": digest(layout.model_fold(method, training) / "checkpoint_final.pth"),
        "plans": digest(folder / "plans.json"),
        "images": digest_of(layout.images(training.fold).iterdir()),
        "prompts": None if prompts is None else digest(prompts),
        "versions": versions(),
    }


def _restrict(layout: BenchmarkLayout, method: Method, training: Training, condition: Condition) -> Step:
    source = layout.predictions(method, training, NO_CLICKS)
    target = layout.predictions(method, training, nearest(condition))
    prompts, processes = layout.prompts(training.fold, condition.name), layout.settings.processes
    module = (sys.executable, "-m", "nnunetv2_promise.benchmark.nearest")
    return Step(
        nearest(condition),
        "Keep the components nearest to the clicks",
        (*module, str(source), str(prompts), str(target), str(layout.dataset_json)),
        action=lambda: restrict_to_clicks(
            source, prompts, target, dataset_json=layout.dataset_json, num_processes=processes
        ),
        needs=(),
        made_from=lambda: {
            "masks": _digest_of_masks(layout, method, training, NO_CLICKS),
            "prompts": digest(prompts),
            "versions": versions(),
        },
    )


def _score(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> list[Step]:
    masks, truths = layout.predictions(method, training, condition), layout.truths(training.fold)
    options = ("--tolerance", f"{layout.settings.tolerance_mm:g}", "--dataset_json", str(layout.dataset_json))
    cases = ("--cases", *_cases(layout, training)) if method.masks else ()

    def score() -> None:
        if method.masks is None:
            check_model(layout, method, training)
        write_condition_scores(layout, method, training, condition)
        if kind_of(condition)[0] in ("clicks", "nearest"):
            write_object_scores(layout, method, training, condition)

    def inputs() -> dict[str, Any]:
        prompts = prompts_of(layout, training.fold, condition)
        return {
            "masks": _digest_of_masks(layout, method, training, condition),
            "truths": digest_of(truths.iterdir()),
            "prompts": None if prompts is None else digest(prompts),
            "tolerance_mm": layout.settings.tolerance_mm,
            "versions": versions(),
        }

    return [
        Step(
            f"score_{condition}",
            f"Score ({condition})",
            ("nnUNetv2_promise_evaluate", "-p", str(masks), "-l", str(truths), *options, *cases),
            action=score,
            needs=(),
            made_from=inputs,
        )
    ]


def _cases(layout: BenchmarkLayout, training: Training) -> list[str]:
    listing = layout.images(training.fold).parent / "cases.json"
    return read_json(listing) if listing.is_file() else []


def _digest_of_masks(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> str:
    folder, cases = layout.predictions(method, training, condition), set(_cases(layout, training))
    masks = find_volumes(folder, what="predictions")
    return digest_of(path for case, path in masks.items() if case in cases)


def _keep_complete_masks(folder: Path) -> bool:
    """Remove masks that an interruption cut off; whether there is anything to resume from."""
    if not folder.is_dir():
        return False
    for path in folder.iterdir():
        if path.name.endswith(ENDINGS):
            try:
                check_stored_voxels(path)
            except UserError:
                path.unlink()
    return True


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201
