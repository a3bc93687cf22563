"""One more click for each object of a prompt file, where a mask of it is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import find_images, find_volumes, require_cases
from nnunetv2_promise.images.geometry import ImageGeometry, geometry_difference, nearest_voxel
from nnunetv2_promise.images.labels import Labels, read_labels, require_dataset_json
from nnunetv2_promise.images.objects import Object, Per, find_objects
from nnunetv2_promise.images.reading import read_geometry, read_label_map
from nnunetv2_promise.prompts.corrections import next_click
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case
from nnunetv2_promise.prompts.schema import Prompt, PromptFile, load_prompt_file, save_prompt_file

_logger = logging.getLogger(__name__)
_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class _Inputs:
    """What corrections are made from; paths are by case, those of masks by file name without ending."""

    prompt_file: PromptFile
    images: Mapping[str, Path]
    label_maps: Mapping[str, Path]
    masks: Mapping[str, Path]
    mask_folder: Path
    labels: Labels
    per: Per


@dataclass(frozen=True, eq=False)
class _Case:
    """One case of them."""

    inputs: _Inputs
    name: str
    geometry: ImageGeometry
    truth_zyx: NDArray[np.integer]

    def object_mask(self, number: int) -> Path | None:
        """The file with the mask of one object alone."""
        return self.inputs.masks.get(f"{self.name}_object{number}")


def correct_prompts(
    prompts: Path | str,
    images: Path | str,
    labels: Path | str,
    masks: Path | str,
    output: Path | str,
    *,
    per: Per = "component",
    dataset_json: Path | str | None = None,
) -> PromptFile:
    """Write a prompt file with one more click for each object whose mask is not right yet; see ``next_click``.

    The truth of an object is the component of its label that holds one of its clicks, or else the nearest one. Its
    mask is ``instances/CASE/object_001.nii.gz`` or ``CASE_object1.nii.gz`` (numbered as in the prompt file), which then
    becomes its ``previous_mask``; or, in a label map ``CASE.nii.gz``, the components of its label that touch its truth
    or its clicks, without the voxels of the label's other objects in the truth.

    Args:
        prompts: The prompt file that the masks were made from.
        images: Folder of the images.
        labels: Folder of their label maps, ``CASE.nii.gz``.
        masks: Folder of the masks.
        output: Prompt file to write; may be ``prompts``.
        per: What an object is, as in ``simulate_prompts``.
        dataset_json: Where the labels are named; by default ``dataset.json`` in or above ``labels``, then ``images``.

    Returns:
        What was written. Objects whose mask is right, and objects of labels that the truth lacks, stay as they are.

    Raises:
        UserError: If a file is missing, grids differ, or the prompt file does not fit its images.
    """
    prompt_file = load_prompt_file(prompts)
    image_paths = {case: path for case, path in find_images(images).items() if case in prompt_file.cases}
    require_cases(prompt_file.cases, image_paths, folder=images, what="image")
    label_maps = find_volumes(labels, what="label maps")
    require_cases(image_paths, label_maps, folder=labels, what="label map")
    inputs = _Inputs(
        prompt_file=prompt_file,
        images=image_paths,
        label_maps=label_maps,
        masks=_find_masks(Path(masks)),
        mask_folder=Path(masks),
        labels=read_labels(require_dataset_json(labels, images, named=dataset_json)),
        per=per,
    )
    output = Path(output)
    cases = {
        case: _correct_case(inputs, case, output.parent)
        for case in tqdm(prompt_file.cases, desc="Correcting", unit="case", disable=None)
    }
    return save_prompt_file(output, cases, coordinates=prompt_file.coordinates)


def _find_masks(folder: Path) -> dict[str, Path]:
    """Masks by case, and by ``CASE_object1`` for those of single objects."""
    found = find_volumes(folder, what="masks")
    for case in sorted(path for path in folder.glob("instances/*") if path.is_dir()):
        for name, path in find_volumes(case, what="masks").items():
            number = name.removeprefix("object_")
            if number.isdecimal():
                found[f"{case.name}_object{int(number)}"] = path
    return found


def _correct_case(inputs: _Inputs, name: str, target_folder: Path) -> list[Prompt]:
    """The case's prompts, each with its next click; paths of masks are relative to ``target_folder``."""
    prompts = inputs.prompt_file.cases[name]
    if not prompts:
        return []
    geometry = read_geometry(inputs.images[name])
    case = _Case(inputs, name, geometry, _read_on_grid(inputs.label_maps[name], geometry))
    located = locate_case(inputs.prompt_file, name, geometry, labels=inputs.labels)
    corrected = []
    for number, (prompt, place) in enumerate(zip(prompts, located, strict=True), start=1):
        click = _next_click(case, number, place)
        if click is not None:
            voxel_zyx, positive = click
            x, y, z = geometry.index_zyx_to_points([voxel_zyx], inputs.prompt_file.coordinates)[0].tolist()
            prompt = prompt.with_click((x, y, z), positive=positive)
        mask = case.object_mask(number) or inputs.prompt_file.previous_mask_path(prompt)
        if mask is not None:
            prompt = replace(prompt, previous_mask=os.path.relpath(mask, target_folder))
        corrected.append(prompt)
    return corrected


