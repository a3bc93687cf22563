"""Dice, NSD and volumes by hand, against the formulas and against surface-distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_folder import SPACING_ZYX, box

from nnunetv2_promise.evaluation.metrics import dice, normalized_surface_dice


def test_dice_by_hand() -> None:
    a, b = box((4, 4, 4), (0, 1), (0, 1), (0, 4)), box((4, 4, 4), (0, 1), (0, 2), (2, 4))
    assert dice(a, b) == pytest.approx(2 * 2 / (4 + 4))
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0


@pytest.mark.parametrize("score", [dice, lambda a, b: normalized_surface_dice(a, b, spacing_zyx_mm=(1, 1, 1))])
def test_empty_masks(score: Any) -> None:
    full, empty = box((4, 4, 4), (1, 2), (1, 2), (1, 2)), np.zeros((4, 4, 4), dtype=bool)
    assert score(full, full) == 1
    assert score(full, empty) == 0
    assert score(empty, full) == 0
    assert np.isnan(score(empty, empty))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nsd_of_shifted_plates_uses_the_spacing_of_their_axis(axis: int) -> None:
    """Plates one voxel thick, two voxels apart: faces at 0, 1 and 2, 3, so distances are 2, 1 and 1, 2 spacings."""
    shape = tuple(4 if a == axis else 40 for a in range(3))
    ranges = [(5, 35)] * 3
    ranges[axis] = (0, 1)
    truth = box(shape, *ranges)
    prediction = np.roll(truth, 2, axis)
    spacing_mm = SPACING_ZYX[axis]

    def nsd(tolerance_in_spacings: float) -> float:
        tolerance_mm = tolerance_in_spacings * spacing_mm
        return normalized_surface_dice(prediction, truth, spacing_zyx_mm=SPACING_ZYX, tolerance_mm=tolerance_mm)

    assert nsd(0.99) == 0
    assert nsd(1.01) == pytest.approx(0.5, abs=0.02)
    assert nsd(1.99) == pytest.approx(0.5, abs=0.02)
    assert nsd(2.01) == 1


def test_nsd_tolerance_is_inclusive() -> None:
    truth = box((10, 12, 14), (3, 6), (4, 8), (5, 9))
    prediction = np.roll(truth, 1, 0)
    assert normalized_surface_dice(prediction, truth, spacing_zyx_mm=(5, 1, 1), tolerance_mm=5) == 1
    assert normalized_surface_dice(prediction, truth, spacing_zyx_mm=(5, 1, 1), tolerance_mm=4.9) < 0.9
    assert normalized_surface_dice(prediction, truth, spacing_zyx_mm=(5, 1, 1)) == 1  # 5 mm, unless told otherwise
    assert normalized_surface_dice(prediction, truth, spacing_zyx_mm=(5.1, 1, 1)) < 0.9


def test_nsd_counts_area_in_mm2() -> None:
    """One of two equal boxes found: 2 S / (2 S + S). With a second box of other shape: 2 A / (2 A + B)."""
    shape = (30, 60, 160)
    found, missed = box(shape, (2, 12), (5, 45), (5, 65)), box(shape, (2, 12), (5, 45), (85, 145))
    options = {"spacing_zyx_mm": SPACING_ZYX, "tolerance_mm": 1.0}
    assert normalized_surface_dice(found, found | missed, **options) == pytest.approx(2 / 3, rel=1e-5)
    assert normalized_surface_dice(found | missed, found, **options) == pytest.approx(2 / 3, rel=1e-5)

    def surface_mm2(z: int, y: int, x: int) -> float:
        z_mm, y_mm, x_mm = z * 5.0, y * 1.0, x * 0.7
        return 2 * (z_mm * y_mm + y_mm * x_mm + x_mm * z_mm)

    flat = box(shape, (20, 23), (5, 55), (5, 145))
    a_mm2, b_mm2 = surface_mm2(10, 40, 60), surface_mm2(3, 50, 140)
    expected = 2 * a_mm2 / (2 * a_mm2 + b_mm2)
    # Edges are rounded by half a voxel, which takes a few percent of the area.
    assert normalized_surface_dice(found, found | flat, **options) == pytest.approx(expected, rel=0.03)


def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    grid = np.indices((24, 40, 50)).transpose(1, 2, 3, 0)
    return (((grid - centre) / radii) ** 2).sum(axis=-1) <= 1


# Computed once with surface-distance-based-measures 0.1 for these ellipsoids and spacing_mm = (5.0, 1.0, 0.7).
SURFACE_DISTANCE_VALUES = {
    0: 0.258274462479516,
    0.5: 0.258274462479516,
    1: 0.4248138145484304,
    2: 0.5919482190084183,
    3: 0.7575992912980094,
    5: 0.9359332997586888,
    8: 0.9896088683713496,
}


@pytest.mark.parametrize("tolerance_mm", SURFACE_DISTANCE_VALUES)
def test_nsd_equals_surface_distance(tolerance_mm: float) -> None:
    truth, prediction = ellipsoid((12, 20, 24), (5, 12, 16)), ellipsoid((13, 23, 22), (6, 10, 17))
    score = normalized_surface_dice(prediction, truth, spacing_zyx_mm=(5.0, 1.0, 0.7), tolerance_mm=tolerance_mm)
    assert score == pytest.approx(SURFACE_DISTANCE_VALUES[tolerance_mm], abs=1e-5)


def test_nsd_at_the_border_of_the_image() -> None:
    """The border counts as outside, so padding changes nothing."""
    truth, prediction = ellipsoid((2, 38, 24), (5, 12, 16)), ellipsoid((3, 36, 45), (6, 10, 17))
    options = {"spacing_zyx_mm": (5.0, 1.0, 0.7), "tolerance_mm": 2.0}
    padded = normalized_surface_dice(np.pad(prediction, 3), np.pad(truth, 3), **options)
    assert normalized_surface_dice(prediction, truth, **options) == pytest.approx(padded, abs=1e-6)


def test_metrics_bad_arguments() -> None:
    mask = np.ones((2, 3, 4), dtype=bool)
    with pytest.raises(ValueError, match="Masks must be bool"):
        dice(mask.astype(int), mask)
    for pair in ((mask[:1], mask), (mask, mask[:1]), (mask[0], mask[0]), (mask[None], mask[None])):
        with pytest.raises(ValueError, match="of one shape"):
            dice(*pair)
    for tolerance_mm in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"tolerance_mm is {tolerance_mm}"):
            normalized_surface_dice(mask, mask, spacing_zyx_mm=(1, 1, 1), tolerance_mm=tolerance_mm)
