"""From the prompt file to voxels: the checks that need an image's grid and the dataset's labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import ENDINGS
from nnunetv2_promise.images.geometry import ImageGeometry, check_inside, geometry_difference
from nnunetv2_promise.images.reading import read_geometry, read_label_map
from nnunetv2_promise.prompts.schema import Prompt, PromptFile, resolve_label


def _no_points() -> NDArray[np.float64]:
    return np.empty((0, 3))


@dataclass(frozen=True, eq=False)
class LocatedPrompt:
    """What a user showed of one object, in the array of its image.

    Indices are continuous, float64, in (z, y, x) order, and lie inside of the image.

    Attributes:
        label: Value in segmentations; None if the dataset's labels are not known.
        index_zyx: (N, 3), the clicks on the object.
        negative_index_zyx: (M, 3), the clicks on what does not belong to it.
        positive: (N + M,) bool, for each click in the order in which they were made whether it is on the object;
            see ``clicks_zyx``. Without it, all clicks on the object come first.
        box_zyx: (2, 3), lowest and highest index of the box, both inside of it; None if there is none.
        scribbles_zyx: (K, 3) for each scribble.
        previous_mask: File of the mask to correct, on the image's grid; see ``read_previous_mask``.
    """

    label: int | None
    index_zyx: NDArray[np.float64]
    negative_index_zyx: NDArray[np.float64] = field(default_factory=_no_points)
    positive: NDArray[np.bool_] | None = None
    box_zyx: NDArray[np.float64] | None = None
    scribbles_zyx: tuple[NDArray[np.float64], ...] = ()
    previous_mask: Path | None = None

    def clicks_zyx(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """All clicks in the order in which they were made.

        Returns:
            (N + M, 3) indices, and (N + M,) bool: whether each is on the object.
        """
        positive = self.positive
        if positive is None:
            positive = np.arange(len(self.index_zyx) + len(self.negative_index_zyx)) < len(self.index_zyx)
        clicks = np.empty((len(positive), 3))
        clicks[positive], clicks[~positive] = self.index_zyx, self.negative_index_zyx
        return clicks, positive


def locate_case(
    prompts: PromptFile,
    case: str,
    geometry: ImageGeometry,
    *,
    labels: Mapping[str, int | Sequence[int]] | None,
) -> list[LocatedPrompt]:
    """The prompts of one case, checked against its image and the dataset.

    Args:
        prompts: The prompt file.
        case: Case identifier.
        geometry: Grid of the case's image.
        labels: ``labels`` of ``dataset.json``; None leaves them unchecked.

    Raises:
        UserError: If the case is not listed, a label is unknown, a point lies outside of the image, or a previous mask
            is missing or has another grid; the sentence names file, case, object and point (counted from 1).
    """
    if case not in prompts.cases:
        raise UserError(
            f"Prompt file {prompts.path} does not list case {case!r}; add it, with [] if its mask shall be empty."
        )
    return [
        _locate(prompt, prompts, f"Prompt file {prompts.path}, case {case!r}, object {number}", geometry, labels)
        for number, prompt in enumerate(prompts.cases[case], start=1)
    ]


def read_previous_mask(path: Path | str) -> NDArray[np.bool_]:
    """The voxels of a previous mask: those that are not 0.

    Returns:
        (D, H, W) bool.

    Raises:
        UserError: If the file cannot be read or is not a label map.
    """
    return read_label_map(path)[0] != 0


def similar_case(case: str, known: Iterable[str]) -> str:
    """A hint for a case that has no image, to be put before the full stop: the case that is probably meant, or nothing.

    Channel numbers, endings of files, spaces and capitals are what people get wrong.
    """

    def plain(name: str) -> str:
        name = name.strip().lower()
        for ending in ENDINGS:
            name = name.removesuffix(ending)
        return re.sub(r"_\d{4}$", "", name)

    meant = next((name for name in known if plain(name) == plain(case) and name != case), None)
    return "" if meant is None else f"; write {meant!r}, the file's name without channel number and ending"


def _locate(
    prompt: Prompt,
    prompts: PromptFile,
    where: str,
    geometry: ImageGeometry,
    labels: Mapping[str, int | Sequence[int]] | None,
) -> LocatedPrompt:
    def inside(points: Sequence[Sequence[float]], what: str) -> NDArray[np.float64]:
        index_zyx = geometry.points_to_index_zyx(points, prompts.coordinates)
        outside = check_inside(index_zyx, geometry.size_zyx)
        if outside.size:
            row = outside[0]
            raise UserError(
                f"{where}, {what} {row + 1}: {_outside(prompts.coordinates, points[row], index_zyx[row])}"
                f"the image has {_text(geometry.size_xyz)} voxels; correct the point or 'coordinates'."
            )
        return index_zyx

    label = None if labels is None else resolve_label(prompt.label, labels, where=where)
    box = None if prompt.box is None else inside((prompt.box[:3], prompt.box[3:]), "field 'box', corner")
    return LocatedPrompt(
        label=label,
        index_zyx=inside(prompt.points, "point"),
        negative_index_zyx=inside(prompt.negative_points, "negative point"),
        positive=np.array([click.positive for click in prompt.clicks], dtype=bool),
        box_zyx=None if box is None else np.stack([box.min(axis=0), box.max(axis=0)]),
        scribbles_zyx=tuple(
            inside(scribble, f"scribble {number}, point") for number, scribble in enumerate(prompt.scribbles, start=1)
        ),
        previous_mask=_checked_mask(prompts.previous_mask_path(prompt), where, geometry),
    )


def _checked_mask(path: Path | None, where: str, geometry: ImageGeometry) -> Path | None:
    """The previous mask's file, once it is known to have the image's grid."""
    if path is None:
        return None
    if not path.is_file():
        raise UserError(
            f"{where}, field 'previous_mask': {path} does not exist; its name is relative to the prompt file."
        )
    difference = geometry_difference(geometry, read_geometry(path))
    if difference is not None:
        raise UserError(
            f"{where}, field 'previous_mask': the image and {path} differ in {difference}; "
            "give a mask that was made on this image."
        )
    return path


def _outside(coordinates: str, point: Sequence[float], index_zyx: NDArray[np.float64]) -> str:
    given = f"{_text(point)} ({coordinates})"
    if coordinates == "voxel":
        return f"{given} lies outside of the image: "
    return f"{given} is voxel {_text(index_zyx[::-1])} (x, y, z), outside of the image: "


def _text(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
