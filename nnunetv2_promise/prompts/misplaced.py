"""Clicks that miss the middle of an object: at its border, some mm outside of it, or far away from it.

Distances are Euclidean, in mm, between voxel centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.objects import Object, find_objects

Where = Literal["random", "centre", "border", "outside", "wrong"]
DEFAULT_DISTANCE_MM = {"outside": 5.0, "wrong": 20.0}
"""For each place that a distance belongs to."""

_BACKGROUND = 0
_NEIGHBOURS_6 = ndimage.generate_binary_structure(3, 1)
_TOLERANCE_VOXELS = 1e-4
"""Slack of a distance, in shortest voxel sides; headers hold spacings in single precision."""


class NoPlaceError(UserError):
    """No voxel of the image lies where a click was asked for; the text is a clause that says what was sought."""


class ClickPlaces:
    """The voxels of one label map that may be clicked, for each of its objects.

    Args:
        label_array_zyx: (D, H, W) integer label map.
        where: ``"random"`` and ``"centre"``: the object. ``"border"``: see ``border_of``. ``"outside"``: see
            ``shell_around``. ``"wrong"``: see ``far_background``.
        distance_mm: Of ``"outside"`` and ``"wrong"``; ``DEFAULT_DISTANCE_MM`` if None.
        spacing_zyx_mm: Spacing in array axis order.
        ignore_label: Voxels of this value may belong to any label, so they are never clicked.

    Raises:
        UserError: As ``click_distance_mm``.
    """

    def __init__(
        self,
        label_array_zyx: NDArray,
        *,
        where: Where,
        distance_mm: float | None = None,
        spacing_zyx_mm: Sequence[float] = (1.0, 1.0, 1.0),
        ignore_label: int | None = None,
    ) -> None:
        self._array_zyx = label_array_zyx
        self._where = where
        self._distance_mm = click_distance_mm(where, distance_mm)
        self._spacing_zyx_mm = spacing_zyx_mm
        self._ignore_label = ignore_label
        self._far: dict[int, Object | None] = {}

    def of(self, item: Object) -> Object:
        """The voxels to choose a click from, with the object's ``label``.

        Raises:
            NoPlaceError: If there is none.
        """
        if self._where == "border":
            return border_of(item)
        if self._where == "outside":
            return self._required(self._shell_around(item), item)
        if self._where == "wrong":
            return self._required(self._far_from(item.label), item)
        return item

    def _shell_around(self, item: Object) -> Object | None:
        return shell_around(
            item,
            self._array_zyx,
            distance_mm=self._distance_mm,
            spacing_zyx_mm=self._spacing_zyx_mm,
            ignore_label=self._ignore_label,
        )

    def _far_from(self, label: int) -> Object | None:
        """The same for all objects of a label, so it is looked for once."""
        if label not in self._far:
            self._far[label] = far_background(
                self._array_zyx, label, distance_mm=self._distance_mm, spacing_zyx_mm=self._spacing_zyx_mm
            )
        return self._far[label]

    def _required(self, found: Object | None, item: Object) -> Object:
        if found is not None:
            return found
        distance = f"{self._distance_mm:.6g} mm"
        if self._where == "wrong":
            raise NoPlaceError(f"no voxel of the background lies {distance} or more from label {item.label}")
        least_mm = max(self._distance_mm - max(self._spacing_zyx_mm), 0.0)
        raise NoPlaceError(f"no voxel outside of it lies more than {least_mm:.6g} and at most {distance} from it")


def click_distance_mm(where: Where, distance_mm: float | None) -> float:
    """The distance that belongs to a place: the given or the default one; 0 where none belongs to it.

    Raises:
        ValueError: If ``where`` is unknown.
        UserError: If a distance is given where none belongs, or is negative or not finite.
    """
    if where not in get_args(Where):
        raise ValueError(f"where is {where!r}; it must be one of {', '.join(get_args(Where))}.")
    if distance_mm is None:
        return DEFAULT_DISTANCE_MM.get(where, 0.0)
    if where not in DEFAULT_DISTANCE_MM:
        raise UserError(f"--distance_mm means nothing for --where {where}; leave it out, or click outside or wrong.")
    if not math.isfinite(distance_mm) or distance_mm < 0:
        raise UserError(f"--distance_mm is {distance_mm}; give a finite number, 0 or more.")
    return distance_mm


def border_of(item: Object) -> Object:
    """The object's voxels with one of their 6 neighbours outside of it; beyond the image everything is outside."""
    surface = item.mask & ~ndimage.binary_erosion(item.mask, structure=_NEIGHBOURS_6)
    return Object(label=item.label, start_zyx=item.start_zyx, mask=surface)


