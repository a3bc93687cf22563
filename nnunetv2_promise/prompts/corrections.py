"""The click that corrects a mask, as the field's evaluation protocol makes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.images.objects import deepest_voxel, find_objects


def next_click(
    truth_zyx: NDArray, mask_zyx: NDArray, spacing_zyx_mm: Sequence[float]
) -> tuple[tuple[int, int, int], bool] | None:
    """The click that the CVPR 2025 challenge on interactive segmentation would make next.

    It falls into the largest 26-connected component of the voxels where truth and mask differ, on the voxel that is
    farthest from all others (in mm). Of several components of one size the first in raster order is taken; ties within
    it are broken as ``deepest_voxel`` does.

    Args:
        truth_zyx: (D, H, W), not 0 where the object is.
        mask_zyx: (D, H, W), not 0 where the mask is; all zeros before the first click.
        spacing_zyx_mm: Spacing in array axis order.

    Returns:
        The voxel (z, y, x), and whether the click is positive: the object is there and the mask is not. None where
        the mask is right everywhere.

    Raises:
        ValueError: If the two shapes differ or are not 3D.
    """
    if truth_zyx.shape != mask_zyx.shape:
        raise ValueError(f"truth has shape {truth_zyx.shape} and mask {mask_zyx.shape}; they must share one grid.")
    truth = truth_zyx != 0
    errors = find_objects((truth != (mask_zyx != 0)).view(np.uint8), [1])
    if not errors:
        return None
    z, y, x = (int(index) for index in deepest_voxel(errors[0], spacing_zyx_mm=spacing_zyx_mm))
    return (z, y, x), bool(truth[z, y, x])
