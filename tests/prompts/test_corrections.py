from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnunetv2_promise.prompts.corrections import next_click


def boxes(shape: tuple[int, int, int], *corners: tuple[int, ...]) -> np.ndarray:
    """1 within each (z0, z1, y0, y1, x0, x1)."""
    array = np.zeros(shape, np.uint8)
    for z0, z1, y0, y1, x0, x1 in corners:
        array[z0:z1, y0:y1, x0:x1] = 1
    return array


def test_next_click_on_an_empty_mask_is_the_deepest_voxel_and_positive() -> None:
    truth = boxes((9, 9, 12), (2, 7, 2, 7, 3, 8))
    assert next_click(truth, np.zeros_like(truth), (1, 1, 1)) == ((4, 4, 5), True)


def test_next_click_takes_whatever_is_not_zero_as_the_object() -> None:
    truth = -boxes((9, 9, 12), (2, 7, 2, 7, 3, 8)).astype(np.int8)
    assert next_click(truth, np.zeros_like(truth), (1, 1, 1)) == ((4, 4, 5), True)
    assert next_click(np.zeros_like(truth), truth, (1, 1, 1)) == ((4, 4, 5), False)


def test_next_click_falls_into_the_larger_error_and_says_its_sign() -> None:
    truth = boxes((5, 7, 30), (1, 4, 1, 6, 1, 6))
    missed = boxes(truth.shape, (1, 4, 1, 6, 1, 3))  # the mask holds a part of the object, and 3 x 5 x 9 voxels of air
    mask = (truth & ~missed) | boxes(truth.shape, (1, 4, 1, 6, 15, 24))
    assert next_click(truth, mask, (1, 1, 1)) == ((2, 3, 19), False)
    small_false_positive = (truth & ~missed) | boxes(truth.shape, (1, 2, 1, 2, 15, 24))
    assert next_click(truth, small_false_positive, (1, 1, 1)) == ((2, 3, 1), True)


def test_next_click_takes_errors_of_both_signs_that_touch_as_one_region() -> None:
    """Two missed regions of 9 voxels: one alone, the other beside 5 voxels that were found falsely."""
    truth = boxes((1, 3, 20), (0, 1, 0, 3, 0, 3), (0, 1, 0, 3, 10, 13))
    mask = boxes(truth.shape, (0, 1, 1, 2, 13, 18))
    (_, _, x), _ = next_click(truth, mask, (1, 1, 1)) or ((0, 0, 0), False)
    assert x >= 10


def test_next_click_joins_voxels_that_touch_by_a_corner() -> None:
    truth = np.zeros((4, 4, 8), np.uint8)
    truth[0, 0, 0] = truth[1, 1, 1] = truth[2, 2, 2] = 1  # 3 voxels in 26-connectivity
    truth[0, 0, 6] = truth[0, 0, 7] = 1
    point, positive = next_click(truth, np.zeros_like(truth), (1, 1, 1)) or ((9, 9, 9), False)
    assert positive
    assert point == (1, 1, 1)


def test_next_click_measures_depth_in_mm() -> None:
    """A plate, 1 x 9 x 9 voxels thick slices, joined to a rod: which of them is deeper depends on the spacing."""
    truth = np.zeros((20, 12, 12), np.uint8)
    truth[1:4, 1:10, 1:10] = 1
    truth[4:20, 1:6, 1:6] = 1
    empty = np.zeros_like(truth)
    thick = next_click(truth, empty, (2.4, 1.0, 1.0))
    thin = next_click(truth, empty, (0.5, 1.0, 1.0))
    assert thick is not None
    assert thin is not None
    assert thick[0][0] < 5
    assert thin[0][0] > 4


@pytest.mark.parametrize("seed", range(4))
def test_next_click_equals_a_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.random((8, 9, 10)), 1.0) > 0.5
    mask = ndimage.gaussian_filter(rng.random((8, 9, 10)), 1.0) > 0.5
    spacing = np.array((2.0, 1.0, 0.7))
    error = truth != mask
    remaining, largest = set(map(tuple, np.argwhere(error).tolist())), set()
    while remaining:
        component, front = set(), [remaining.pop()]
        while front:
            voxel = front.pop()
            component.add(voxel)
            near = {other for other in remaining if max(abs(a - b) for a, b in zip(voxel, other, strict=True)) <= 1}
            remaining -= near
            front += near
        largest = max(largest, component, key=len)
    outside = [
        index for index in np.ndindex(*(n + 2 for n in error.shape)) if tuple(i - 1 for i in index) not in largest
    ]
    beyond = np.array(outside) - 1
    depth = {v: np.linalg.norm((beyond - v) * spacing, axis=1).min() for v in largest}
    point, positive = next_click(truth, mask, spacing) or ((0, 0, 0), False)
    assert depth[point] == pytest.approx(max(depth.values()))
    assert positive == truth[point]


def test_next_click_on_a_right_mask_is_none() -> None:
    truth = boxes((3, 3, 3), (1, 2, 1, 2, 1, 2))
    assert next_click(truth, truth * 7, (1, 1, 1)) is None


def test_next_click_refuses_two_grids() -> None:
    small, large = np.zeros((3, 3, 3)), np.zeros((3, 3, 4))
    for truth, mask in ((small, large), (large, small)):
        with pytest.raises(ValueError, match="must share one grid"):
            next_click(truth, mask, (1, 1, 1))