def shell_around(
    item: Object,
    label_array_zyx: NDArray,
    *,
    distance_mm: float,
    spacing_zyx_mm: Sequence[float],
    ignore_label: int | None = None,
) -> Object | None:
    """The voxels at a distance from an object, to within one voxel.

    Args:
        item: The object.
        label_array_zyx: (D, H, W) label map that the object is from.
        distance_mm: The voxels lie at most so far from the object, and farther than this less the longest voxel side.
        spacing_zyx_mm: Spacing in array axis order.
        ignore_label: Voxels of this value are left out, as are those of the object's label.

    Returns:
        The voxels, with the object's ``label``; None if there is none.
    """
    box = _grown_box(item, label_array_zyx.shape, distance_mm=distance_mm, spacing_zyx_mm=spacing_zyx_mm)
    apart_mm = _distances_mm(item, box, spacing_zyx_mm)
    slack_mm = _TOLERANCE_VOXELS * min(spacing_zyx_mm)
    excluded = [item.label] if ignore_label is None else [item.label, ignore_label]
    chosen = ~np.isin(label_array_zyx[box], excluded)
    chosen &= (apart_mm > distance_mm - max(spacing_zyx_mm) + slack_mm) & (apart_mm <= distance_mm + slack_mm)
    z, y, x = (part.start for part in box)
    return Object(label=item.label, start_zyx=(z, y, x), mask=chosen) if chosen.any() else None


def far_background(
    label_array_zyx: NDArray, label: int, *, distance_mm: float, spacing_zyx_mm: Sequence[float]
) -> Object | None:
    """The background voxels (value 0) that lie ``distance_mm`` or more from every voxel of a label.

    Args:
        label_array_zyx: (D, H, W) label map.
        label: Value in the label map.
        distance_mm: Least distance.
        spacing_zyx_mm: Spacing in array axis order.

    Returns:
        The voxels, with the given ``label``; None if there is none.
    """
    far = label_array_zyx == _BACKGROUND
    slack_mm = _TOLERANCE_VOXELS * min(spacing_zyx_mm)
    # One component after the other: a box around all of them may be the whole image, whose distances fill gigabytes.
    for item in find_objects(label_array_zyx, [label]):
        box = _grown_box(item, far.shape, distance_mm=distance_mm, spacing_zyx_mm=spacing_zyx_mm)
        far[box] &= _distances_mm(item, box, spacing_zyx_mm) >= distance_mm - slack_mm
    return Object(label=label, start_zyx=(0, 0, 0), mask=far) if far.any() else None


def _grown_box(
    item: Object, shape_zyx: Sequence[int], *, distance_mm: float, spacing_zyx_mm: Sequence[float]
) -> tuple[slice, ...]:
    """The object's box, grown so that every voxel beyond it is farther from the object than ``distance_mm``."""
    reach = [math.ceil(distance_mm / side_mm) + 1 for side_mm in spacing_zyx_mm]
    return tuple(
        slice(max(start - grow, 0), min(stop + grow, n))
        for (start, stop), grow, n in zip(item.bbox_zyx, reach, shape_zyx, strict=True)
    )


def _distances_mm(item: Object, box: tuple[slice, ...], spacing_zyx_mm: Sequence[float]) -> NDArray[np.float64]:
    """(d, h, w) distances of the voxels of a box to the object, which lies within it."""
    beyond = np.ones([part.stop - part.start for part in box], dtype=bool)
    inner = tuple(
        slice(start - part.start, stop - part.start) for (start, stop), part in zip(item.bbox_zyx, box, strict=True)
    )
    beyond[inner] = ~item.mask
    return ndimage.distance_transform_edt(beyond, sampling=spacing_zyx_mm)
