"""Lesions and Hausdorff distances that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunetv2_promise.evaluation.metrics import LesionScores, hausdorff_distance_95, score_lesions

SHAPE = (4, 6, 40)


def bars(*ends: tuple[int, int]) -> np.ndarray:
    """Rows of voxels along x, from one end to before the other."""
    mask = np.zeros(SHAPE, bool)
    for first, last in ends:
        mask[1, 1, first:last] = True
    return mask


LESIONS = {
    "nothing at all": (bars(), bars(), LesionScores(0, 0, 0, 0, 0)),
    "all missed": (bars(), bars((0, 4), (6, 8)), LesionScores(0, 2, 0, 0, 6)),
    "all false": (bars((0, 4), (6, 8)), bars(), LesionScores(0, 0, 2, 6, 0)),
    "one beside the other": (bars((0, 3)), bars((6, 8)), LesionScores(0, 1, 1, 3, 2)),
    "found, missed, and two false ones": (
        bars((0, 3), (20, 25), (30, 31)),
        bars((1, 4), (10, 12)),
        LesionScores(found=1, missed=1, false=2, false_positive_voxels=6, false_negative_voxels=2),
    ),
    # 1 of 10 voxels is an IoU of 0.1, which is not more than 0.1; neither component is untouched.
    "overlap of a tenth": (bars((9, 10)), bars((0, 10)), LesionScores(0, 1, 1, 0, 0)),
    "overlap of a ninth": (bars((8, 9)), bars((0, 9)), LesionScores(1, 0, 0, 0, 0)),
    # One component over two lesions finds one of them.
    "two lesions in one": (bars((0, 9)), bars((0, 4), (5, 9)), LesionScores(1, 1, 0, 0, 0)),
    # The second component fits the first lesion best (IoU of 0.4), but then only one lesion would be found.
    "most IoU in total": (bars((0, 3), (4, 15)), bars((0, 10), (11, 17)), LesionScores(2, 0, 0, 0, 0)),
    # 7 / 13 of one pair is more than 2 / 10 and 2 / 11 of two.
    "most IoU in one pair": (bars((0, 2), (3, 13)), bars((0, 10), (11, 14)), LesionScores(1, 1, 1, 0, 0)),
}


@pytest.mark.parametrize(("predicted", "true", "expected"), LESIONS.values(), ids=LESIONS.keys())
def test_lesions_by_hand(predicted: np.ndarray, true: np.ndarray, expected: LesionScores) -> None:
    assert score_lesions(predicted, true) == expected


def test_lesions_that_touch_at_a_corner_are_one() -> None:
    true = np.zeros(SHAPE, bool)
    true[0, 0, 0] = true[1, 1, 1] = True
    assert score_lesions(true, true).found == 1


@pytest.mark.parametrize(("axis", "expected"), [(0, 2 * 5.0), (1, 2 * 0.7), (2, 2 * 0.4)])
def test_hausdorff_distance_of_a_shifted_voxel_is_in_mm(axis: int, expected: float) -> None:
    true, predicted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    true[1, 1, 1] = True
    predicted[tuple(1 + 2 * (axis == other) for other in range(3))] = True
    assert hausdorff_distance_95(predicted, true, spacing_zyx_mm=(5.0, 0.7, 0.4)) == pytest.approx(expected)


def test_hausdorff_distance_leaves_the_farthest_twentieth_out() -> None:
    """Of 30 voxels one lies ten voxels off, then three of 32."""
    true, predicted = bars((0, 29)), bars((0, 29))
    predicted[1, 1, 38] = True
    assert hausdorff_distance_95(predicted, true, spacing_zyx_mm=(1, 1, 1)) == 0
    predicted[1, 1, 36:39] = True  # 3 of 32
    assert hausdorff_distance_95(predicted, true, spacing_zyx_mm=(1, 1, 1)) > 7
    true, predicted = bars((0, 19)), bars((0, 19), (25, 26), (38, 39))  # 7 and 20 voxels off, of 21
    assert hausdorff_distance_95(predicted, true, spacing_zyx_mm=(1, 1, 1)) == pytest.approx(7)


@pytest.mark.filterwarnings("error:.*all 0")
def test_hausdorff_distance_of_an_empty_mask_is_not_a_number() -> None:
    """MONAI is not asked: it would warn of every such case."""
    full, empty = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    for pair in ((full, empty), (empty, full), (empty, empty)):
        assert math.isnan(hausdorff_distance_95(*pair, spacing_zyx_mm=(1, 1, 1)))
