"""Predictions of methods without clicks, cut down by clicks: the fair comparison with methods that are given one.

``python -m nnunetv2_promise.benchmark.nearest MASKS PROMPTS OUTPUT DATASET_JSON`` does it by hand.

A click tells where the object is. A method that cannot take it would be blamed for every false object elsewhere, so
its prediction is reduced to the connected components that are nearest to the clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path
from nnunetv2_promise.images.folders import find_volumes, require_cases
from nnunetv2_promise.images.labels import Labels, read_labels
from nnunetv2_promise.images.objects import Object, find_objects
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry, read_header, read_label_map
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case
from nnunetv2_promise.prompts.schema import PromptFile, load_prompt_file

_TIE_VOXELS = 1e-4
"""Distances that differ by less, in shortest voxel sides, are equal; headers hold their numbers in single precision."""


@dataclass(frozen=True)
class _Job:
    """What a worker needs to cut down one prediction."""

    case: str
    prediction: Path
    output: Path
    prompts: PromptFile
    labels: Labels


def restrict_to_clicks(
    predictions: Path, prompts: Path, output: Path, *, dataset_json: Path, num_processes: int
) -> None:
    """Keep, of each prediction, the components nearest to the clicks.

    For each prompt, and each of its points, the 26-connected component of the predicted label that is nearest to the
    point is kept: Euclidean distance in mm from the point to the nearest voxel centre. Of components at one distance
    the larger is taken, then the first in raster order. All else becomes background, and so do labels that have no
    prompt in that case. Files keep their names, grids and voxel types; older outputs are overwritten.

    Args:
        predictions: Folder of predicted label maps; those of cases that are not listed in ``prompts`` are left out.
        prompts: Prompt file; its points may be in any coordinates.
        output: Folder to write to, not ``predictions``.
        dataset_json: Where the labels are named.
        num_processes: Worker processes.

    Raises:
        UserError: If a listed case has no prediction, a prediction cannot be read, a label is unknown or no label of
            one value, a point lies outside of its image, or an output cannot be written.
    """
    if Path(output).resolve() == Path(predictions).resolve():
        raise UserError(f"{output} holds the predictions to cut down; write to another folder.")
    prompt_file, labels = load_prompt_file(prompts), read_labels(dataset_json)
    paths = find_volumes(predictions, what="predictions")
    require_cases(prompt_file.cases, paths, folder=predictions, what="prediction")
    jobs = [
        _Job(
            case=case,
            prediction=paths[case],
            output=Path(output) / paths[case].name,
            prompts=PromptFile(prompt_file.path, prompt_file.coordinates, {case: prompt_file.cases[case]}),
            labels=labels,
        )
        for case in prompt_file.cases
    ]
    for job in jobs:
        locate_case(job.prompts, job.case, read_geometry(job.prediction), labels=labels)
    map_cases(
        _restrict_case, jobs, num_processes=num_processes, description="Keeping the components nearest the clicks"
    )


def keep_nearest(
    prediction_zyx: NDArray[np.integer], located: Sequence[LocatedPrompt], *, spacing_zyx_mm: Sequence[float]
) -> NDArray[np.integer]:
    """A label map cut down to the components nearest to clicks; see ``restrict_to_clicks``.

    Args:
        prediction_zyx: (D, H, W) label map.
        located: Label and clicks of each prompt.
        spacing_zyx_mm: Spacing in array axis order.

    Returns:
        (D, H, W) label map of the same type.
    """
    kept = np.zeros_like(prediction_zyx)
    for label in {prompt.label for prompt in located if prompt.label is not None}:
        objects = find_objects(prediction_zyx, [label])
        points_zyx = np.concatenate([prompt.index_zyx for prompt in located if prompt.label == label])
        for item in nearest_objects(objects, points_zyx, spacing_zyx_mm=spacing_zyx_mm):
            kept[item.slices_zyx][item.mask] = label
    return kept


def nearest_objects(
    objects: Sequence[Object], points_zyx: NDArray[np.float64], *, spacing_zyx_mm: Sequence[float]
) -> list[Object]:
    """The object nearest to each of some points.

    An object is nearest to any point on one of its voxels, since no two touch.

    Args:
        objects: Sorted as ``find_objects`` does; of objects at one distance the first is taken. May be empty.
        points_zyx: (N, 3) continuous indices in (z, y, x) order.
        spacing_zyx_mm: Spacing in array axis order.

    Returns:
        One object for each point; the same object may come several times. Empty if there is no object.
    """
    if not objects:
        return []
    apart_mm = np.array([_distances_mm(item, points_zyx, spacing_zyx_mm) for item in objects])  # (objects, N)
    nearest = apart_mm <= apart_mm.min(axis=0) + _TIE_VOXELS * min(spacing_zyx_mm)
    return [objects[row] for row in nearest.argmax(axis=0)]


def _distances_mm(
    item: Object, points_zyx: NDArray[np.float64], spacing_zyx_mm: Sequence[float]
) -> NDArray[np.float64]:
    """(N,) distance of each point to the object's nearest voxel centre."""
    centres_mm = item.voxels_zyx * np.asarray(spacing_zyx_mm)
    points_mm = np.asarray(points_zyx) * np.asarray(spacing_zyx_mm)
    return np.array([np.linalg.norm(centres_mm - point_mm, axis=1).min() for point_mm in points_mm])


def _restrict_case(job: _Job) -> None:
    prediction_zyx, geometry = read_label_map(job.prediction)
    located = locate_case(job.prompts, job.case, geometry, labels=job.labels)
    kept = keep_nearest(prediction_zyx, located, spacing_zyx_mm=geometry.spacing_zyx_mm)
    image = sitk.Cast(sitk.GetImageFromArray(kept), read_header(job.prediction).pixel_id)
    geometry.apply_to(image)
    _write_whole(image, job.output)


def _write_whole(image: sitk.Image, target: Path) -> None:
    """Write an image and read it back: on a full disk ITK writes half a file without a word."""
    with atomic_path(target) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            check_stored_voxels(temporary)
        except (RuntimeError, UserError) as error:
            raise UserError(f"{target} could not be written; free space on the disk and run again.") from error


if __name__ == "__main__":
    import sys

    masks, clicks, folder, description = map(Path, sys.argv[1:5])
    restrict_to_clicks(masks, clicks, folder, dataset_json=description, num_processes=1)
