"""The steps of a unit that make masks: predict, with and without clicks, and cut down by clicks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nnunetv2_promise.benchmark.conditions import Condition
from nnunetv2_promise.benchmark.fingerprints import digest, digest_of, versions
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.measure import prefix
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.nearest import restrict_to_clicks
from nnunetv2_promise.benchmark.settings import Training
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.folders import ENDINGS, find_volumes
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.steps import Step

NO_CLICKS = "none"


def nearest(condition: Condition) -> str:
    """The condition of an unprompted method's masks that were cut down by clicks."""
    return f"nearest_{condition.points}"


def crop(condition: Condition) -> str:
    """The condition of a method without clicks that is run on the crop around clicks alone."""
    return f"crop_{condition.points}"


def _model(layout: BenchmarkLayout, method: Method, training: Training) -> tuple[str, ...]:
    """The arguments that name a model and its fold to a command that predicts."""
    settings = layout.settings
    fold = layout.model_fold(method, training).name.removeprefix("fold_")
    if method.engine:
        return ("-m", str(layout.model(method, training.seed)), "-f", fold)
    model = ("-d", str(settings.dataset_id), "-c", settings.configuration, "-tr", method.runs, "-p", method.plans)
    return (*model, "-f", fold)


def _mirroring(layout: BenchmarkLayout) -> tuple[str, ...]:
    return ("--disable_tta",) if layout.settings.disable_tta else ()


def predict(layout: BenchmarkLayout, method: Method, training: Training) -> Step:
    """Predict without clicks."""
    masks, processes = layout.predictions(method, training, NO_CLICKS), str(layout.settings.processes)
    options = ("-device", layout.settings.device, "-npp", processes, "-nps", processes, *_mirroring(layout))
    images = layout.images(training.fold)
    return Step(
        f"predict_{NO_CLICKS}",
        "Predict",
        ("nnUNetv2_predict", "-i", str(images), "-o", str(masks), *_model(layout, method, training), *options),
        resume=("--continue_prediction",),
        resumable=lambda: _keep_complete_masks(masks),
        needs=(),
        made_from=lambda: prediction_inputs(layout, method, training, None),
        prefix=prefix(masks.with_name(f"{NO_CLICKS}_cost.json")),
    )


def predict_clicks(layout: BenchmarkLayout, method: Method, training: Training, condition: Condition) -> Step:
    """Predict from the clicks of a condition."""
    masks = layout.predictions(method, training, condition.name)
    prompts = layout.prompts(training.fold, condition.name)
    # Every prompt's mask is kept by itself: whether a click was obeyed cannot be seen from their union.
    mirroring = () if method.engine else _mirroring(layout)
    options = ("-device", layout.settings.device, "-np", str(layout.settings.processes), "--instances", *mirroring)
    files = ("-i", str(layout.images(training.fold)), "-o", str(masks), "--prompts", str(prompts))
    return Step(
        f"predict_{condition.name}",
        f"Predict ({condition.name})",
        ("nnUNetv2_promise_predict", *files, *_model(layout, method, training), *options),
        resume=("--continue_prediction",),
        resumable=lambda: _keep_complete_masks(masks),
        needs=(),
        made_from=lambda: prediction_inputs(layout, method, training, prompts),
        prefix=prefix(masks.with_name(f"{condition.name}_cost.json")),
    )


def prediction_inputs(
    layout: BenchmarkLayout, method: Method, training: Training, prompts: Path | None
) -> dict[str, Any]:
    """What a prediction is made from: the model, images, clicks and versions."""
    folder = layout.model(method, training.seed)
    return {
        "checkpoint": digest(layout.model_fold(method, training) / "checkpoint_final.pth"),
        "plans": digest(folder / "plans.json"),
        "images": digest_of(layout.images(training.fold).iterdir()),
        "prompts": None if prompts is None else digest(prompts),
        "instances": prompts is not None,
        "versions": versions(),
    }


def restrict(layout: BenchmarkLayout, method: Method, training: Training, condition: Condition) -> Step:
    """Cut masks that were made without clicks down to what is nearest to the clicks of a condition."""
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
            "masks": digest_of_masks(layout, method, training, NO_CLICKS),
            "prompts": digest(prompts),
            "versions": versions(),
        },
    )


def predict_crops(layout: BenchmarkLayout, method: Method, training: Training, condition: Condition) -> Step:
    """Run a method without clicks on the patch around each click of a condition."""
    target = layout.predictions(method, training, crop(condition))
    prompts, settings = layout.prompts(training.fold, condition.name), layout.settings
    fold = layout.model_fold(method, training)
    paths = (fold, layout.images(training.fold), prompts, target)
    options = (settings.device, *_mirroring(layout))
    return Step(
        crop(condition),
        "Predict the crops around the clicks",
        (sys.executable, "-m", "nnunetv2_promise.benchmark.crops", *map(str, paths), *options),
        resume=("--resume",),
        resumable=lambda: _keep_complete_masks(target),
        needs=(),
        made_from=lambda: prediction_inputs(layout, method, training, prompts),
    )


def cases_of(layout: BenchmarkLayout, training: Training) -> list[str]:
    """The cases of a fold that are scored; none before they are listed."""
    listing = layout.images(training.fold).parent / "cases.json"
    return read_json(listing) if listing.is_file() else []


def digest_of_masks(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> str:
    """A digest of the masks that are scored under a condition."""
    folder, cases = layout.predictions(method, training, condition), set(cases_of(layout, training))
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
