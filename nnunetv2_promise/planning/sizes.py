"""Spacing, patch and window from the sizes of objects and images. Pure functions; all axes are (z, y, x)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

import numpy as np

from nnunetv2_promise.errors import UserError

MIN_PATCH = 32
PATCH_STEP = 8
# A small object must span about this many voxels to keep a shape.
SMALL_OBJECT_VOXELS = 8
# Smaller components are specks of the annotation and say nothing about what users will click.
MIN_OBJECT_VOXELS = 8


class ObjectSizes:
    """Extents of the components of each label, in mm.

    Args:
        objects: The key ``objects`` of the fingerprint (``planning.objects``).

    Raises:
        UserError: If there is no object at all.
    """

    def __init__(self, objects: Mapping[str, Any]) -> None:
        """Gather the extents; specks are left out where a label has anything larger."""
        gathered = {name: _extents(label) for name, label in objects["labels"].items()}
        self._extents_mm = {name: extents for name, extents in gathered.items() if len(extents)}
        if not self._extents_mm:
            raise UserError("The fingerprint lists no object; check that the label maps have foreground.")

    def large_mm(self, percentile: float) -> np.ndarray:
        """(3,) extent per axis that this percentage of every label's objects does not exceed."""
        return np.max([np.percentile(extents, percentile, axis=0) for extents in self._extents_mm.values()], axis=0)

    def small_mm(self, percentile: float) -> float:
        """Mean edge (geometric) of the bounding box that this percentage of some label's objects stays below."""
        return float(
            min(np.percentile(extents.prod(axis=1) ** (1 / 3), percentile) for extents in self._extents_mm.values())
        )


def round_up(value: float, step: int = PATCH_STEP) -> int:
    """The next multiple of ``step``; rounding errors below 1e-6 do not count."""
    return ceil(value / step - 1e-6) * step


def finest_axis_mm(spacings_mm: np.ndarray) -> float:
    """Median over the cases (N, 3) of the smallest voxel edge."""
    return float(np.median(spacings_mm.min(axis=1)))


def isotropic_spacing_mm(spacings_mm: np.ndarray, small_object_mm: float) -> tuple[float, str]:
    """An isotropic spacing for data other than CT, and the reason in plain words.

    The voxel volume stays as it is in the data, unless small objects would span too few voxels: then the voxels get
    smaller, down to the finest axis of the data.
    """
    typical = float(np.median(spacings_mm.prod(axis=1) ** (1 / 3)))
    finest = finest_axis_mm(spacings_mm)
    wanted = small_object_mm / SMALL_OBJECT_VOXELS
    if typical <= wanted:
        spacing = _ceil_3_digits(typical)
        return spacing, f"Spacing {spacing:g} mm isotropic: it keeps the voxel volume of the data."
    spacing = _ceil_3_digits(max(wanted, finest))
    limit = "the finest axis of the data" if wanted < finest else f"{SMALL_OBJECT_VOXELS} voxels across small objects"
    return spacing, (
        f"Spacing {spacing:g} mm isotropic: small objects measure about {small_object_mm:.3g} mm, so the voxels are "
        f"smaller than the data's {typical:.3g} mm; the limit is {limit}."
    )


def spacing_for_half_patch_mm(
    spacing_mm: float, large_object_mm: Iterable[float], image_mm: Iterable[float], max_patch: int
) -> float:
    """The spacing, coarsened until large objects fill at most half of a patch of ``max_patch`` voxels.

    An axis along which the patch holds the whole image does not count.
    """
    needed = [
        min(object_mm / (max_patch / 2), size_mm / max_patch)
        for object_mm, size_mm in zip(large_object_mm, image_mm, strict=True)
    ]
    return max(spacing_mm, _ceil_3_digits(max(needed)))


def patch_that_holds(
    object_voxels: Sequence[float], image_voxels: Sequence[float], *, usual: int, maximum: int | None = None
) -> list[int]:
    """Patch size: ``usual`` voxels, more where objects need it, no more than the image or ``maximum``."""
    patch = []
    for object_size, image_size in zip(object_voxels, image_voxels, strict=True):
        size = max(usual, round_up(object_size))
        size = min(size, round_up(image_size), maximum or size)
        patch.append(max(size, MIN_PATCH))
    return patch


def window_size(largest_voxels: Sequence[float], image_voxels: Sequence[float], patch_size: Sequence[int]) -> list[int]:
    """Voxels to crop around a prompt: one patch, up to two where objects are large.

    Twice the largest objects, since a click may be at their rim; no more than the image, no less than a patch.
    """
    return [
        min(max(min(round_up(2 * object_size), round_up(image_size)), patch), 2 * patch)
        for object_size, image_size, patch in zip(largest_voxels, image_voxels, patch_size, strict=True)
    ]


def _extents(label: Mapping[str, Any]) -> np.ndarray:
    extents = np.array([extent for case in label["cases"].values() for extent in case["extent_mm"]]).reshape(-1, 3)
    voxels = np.array([count for case in label["cases"].values() for count in case["voxels"]])
    large = voxels >= MIN_OBJECT_VOXELS
    return extents[large] if large.any() else extents


def _ceil_3_digits(value: float) -> float:
    # Headers store float32: 0.8 mm comes back as 0.80000001 and stays 0.8.
    digits = 2 - floor(log10(value))
    return round(ceil(value * 10.0**digits - 1e-3) / 10.0**digits, max(digits, 0))
