"""From the prompt file to voxels: the checks that need an image's grid and the dataset's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry, check_inside
from nnunetv2_promise.prompts.schema import PromptFile, resolve_label


@dataclass(frozen=True, eq=False)
class LocatedPrompt:
    """The clicks on one object, in the array of its image.

    Attributes:
        label: Value in segmentations; None if the dataset's labels are not known.
        index_zyx: (N, 3) float64, continuous indices in (z, y, x) order; inside of the image.
    """

    label: int | None
    index_zyx: NDArray[np.float64]


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
        UserError: If the case is not listed, a label is unknown, or a point lies outside of the image; the sentence
            names file, case, object and point (counted from 1).
    """
    if case not in prompts.cases:
        raise UserError(
            f"Prompt file {prompts.path} does not list case {case!r}; add it, with [] if its mask shall be empty."
        )
    located = []
    for number, prompt in enumerate(prompts.cases[case], start=1):
        where = f"Prompt file {prompts.path}, case {case!r}, object {number}"
        label = None if labels is None else resolve_label(prompt.label, labels, where=where)
        index_zyx = geometry.points_to_index_zyx(prompt.points, prompts.coordinates)
        outside = check_inside(index_zyx, geometry.size_zyx)
        if outside.size:
            raise UserError(
                f"{where}, point {outside[0] + 1}: {_outside(prompts, prompt.points, index_zyx, outside[0])}"
                f"the image has {_text(geometry.size_xyz)} voxels; correct the point or 'coordinates'."
            )
        located.append(LocatedPrompt(label=label, index_zyx=index_zyx))
    return located


def _outside(prompts: PromptFile, points: Sequence[Sequence[float]], index_zyx: NDArray[np.float64], row: int) -> str:
    given = f"{_text(points[row])} ({prompts.coordinates})"
    if prompts.coordinates == "voxel":
        return f"{given} lies outside of the image: "
    return f"{given} is voxel {_text(index_zyx[row, ::-1])} (x, y, z), outside of the image: "


def _text(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
