"""Dice, surface Dice (NSD) and Hausdorff distance of two masks, and their lesions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DEFAULT_TOLERANCE_MM = 5.0
MATCHING_IOU = 0.1
"""A lesion is found if a predicted component overlaps with more than this share of their union."""


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
    with _quiet_monai():
        score = compute_surface_dice(
            predicted,
            true,
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=[float(value) for value in spacing_zyx_mm],
            use_subvoxels=True,
        )
    return float(score)


def hausdorff_distance_95(
    prediction_zyx: NDArray[np.bool_], truth_zyx: NDArray[np.bool_], *, spacing_zyx_mm: Sequence[float]
) -> float:
    """95 % Hausdorff distance: the larger of the two 95th percentiles of distances from one surface to the other.

    MONAI computes it, between the centres of border voxels.

    Args:
        prediction_zyx: (D, H, W) bool.
        truth_zyx: (D, H, W) bool.
        spacing_zyx_mm: Spacing in array axis order.

    Returns:
        mm; NaN if a mask is empty, since there is no surface.
    """
    import torch
    from monai.metrics import compute_hausdorff_distance

    _check_masks(prediction_zyx, truth_zyx)
    if not (prediction_zyx.any() and truth_zyx.any()):
        return float("nan")
    (box,) = ndimage.find_objects((prediction_zyx | truth_zyx).view(np.uint8))
    # (1, 1, D, H, W) each: one case, one class.
    predicted, true = (
        torch.from_numpy(np.pad(mask[box], 1).astype(np.float32))[None, None] for mask in (prediction_zyx, truth_zyx)
    )
    spacing = [float(value) for value in spacing_zyx_mm]
    with _quiet_monai():
        return float(
            compute_hausdorff_distance(predicted, true, include_background=True, percentile=95, spacing=spacing)
        )


@dataclass(frozen=True)
class LesionScores:
    """Components of a truth and of a prediction against each other.

    Attributes:
        found: Components of the truth that have a partner: one predicted component each, IoU above ``MATCHING_IOU``.
        missed: Components of the truth without one.
        false: Predicted components without one.
        false_positive_voxels: Voxels of predicted components that do not touch the truth at all.
        false_negative_voxels: Voxels of components of the truth that the prediction does not touch at all.
    """

    found: int
    missed: int
    false: int
    false_positive_voxels: int
    false_negative_voxels: int


def score_lesions(prediction_zyx: NDArray[np.bool_], truth_zyx: NDArray[np.bool_]) -> LesionScores:
    """Match 26-connected components one to one, so that the sum of their IoU is largest.

    The volumes are those of the autoPET challenge.

    Args:
        prediction_zyx: (D, H, W) bool.
        truth_zyx: (D, H, W) bool.
    """
    from scipy.optimize import linear_sum_assignment

    _check_masks(prediction_zyx, truth_zyx)
    cube = np.ones((3, 3, 3), dtype=bool)
    (predicted, n_predicted), (true, n_true) = (ndimage.label(mask, cube) for mask in (prediction_zyx, truth_zyx))
    pairs = true.astype(np.int64) * (n_predicted + 1) + predicted
    overlap = np.bincount(pairs.ravel(), minlength=(n_true + 1) * (n_predicted + 1)).reshape(n_true + 1, -1)
    sizes_true, sizes_predicted = overlap.sum(axis=1)[1:], overlap.sum(axis=0)[1:]
    both = overlap[1:, 1:]  # components of the truth, predicted components
    iou = both / (sizes_true[:, None] + sizes_predicted[None] - both)
    iou = np.where(iou > MATCHING_IOU, iou, 0)
    found = int((iou[linear_sum_assignment(iou, maximize=True)] > 0).sum())
    return LesionScores(
        found=found,
        missed=n_true - found,
        false=n_predicted - found,
        false_positive_voxels=int(sizes_predicted[~both.any(axis=0)].sum()),
        false_negative_voxels=int(sizes_true[~both.any(axis=1)].sum()),
    )


@contextmanager
def _quiet_monai() -> Iterator[None]:
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn about an argument that MONAI itself passes.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        yield


def _check_masks(prediction_zyx: NDArray, truth_zyx: NDArray) -> None:
    for mask in (prediction_zyx, truth_zyx):
        if mask.dtype != bool or mask.ndim != 3 or mask.shape != truth_zyx.shape:
            raise ValueError(f"Masks must be bool, 3D and of one shape, not {mask.dtype} {mask.shape}.")
