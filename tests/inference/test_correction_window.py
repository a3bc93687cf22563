"""The window in which one object is corrected: what fits into the planned size, and what is asked in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_window_cutting import COUNTED, clicks, make_cutter

from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.correction_window import cut_around_all, cut_around_first

SIZE = (8, 8, 8)
FIRST = (9, 11, 13)
"""A window of 8 voxels around it starts at (5, 7, 9) and ends before (13, 15, 17)."""


def mask_of(*voxels: Sequence[int]) -> np.ndarray:
    mask = np.zeros(COUNTED.shape[1:], bool)
    mask[tuple(np.transpose(voxels))] = True
    return mask


def corrected(mask: np.ndarray | None, *points: Sequence[float], positive: Sequence[bool] | None = None) -> VoxelPrompt:
    signs = None if positive is None else np.array(positive)
    return VoxelPrompt(1, np.array(points, float), "object", positive=signs, previous_mask=mask)


@pytest.mark.parametrize(
    ("second", "fits"),
    [
        ((5, 7, 9), True),  # the window's first voxel
        ((12, 14, 16), True),  # its last one
        ((4, 11, 13), False),
        ((9, 6, 13), False),
        ((9, 11, 8), False),
        ((13, 11, 13), False),
        ((9, 15, 13), False),
        ((9, 11, 17), False),
        ((4.6, 11, 13), True),  # nearest to the first voxel
        ((12.4, 11, 13), True),
        ((4.4, 15.6, 13), False),  # beyond two edges
        ((19, 11, 13), False),  # and far beyond one
        ((9, 11, 1), False),
    ],
)
def test_the_planned_window_is_used_where_it_holds_every_click(second: tuple[float, ...], fits: bool) -> None:
    asked = cut_around_first(make_cutter(), clicks(FIRST, second), SIZE)
    assert (asked is not None) == fits
    if asked is not None:
        nearest = np.floor(np.array(second) + 0.5).astype(int)
        assert [step.voxels for step in asked.corrections.interactions] == [
            [[4, 4, 4]],
            [(nearest - (5, 7, 9)).tolist()],
        ]
        np.testing.assert_array_equal(asked.image[0], COUNTED[0, 5:13, 7:15, 9:17])
        assert asked.corrections.previous_mask is None
        assert asked.window.corrected


def test_negative_clicks_are_no_points_of_the_window_but_are_asked() -> None:
    prompt = corrected(None, FIRST, (10, 11, 13), (9, 12, 13), positive=[True, False, True])
    asked = cut_around_first(make_cutter(), prompt, SIZE)
    assert asked is not None
    assert asked.window.points == ((4, 4, 4), (4, 5, 4))
    assert [step.positive for step in asked.corrections.interactions] == [True, False, True]


def test_the_planned_window_lies_around_all_clicks_of_the_first_interaction() -> None:
    prompt = VoxelPrompt(1, np.array([FIRST, (9, 11, 17), (9, 11, 14)], float), "object", at_once=(2, 1))
    asked = cut_around_first(make_cutter(), prompt, SIZE)
    assert asked is not None
    assert [step.voxels for step in asked.corrections.interactions] == [[[4, 4, 2], [4, 4, 6]], [[4, 4, 3]]]


@pytest.mark.parametrize(
    ("voxel", "fits"),
    [((5, 7, 9), True), ((12, 14, 16), True), ((4, 11, 13), False), ((9, 15, 13), False), ((9, 11, 17), False),
     ((0, 0, 0), False)],
)  # fmt: skip
def test_the_planned_window_is_used_where_it_holds_the_mask(voxel: tuple[int, ...], fits: bool) -> None:
    asked = cut_around_first(make_cutter(), corrected(mask_of(FIRST, voxel), FIRST), SIZE)
    assert (asked is not None) == fits
    if asked is not None:
        places = np.array([FIRST, voxel]) - (5, 7, 9)
        assert sorted(np.argwhere(asked.corrections.previous_mask).tolist()) == sorted(places.tolist())


def test_the_large_window_holds_clicks_and_mask_with_a_planned_window_around_each() -> None:
    voxels = ((2, 11, 13), (9, 11, 20))
    asked = cut_around_all(make_cutter(), corrected(mask_of(FIRST, *voxels), FIRST), SIZE)
    # The mask reaches 7 voxels along the first and the last axis; two more for rounding.
    assert asked.window.size == (8 + 7 + 2, 8 + 2, 8 + 7 + 2)
    before = np.argwhere(asked.corrections.previous_mask)
    (((click,), _),) = asked.corrections.interactions
    assert sorted((before - click).tolist()) == sorted((np.array([FIRST, *voxels]) - FIRST).tolist())
    for place in before:
        assert (place >= 4).all()
        assert (place <= np.array(asked.window.size) - 4).all()


def test_an_empty_mask_asks_for_no_larger_window_but_is_told() -> None:
    asked = cut_around_all(make_cutter(), corrected(mask_of(FIRST) & False, FIRST), SIZE)
    assert asked.window.size == (8 + 2, 8 + 2, 8 + 2)
    assert asked.corrections.previous_mask is not None
    assert not asked.corrections.previous_mask.any()


@pytest.mark.parametrize(
    ("second", "apart"), [((10, 12, 12), (8, 4, 2)), ((10.2, 12.2, 12.2), (9, 5, 3)), ((6, 7.8, 8), (0, 1, 0))]
)
def test_the_large_window_counts_in_voxels_of_the_network(second: tuple[float, ...], apart: tuple[int, ...]) -> None:
    """Voxels of 2, 1 and 0.5 mm in a network of 1 mm: clicks 4 voxels apart are 8, 4 and 2 of the network's."""
    cutter = make_cutter(spacing=(2.0, 1.0, 0.5), resample=lambda data, shape, *_: np.zeros((1, *shape), np.float32))
    asked = cut_around_all(cutter, clicks((6, 8, 8), second), SIZE)
    assert asked.window.size == tuple(8 + between + 2 for between in apart)


def test_a_mask_in_the_zeros_around_the_scan_is_left_out() -> None:
    data = COUNTED.copy()
    data[:, :6] = 0
    asked = cut_around_first(make_cutter(data), corrected(mask_of(FIRST, (5, 11, 13), (0, 0, 0)), FIRST), SIZE)
    assert asked is not None
    assert np.argwhere(asked.corrections.previous_mask).tolist() == [[4, 4, 4]]


def test_the_mask_follows_the_axes_of_the_network() -> None:
    cutter = make_cutter(transpose=(2, 0, 1))
    asked = cut_around_first(cutter, corrected(mask_of(FIRST, (9, 12, 15)), FIRST), SIZE)
    assert asked is not None
    assert np.argwhere(asked.corrections.previous_mask).tolist() == [[4, 4, 4], [6, 4, 5]]