def _next_click(case: _Case, number: int, place: LocatedPrompt) -> tuple[tuple[int, int, int], bool] | None:
    """Voxel (z, y, x) and sign of an object's next click; None if there is nothing to correct or to go by."""
    same_label = [] if place.label is None else find_objects(case.truth_zyx, [place.label], per=case.inputs.per)
    shown_zyx = _shown_voxels(place, case.geometry.size_zyx)
    if not same_label or not len(shown_zyx):
        reason = "the label map has no voxel of its label" if len(shown_zyx) else "nothing shows where it is"
        _logger.warning("Case %s, object %d gets no click: %s.", case.name, number, reason)
        return None
    spacing_zyx_mm = case.geometry.spacing_zyx_mm
    own = min(same_label, key=lambda item: _distance_mm(item, shown_zyx, spacing_zyx_mm))
    mask_zyx = _mask_of(case, number, own, [item for item in same_label if item is not own], shown_zyx)
    return next_click(own.full_mask(case.truth_zyx.shape), mask_zyx, spacing_zyx_mm)


def _shown_voxels(place: LocatedPrompt, size_zyx: Sequence[int]) -> NDArray[np.int64]:
    """(n, 3) voxels that the user said are on the object: clicks, scribbles, the middle of the box."""
    box = [] if place.box_zyx is None else [place.box_zyx.mean(axis=0, keepdims=True)]
    return nearest_voxel(np.concatenate([place.index_zyx, *place.scribbles_zyx, *box]), size_zyx)


def _distance_mm(item: Object, shown_zyx: NDArray[np.int64], spacing_zyx_mm: Sequence[float]) -> float:
    """From an object to the nearest of some voxels; 0 if it holds one."""
    voxels_zyx = item.voxels_zyx
    return min(
        float(np.linalg.norm((voxels_zyx - voxel) * np.asarray(spacing_zyx_mm), axis=1).min()) for voxel in shown_zyx
    )


def _mask_of(
    case: _Case, number: int, own: Object, others: Sequence[Object], shown_zyx: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(D, H, W) mask of one object; see ``correct_prompts``."""
    own_file = case.object_mask(number)
    if own_file is not None:
        return _read_on_grid(own_file, case.geometry) != 0
    if case.name not in case.inputs.masks:
        raise UserError(
            f"{case.inputs.mask_folder} has no mask of case {case.name!r}, object {number}; "
            f"name it {case.name}_object{number} or {case.name}, with the ending of an image."
        )
    array = _read_on_grid(case.inputs.masks[case.name], case.geometry)
    components, _ = ndimage.label(array == own.label, structure=_NEIGHBOURS_26)
    touched = np.union1d(components[own.slices_zyx][own.mask], components[tuple(shown_zyx.T)])
    mask_zyx = np.isin(components, touched[touched > 0])
    for other in others:
        mask_zyx[other.slices_zyx] &= ~other.mask
    return mask_zyx


def _read_on_grid(path: Path, geometry: ImageGeometry) -> NDArray[np.integer]:
    """(D, H, W) label map that must have the grid of its image."""
    array, own_geometry = read_label_map(path)
    difference = geometry_difference(geometry, own_geometry)
    if difference is not None:
        raise UserError(f"{path} and its image differ in {difference}; they must share one grid.")
    return array
