"""Was the click obeyed? Every prompt's own mask against the object that it is on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.nearest import nearest_objects
from nnunetv2_promise.benchmark.results import OBJECT_COLUMNS
from nnunetv2_promise.benchmark.scoring import identity, kind_of, prompts_of, scored_cases
from nnunetv2_promise.benchmark.settings import Training
from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.metrics import dice, normalized_surface_dice
from nnunetv2_promise.evaluation.tolerances import tolerances_of
from nnunetv2_promise.files import atomic_path
from nnunetv2_promise.images.folders import find_volumes
from nnunetv2_promise.images.labels import Labels, read_labels, scored_labels
from nnunetv2_promise.images.objects import Per, find_objects
from nnunetv2_promise.images.reading import read_label_map
from nnunetv2_promise.prompts.locate import locate_case
from nnunetv2_promise.prompts.schema import PromptFile, foreground_labels, load_prompt_file


@dataclass(frozen=True)
class _Job:
    """What a worker needs to score the prompts of one case.

    ``masks`` is a folder of one mask for each prompt, or a label map, from which each prompt takes the components
    nearest to its points.
    """

    case: str
    truth: Path
    masks: Path
    prompts: PromptFile
    labels: Labels
    per: Per
    tolerances_mm: Mapping[str, float]


def write_object_scores(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> None:
    """Score each prompt's mask alone; a CSV with the columns ``OBJECT_COLUMNS``.

    Raises:
        UserError: If a mask is missing or unreadable.
    """
    prompts = prompts_of(layout, training.fold, condition)
    if prompts is None:
        return
    clicks, truths = load_prompt_file(prompts), find_volumes(layout.truths(training.fold), what="label maps")
    kind, _ = kind_of(condition)
    folder = layout.predictions(method, training, "none" if kind == "nearest" else condition)
    whole = {} if kind == "clicks" else find_volumes(folder, what="predictions")
    labels = read_labels(layout.dataset_json)
    settings = layout.settings
    tolerances = tolerances_of(scored_labels(labels), settings.tolerance_mm, settings.label_tolerances_mm)
    jobs = [
        _Job(
            case=case,
            truth=truths[case],
            masks=whole[case] if whole else folder / "instances" / case,
            prompts=PromptFile(clicks.path, clicks.coordinates, {case: clicks.cases[case]}),
            labels=labels,
            per=settings.per,
            tolerances_mm=tolerances,
        )
        for case in scored_cases(layout, training.fold, prompts)
    ]
    rows = map_cases(
        _score_case, jobs, num_processes=layout.settings.processes, description="Scoring each click's mask"
    )
    table = pd.DataFrame([row for of_case in rows for row in of_case], columns=list(OBJECT_COLUMNS))
    table = table.assign(**identity(layout, method, training, condition))
    with atomic_path(layout.object_scores(method, training, condition)) as temporary:
        table.to_csv(temporary, index=False)


def score_object(
    mask_zyx: NDArray[np.bool_],
    clicked_zyx: NDArray[np.bool_],
    others_zyx: NDArray[np.integer],
    click_zyx: NDArray[np.floating],
    *,
    spacing_zyx_mm: tuple[float, ...],
    tolerance_mm: float,
) -> dict[str, Any]:
    """Scores of one prompt's mask.

    Args:
        mask_zyx: (D, H, W) bool.
        clicked_zyx: (D, H, W) bool, the object that was clicked.
        others_zyx: (D, H, W) int, the other objects of the truth as 1, 2, ...; 0 elsewhere.
        click_zyx: (3,) continuous index of the first click.
        spacing_zyx_mm: Spacing in array axis order.
        tolerance_mm: Of the surface Dice.

    Returns:
        ``dice``, ``nsd``, ``wrong_object`` (another object has more of the mask than the clicked one) and
        ``holds_click`` (the mask holds the voxel of the first click).
    """
    of_others = np.bincount(others_zyx[mask_zyx].ravel())[1:]
    voxel = tuple(np.clip(np.rint(click_zyx).astype(int), 0, np.array(mask_zyx.shape) - 1))
    return {
        "dice": dice(mask_zyx, clicked_zyx),
        "nsd": normalized_surface_dice(mask_zyx, clicked_zyx, spacing_zyx_mm=spacing_zyx_mm, tolerance_mm=tolerance_mm),
        "wrong_object": bool(of_others.max(initial=0) > np.count_nonzero(mask_zyx & clicked_zyx)),
        "holds_click": bool(mask_zyx[voxel]),
    }


def _score_case(job: _Job) -> list[dict[str, Any]]:
    truth_zyx, geometry = read_label_map(job.truth)
    located = locate_case(job.prompts, job.case, geometry, labels=job.labels)
    whole_zyx = None if job.masks.is_dir() else read_label_map(job.masks)[0]
    values = sorted({prompt.label for prompt in located if prompt.label is not None})
    objects = find_objects(truth_zyx, values, per=job.per)
    numbered = np.zeros(truth_zyx.shape, dtype=np.int32)
    for number, item in enumerate(objects, start=1):
        numbered[item.slices_zyx][item.mask] = number
    names = {value: name for name, value in foreground_labels(job.labels).items()}
    rows = []
    for number, prompt in enumerate(located, start=1):
        own = [item for item in objects if item.label == prompt.label]
        if not own or not len(prompt.index_zyx):
            continue
        clicked = nearest_objects(own, prompt.index_zyx[:1], spacing_zyx_mm=geometry.spacing_zyx_mm)[0]
        clicked_zyx = clicked.full_mask(truth_zyx.shape)
        label = names[clicked.label]
        scores = score_object(
            _mask(job, number, whole_zyx, prompt.label, prompt.index_zyx, geometry.spacing_zyx_mm),
            clicked_zyx,
            np.where(clicked_zyx, 0, numbered),
            prompt.index_zyx[0],
            spacing_zyx_mm=geometry.spacing_zyx_mm,
            tolerance_mm=job.tolerances_mm[label],
        )
        volume_ml = clicked.size_voxels * geometry.voxel_volume_mm3 / 1000
        rows.append({"case": job.case, "label": label, "object": number, "volume_ml": volume_ml, **scores})
    return rows


def _mask(
    job: _Job,
    number: int,
    whole_zyx: NDArray[np.integer] | None,
    label: int | None,
    points_zyx: NDArray[np.float64],
    spacing_zyx_mm: tuple[float, ...],
) -> NDArray[np.bool_]:
    """The mask of one prompt."""
    if whole_zyx is None:
        found = sorted(job.masks.glob(f"object_{number:03d}.*"))
        if not found:
            raise UserError(f"{job.masks} has no mask of object {number}; predict with --instances again.")
        return read_label_map(found[0])[0] > 0
    mask = np.zeros(whole_zyx.shape, dtype=bool)
    found_objects = find_objects(whole_zyx, [] if label is None else [label])
    for item in nearest_objects(found_objects, points_zyx, spacing_zyx_mm=spacing_zyx_mm):
        mask[item.slices_zyx] |= item.mask
    return mask
