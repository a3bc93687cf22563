"""Prompt files made from label maps: what a user would have clicked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import find_images, find_volumes, require_cases
from nnunetv2_promise.images.geometry import ImageGeometry, geometry_difference
from nnunetv2_promise.images.labels import read_labels, require_dataset_json
from nnunetv2_promise.images.objects import Inside, Object, Per, find_objects, sample_points, seed_of_case
from nnunetv2_promise.images.reading import read_geometry, read_label_map
from nnunetv2_promise.prompts.misplaced import ClickPlaces, NoPlaceError, Where, click_distance_mm
from nnunetv2_promise.prompts.schema import (
    Coordinates,
    Prompt,
    PromptFile,
    foreground_labels,
    resolve_label,
    save_prompt_file,
)
from nnunetv2_promise.prompts.skipped import write_skipped

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Clicks:
    """How to click on the objects of a case; the fields are options of ``simulate_prompts``."""

    points: int
    seed: int
    per: Per
    coordinates: Coordinates
    where: Where
    distance_mm: float | None
    min_volume_mm3: float
    names: Mapping[int, str]
    ignore_label: int | None
    nested: bool


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
    distance_mm: float | None = None,
    only_labels: Sequence[str | int] | None = None,
    min_volume_mm3: float = 0.0,
    dataset_json: Path | str | None = None,
    skip_impossible: bool = False,
    nested: bool = False,
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
        where: In the object (see ``sample_points``), or off its middle (see ``ClickPlaces``).
        distance_mm: Of clicks ``"outside"`` (5 by default) and ``"wrong"`` (20).
        only_labels: Names or values of the labels to click on; all foreground labels by default.
        min_volume_mm3: Smaller objects are left out.
        dataset_json: Where the labels are named; by default ``dataset.json`` in or above ``labels``, then ``images``.
        skip_impossible: A case in which no voxel lies where a click on one of its objects was asked for is listed with
            no prompt and in ``skipped_file(output)``, instead of being an error.
        nested: Whether clicks are drawn so that fewer of them are the first of more.

    Returns:
        What was written. A case without an object is listed with no prompt.

    Raises:
        UserError: If an image has no label map, grids differ, or a label is unknown.
        NoPlaceError: If no voxel lies where a click was asked for.
    """
    click_distance_mm(where, distance_mm)
    label_paths = find_volumes(labels, what="label maps")
    image_paths = find_images(images, cases=label_paths)
    require_cases(image_paths, label_paths, folder=labels, what="label map")
    names, ignore_label = _chosen_labels(require_dataset_json(labels, images, named=dataset_json), only_labels)
    clicks = _Clicks(
        points=points,
        seed=seed,
        per=per,
        coordinates=coordinates,
        where=where,
        distance_mm=distance_mm,
        min_volume_mm3=min_volume_mm3,
        names=names,
        ignore_label=ignore_label,
        nested=nested,
    )
    geometries = {case: _common_geometry(path, label_paths[case]) for case, path in image_paths.items()}
    cases: dict[str, list[Prompt]] = {}
    skipped: dict[str, str] = {}
    with tqdm(geometries.items(), desc="Simulating clicks", unit="case", disable=None) as progress:
        for case, geometry in progress:
            try:
                cases[case] = _click_on_case(case, label_paths[case], geometry, clicks)
            except NoPlaceError as error:
                if not skip_impossible:
                    raise NoPlaceError(f"{error}; choose another place or pass --skip_impossible.") from error
                cases[case], skipped[case] = [], f"{error}."
    for reason in skipped.values():
        _logger.warning("No prompt: %s", reason)
    write_skipped(output, skipped)
    return save_prompt_file(output, cases, coordinates=coordinates)


def _click_on_case(case: str, label_path: Path, geometry: ImageGeometry, clicks: _Clicks) -> list[Prompt]:
    array, _ = read_label_map(label_path)
    seed = seed_of_case(case, clicks.seed)
    rng = np.random.default_rng(seed)
    objects = [
        item
        for item in find_objects(array, list(clicks.names), per=clicks.per)
        if item.size_voxels * geometry.voxel_volume_mm3 >= clicks.min_volume_mm3
    ]
    spacing_zyx_mm = geometry.spacing_zyx_mm
    places = ClickPlaces(
        array,
        where=clicks.where,
        distance_mm=clicks.distance_mm,
        spacing_zyx_mm=spacing_zyx_mm,
        ignore_label=clicks.ignore_label,
    )
    order: Inside = "centre" if clicks.where == "centre" else "random"
    prompts = []
    for number, item in enumerate(objects, start=1):
        name = clicks.names[item.label]
        try:
            place = places.of(item)
        except NoPlaceError as error:
            where = f"Label map {label_path}, case {case!r}, object {number} ({name!r})"
            raise NoPlaceError(f"{where}: {error}") from error
        number_drawn = 1 if clicks.nested else clicks.points
        voxels = sample_points(place, number_drawn, rng, where=order, spacing_zyx_mm=spacing_zyx_mm)
        if clicks.nested:
            # Each object draws further clicks by itself, or more of them here would move the first ones elsewhere.
            voxels = more_points(place, voxels, clicks.points, np.random.default_rng([seed, number]))
        points = geometry.index_zyx_to_points(voxels, clicks.coordinates)
        prompts.append(Prompt(name, tuple(map(tuple, points.tolist()))))
    return prompts


def more_points(
    target: Object | NDArray[np.bool_], points_zyx: NDArray[np.int64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Further clicks, drawn one after the other, so that fewer of them are the first of more.

    Args:
        target: The object, or a (D, H, W) bool mask.
        points_zyx: (k, 3), the clicks so far.
        n: Number of clicks in all; distinct voxels as long as there are as many.
        rng: Source of randomness.

    Returns:
        (n, 3) int64 in (z, y, x) order; the first k are ``points_zyx``.
    """
    distinct = np.count_nonzero(target.mask if isinstance(target, Object) else target)
    points = [tuple(point) for point in points_zyx.tolist()]
    while len(points) < n:
        point = tuple(sample_points(target, 1, rng)[0].tolist())
        if point not in points or len(set(points)) == distinct:
            points.append(point)
    return np.array(points, dtype=np.int64)


def _chosen_labels(dataset_json: Path, only_labels: Sequence[str | int] | None) -> tuple[dict[int, str], int | None]:
    """Value -> name of the labels to click on, and the value of the ignore label if there is one."""
    known = read_labels(dataset_json)
    by_value = {value: name for name, value in foreground_labels(known).items()}
    if not by_value:
        raise UserError(f"{dataset_json} has no foreground label of a single value; nothing can be clicked on.")
    ignore = known.get("ignore")
    ignore_label = ignore if isinstance(ignore, int) else None
    if only_labels is None:
        return by_value, ignore_label
    values = [resolve_label(label, known, where=str(dataset_json)) for label in only_labels]
    return {value: by_value[value] for value in values}, ignore_label


def _common_geometry(image: Path, label: Path) -> ImageGeometry:
    geometry = read_geometry(image)
    difference = geometry_difference(geometry, read_geometry(label))
    if difference is not None:
        raise UserError(f"Image {image} and label map {label} differ in {difference}; they must share one grid.")
    return geometry
