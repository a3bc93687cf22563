"""Dice and surface Dice (NSD) of two masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DEFAULT_TOLERANCE_MM = 5.0


def dice(prediction_zyx: NDArray[np.bool_], truth_zyx: NDArray[np.bool_]) -> float:
    """Dice coefficient, ``2 |A and B| / (|A| + |B|)``.

    Args:
        prediction_zyx: (D, H, W) bool.
        truth_zyx: (D, H, W) bool.

    Returns:
        In [0, 1]; 0 if exactly one mask is empty; NaN if both are, since there is nothing to score.
    """
    _check_masks(prediction_zyx, truth_zyx)
    total = np.count_nonzero(prediction_zyx) + np.count_nonzero(truth_zyx)
    return 2 * np.count_nonzero(prediction_zyx & truth_zyx) / total if total else float("nan")


def normalized_surface_dice(
    prediction_zyx: NDArray[np.bool_],
    truth_zyx: NDArray[np.bool_],
    *,
    spacing_zyx_mm: Sequence[float],
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> float:
    """Normalised surface Dice: the share of both surfaces that lies within a tolerance of the other one.

    Nikolov et al. 2021, "Clinically applicable segmentation of head and neck anatomy", as in DeepMind's
    surface-distance: the surface runs between voxels, each of its elements is weighted with its area in mm2. MONAI
    computes it. The border of the image counts as outside.

    Args:
        prediction_zyx: (D, H, W) bool.
        truth_zyx: (D, H, W) bool.
        spacing_zyx_mm: Spacing in array axis order.
        tolerance_mm: Largest distance that counts as agreement, inclusive.

    Returns:
        In [0, 1]; 0 if exactly one mask is empty; NaN if both are.
    """
    import torch
    from monai.metrics import compute_surface_dice

    _check_masks(prediction_zyx, truth_zyx)
    if not np.isfinite(tolerance_mm) or tolerance_mm < 0:
        raise ValueError(f"tolerance_mm is {tolerance_mm}; it must be a finite number, at least 0.")
    union_box = ndimage.find_objects((prediction_zyx | truth_zyx).view(np.uint8))
    if not union_box:
        return float("nan")
    cropped = [mask[union_box[0]] for mask in (prediction_zyx, truth_zyx)]
    if not all(mask.any() for mask in cropped):
        return 0.0
    # (1, 1, D, H, W) each: one case, one class.
    predicted, true = (torch.from_numpy(mask.astype(np.float32))[None, None] for mask in cropped)
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn about an argument that MONAI itself passes.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        score = compute_surface_dice(
            predicted,
            true,
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=[float(value) for value in spacing_zyx_mm],
            use_subvoxels=True,
        )
    return float(score)


def _check_masks(prediction_zyx: NDArray, truth_zyx: NDArray) -> None:
    for mask in (prediction_zyx, truth_zyx):
        if mask.dtype != bool or mask.ndim != 3 or mask.shape != truth_zyx.shape:
            raise ValueError(f"Masks must be bool, 3D and of one shape, not {mask.dtype} {mask.shape}.")
