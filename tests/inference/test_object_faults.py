"""What is said of a mask, on volumes of a few voxels."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_promise.inference.object_faults import (
    CUT,
    EMPTY,
    MISSED,
    cut_faces,
    describe,
    faults,
    holds,
    is_cut,
    window_faults,
)
from nnunetv2_promise.inference.placement import Window


def window(
    start: tuple[int, int, int] = (3, 3, 3),
    shape: tuple[int, int, int] = (12, 12, 12),
    click: tuple[int, ...] = (2, 2, 2),
) -> Window:
    """A window of 5 x 6 x 7 voxels."""
    return Window(
        label_head=1, box=((0, 12),) * 3, resampled_shape=shape, start=start, size=(5, 6, 7), points=(click,)
    )  # fmt: skip


def logits(*voxels: tuple[int, ...]) -> np.ndarray:
    """Foreground in these voxels of a window."""
    array = np.full((5, 6, 7), -1.0, np.float32)
    for voxel in voxels:
        array[voxel] = 1.0
    return array


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("side", "place"), [(0, 0), (1, -1)])
def test_a_face_is_cut_where_the_mask_touches_it_and_the_scan_continues(axis: int, side: int, place: int) -> None:
    voxel = [2, 2, 2]
    voxel[axis] = place
    mask = logits(tuple(voxel)) > 0
    expected = np.zeros((3, 2), bool)
    expected[axis, side] = True
    np.testing.assert_array_equal(cut_faces(window(), mask), expected)
    voxel[axis] = 1 if side == 0 else -2
    assert not cut_faces(window(), logits(tuple(voxel)) > 0).any()


def test_a_window_that_ends_where_the_scan_does_cuts_nothing() -> None:
    everywhere = np.ones((5, 6, 7), bool)
    assert not cut_faces(window((0, 0, 0), (5, 6, 7)), everywhere).any()
    assert not cut_faces(window((-1, -2, -3), (4, 4, 4)), everywhere).any()
    assert not cut_faces(window((-1, -1, -1), (3, 3, 3)), everywhere).any()
    assert cut_faces(window((0, 0, 0), (6, 7, 8)), everywhere).tolist() == [[False, True]] * 3
    assert cut_faces(window((1, 1, 1), (6, 7, 8)), everywhere).tolist() == [[True, False]] * 3


@pytest.mark.parametrize("step", [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
def test_a_mask_is_cut_where_growth_stopped_beside_it(step: tuple[int, ...]) -> None:
    logit = logits((2, 2, 3))
    logit[2 + step[0], 2 + step[1], 3 + step[2]] = np.nan
    assert is_cut(window(), logit)
    moved = logits((2, 2, 3))
    moved[2 + 2 * step[0], 2 + 2 * step[1], 3 + 2 * step[2]] = np.nan
    assert not is_cut(window(), moved)


def test_a_mask_is_where_foreground_is_more_probable() -> None:
    logit = logits((2, 2, 2))
    logit[0, 2, 2] = 0.5
    assert is_cut(window(), logit)
    logit[0, 2, 2] = 0
    assert not is_cut(window(), logit)


def test_nothing_is_cut_where_the_unseen_lies_beside_background() -> None:
    logit = logits((2, 2, 3))
    logit[0] = logit[4] = np.nan
    logit[1, 1, 1] = np.nan
    assert not is_cut(window(), logit)


def test_a_mask_holds_its_clicks_if_it_holds_all_of_them() -> None:
    mask = logits((1, 2, 3), (4, 5, 6)) > 0
    assert holds(mask, [(1, 2, 3), (4, 5, 6)])
    assert not holds(mask, [(1, 2, 3), (4, 5, 5)])
    assert not holds(mask, [(3, 2, 1)])


@pytest.mark.parametrize(
    ("logit", "expected"),
    [
        (logits(), [EMPTY]),
        (logits() / 2, [EMPTY]),
        (logits() * 0, [EMPTY]),
        (logits((2, 2, 2)), []),
        (logits((2, 2, 2)) / 2, []),
        (logits((3, 3, 3)), [MISSED]),
        (logits((2, 2, 2), (0, 2, 2)), [CUT]),
        (logits((0, 2, 2)), [MISSED, CUT]),
    ],
)
def test_faults_of_a_window(logit: np.ndarray, expected: list[str]) -> None:
    assert window_faults(window(), logit) == expected


def test_faults_are_one_line() -> None:
    assert faults(empty=False, holds_click=False, cut=True) == [MISSED, CUT]
    assert describe("Case 'a', object 2", [MISSED, CUT]) == f"Case 'a', object 2: {MISSED}; {CUT}."
