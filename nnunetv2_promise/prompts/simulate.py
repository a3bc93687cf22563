"""Prompt files made from label maps: what a user would have clicked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.dataset_labels import read_labels, require_dataset_json
from nnunetv2_promise.prompts.geometry import ImageGeometry, geometry_difference
from nnunetv2_promise.prompts.objects import Per, Where, find_objects, sample_points, seed_of_case
from nnunetv2_promise.prompts.schema import (
    Coordinates,
    Prompt,
    PromptFile,
    foreground_labels,
    resolve_label,
    save_prompt_file,
)
from nnunetv2_promise.prompts.volumes import find_images, find_volumes, read_label_map, require_cases


def simulate_prompts(
    images: Path | str,
    labels: Path | str,
    output: Path | str,
    *,
    points: int = 1,
    seed: int = 0,
    per: Per = "component",
    coordinates: Coordinates = "voxel",
    where: Where = "random",
    only_labels: Sequence[str | int] | None = None,
    min_volume_mm3: float = 0.0,
    dataset_json: Path | str | None = None,
) -> PromptFile:
    """Write a prompt file with clicks on the objects of label maps.

    Args:
        images: Folder of the images to prompt, ``CASE_0000.nii.gz`` (or ``CASE.nii.gz``).
        labels: Folder of their label maps, ``CASE.nii.gz``; label maps of other cases are left out.
        output: Prompt file to write.
        points: Clicks on each object.
        seed: With the case's name it fixes the clicks on that case.
        per: One object for each connected component of a label, or for each label of a case.
        coordinates: Coordinates of the file.
        where: Where in the object; see ``sample_points``.
        only_labels: Names or values of the labels to click on; all foreground labels by default.
        min_volume_mm3: Smaller objects are left out.
        dataset_json: Where the labels are named; by default ``dataset.json`` in or above ``labels``, then ``images``.

    Returns:
        What was written. A case without an object is listed with no prompt.

    Raises:
        UserError: If an image has no label map, grids differ, or a label is unknown.
    """
    image_paths = find_images(images)
    label_paths = find_volumes(labels, what="label maps")
    require_cases(image_paths, label_paths, folder=labels, what="label map")
    names = _chosen_labels(require_dataset_json(labels, images, named=dataset_json), only_labels)
    geometries = {case: _common_geometry(path, label_paths[case]) for case, path in image_paths.items()}
    cases: dict[str, list[Prompt]] = {}
    with tqdm(geometries.items(), desc="Simulating clicks", unit="case", disable=None) as progress:
        for case, geometry in progress:
            array, _ = read_label_map(label_paths[case])
            rng = np.random.default_rng(seed_of_case(case, seed))
            objects = [
                item
                for item in find_objects(array, list(names), per=per)
                if item.size_voxels * geometry.voxel_volume_mm3 >= min_volume_mm3
            ]
            cases[case] = []
            for item in objects:
                voxels = sample_points(item, points, rng, where=where, spacing_zyx_mm=geometry.spacing_zyx_mm)
                clicks = geometry.index_zyx_to_points(voxels, coordinates)
                cases[case].append(Prompt(names[item.label], tuple(map(tuple, clicks.tolist()))))
    return save_prompt_file(output, cases, coordinates=coordinates)


def _chosen_labels(dataset_json: Path, only_labels: Sequence[str | int] | None) -> dict[int, str]:
    """Value -> name of the labels to click on."""
    known = read_labels(dataset_json)
    by_value = {value: name for name, value in foreground_labels(known).items()}
    if not by_value:
        raise UserError(f"{dataset_json} has no foreground label of a single value; nothing can be clicked on.")
    if only_labels is None:
        return by_value
    values = [resolve_label(label, known, where=str(dataset_json)) for label in only_labels]
    return {value: by_value[value] for value in values}


def _common_geometry(image: Path, label: Path) -> ImageGeometry:
    geometry = ImageGeometry.from_file(image)
    difference = geometry_difference(geometry, ImageGeometry.from_file(label))
    if difference is not None:
        raise UserError(f"Image {image} and label map {label} differ in {difference}; they must share one grid.")
    return geometry
