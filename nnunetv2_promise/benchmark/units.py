"""A unit of work: one method on one fold, from training to scores. Units do not depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nnunetv2_promise.benchmark.conditions import Condition
from nnunetv2_promise.benchmark.inputs import conditions
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.measure import prefix
from nnunetv2_promise.benchmark.nearest import restrict_to_clicks
from nnunetv2_promise.benchmark.scoring import write_condition_scores
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Method, load_settings
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import locked
from nnunetv2_promise.images.folders import ENDINGS
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.steps import Step, run_steps

NO_CLICKS = "none"


def units(settings: BenchmarkSettings) -> list[tuple[str, str]]:
    """Method key and fold of every unit; all methods of a fold come before the next fold."""
    return [(method.key, str(fold)) for fold in settings.folds for method in settings.methods]


def run_unit(
    root: Path,
    trainer: str,
    fold: str,
    *,
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Do what is not done yet of one unit.

    Args:
        root: The benchmark's folder.
        trainer: Key of the method.
        fold: Number of the fold.
        environment: Variables for the commands beside the benchmark's own, such as the GPU to use.
        say: Prints one line; ``print`` if None.

    Raises:
        UserError: If a step fails, or another process works on this unit.
    """
    layout = BenchmarkLayout(root, load_settings(root))
    method = layout.settings.method(trainer)
    folder = layout.unit(method, int(fold))
    with locked(folder / "unit.lock", wait_seconds=5, doing=f"working on {trainer}, fold {fold}"):
        run_steps(
            unit_steps(layout, method, int(fold)),
            folder,
            {**layout.environment(), **(environment or {})},
            say or _print,
            echo=False,
        )


def unit_steps(layout: BenchmarkLayout, method: Method, fold: int) -> list[Step]:
    """Train, predict under every condition, score."""
    steps = [_train(layout, method, fold)]
    if method.prompted:
        for condition in conditions(layout):
            steps += [_predict_clicks(layout, method, fold, condition), _score(layout, method, fold, condition.name)]
        return steps
    steps += [_predict(layout, method, fold), _score(layout, method, fold, NO_CLICKS)]
    for condition in conditions(layout):
        if condition.name.startswith("clicks_"):
            steps += [_restrict(layout, method, fold, condition), _score(layout, method, fold, nearest(condition))]
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


def _train(layout: BenchmarkLayout, method: Method, fold: int) -> Step:
    settings, folder = layout.settings, layout.model(method) / f"fold_{fold}"
    train = ("nnUNetv2_train", str(settings.dataset_id), settings.configuration, str(fold))
    return Step(
        "train",
        "Train",
        (*train, "-tr", method.runs, "-p", method.plans, "-device", settings.device),
        resume=("--c",),
        resumable=lambda: any((folder / f"checkpoint_{kind}.pth").is_file() for kind in ("final", "latest", "best")),
        already=lambda: (folder / "checkpoint_final.pth").is_file() and (folder / "validation/summary.json").is_file(),
        prefix=prefix(layout.training_cost(method, fold)),
    )


def _predict(layout: BenchmarkLayout, method: Method, fold: int) -> Step:
    masks, processes = layout.predictions(method, fold, NO_CLICKS), str(layout.settings.processes)
    options = ("-f", str(fold), "-device", layout.settings.device, "-npp", processes, "-nps", processes)
    return Step(
        f"predict_{NO_CLICKS}",
        "Predict",
        ("nnUNetv2_predict", "-i", str(layout.images(fold)), "-o", str(masks), *_model(layout, method), *options),
        resume=("--continue_prediction",),
        resumable=lambda: _keep_complete_masks(masks),
        needs=("train",),
        prefix=prefix(masks.with_name(f"{NO_CLICKS}_cost.json")),
    )


def _predict_clicks(layout: BenchmarkLayout, method: Method, fold: int, condition: Condition) -> Step:
    masks, prompts = layout.predictions(method, fold, condition.name), layout.prompts(fold, condition.name)
    options = ("-f", str(fold), "-device", layout.settings.device, "-np", str(layout.settings.processes))
    files = ("-i", str(layout.images(fold)), "-o", str(masks), "--prompts", str(prompts))
    return Step(
        f"predict_{condition.name}",
        f"Predict ({condition.name})",
        ("nnUNetv2_promise_predict", *files, *_model(layout, method), *options),
        needs=("train",),
        prefix=prefix(masks.with_name(f"{condition.name}_cost.json")),
    )


def _restrict(layout: BenchmarkLayout, method: Method, fold: int, condition: Condition) -> Step:
    source = layout.predictions(method, fold, NO_CLICKS)
    target, prompts = layout.predictions(method, fold, nearest(condition)), layout.prompts(fold, condition.name)

    def restrict() -> None:
        restrict_to_clicks(
            source, prompts, target, dataset_json=layout.dataset_json, num_processes=layout.settings.processes
        )

    return Step(
        nearest(condition),
        "Keep the components nearest to the clicks",
        ("#", "keep the components nearest to the clicks of", str(prompts)),
        action=restrict,
        needs=(f"predict_{NO_CLICKS}",),
    )


def _score(layout: BenchmarkLayout, method: Method, fold: int, condition: str) -> Step:
    made_by = condition if condition.startswith("nearest_") else f"predict_{condition}"
    masks, truths = layout.predictions(method, fold, condition), layout.truths(fold)
    options = ("--tolerance", f"{layout.settings.tolerance_mm:g}", "--dataset_json", str(layout.dataset_json))
    return Step(
        f"score_{condition}",
        f"Score ({condition})",
        ("nnUNetv2_promise_evaluate", "-p", str(masks), "-l", str(truths), *options),
        action=lambda: write_condition_scores(layout, method, fold, condition),
        needs=(made_by,),
    )


def _keep_complete_masks(folder: Path) -> bool:
    """Remove masks that an interruption cut off; whether there is anything to go on from."""
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
