from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.image_grids import PreprocessedGrid


def grid(shape: tuple[int, ...], transpose: tuple[int, ...] = (0, 1, 2)) -> PreprocessedGrid:
    """An image of 10 x 12 x 14 whose content starts at (2, 3, 4) and has 6 x 8 x 8 voxels."""
    whole, low, size = (10, 12, 14), (2, 3, 4), (6, 8, 8)
    box = [[low[axis], low[axis] + size[axis]] for axis in transpose]
    properties = {
        "shape_before_cropping": tuple(whole[axis] for axis in transpose),
        "bbox_used_for_cropping": box,
    }
    return PreprocessedGrid(properties, shape, transpose, tuple(np.argsort(transpose)))


def test_unchanged_spacing_moves_by_the_crop() -> None:
    same = grid((6, 8, 8))
    assert same.to_preprocessed(np.array([[2, 3, 4], [7, 10, 11]])).tolist() == [[0, 0, 0], [5, 7, 7]]
    logits = np.full((6, 8, 8), np.nan, np.float32)
    logits[1:3, 2:5, 7] = 4.0
    mask = same.to_image(logits, unseen=-30.0)
    expected = np.zeros((10, 12, 14), bool)
    expected[3:5, 5:8, 11] = True
    np.testing.assert_array_equal(mask, expected)


def test_voxels_and_masks_are_resampled_edge_to_edge() -> None:
    """Half of the voxels along the first axis, twice as many along the last."""
    other = grid((3, 8, 16))
    assert other.to_preprocessed(np.array([[2, 3, 4], [5, 3, 5]])).tolist() == [[0, 0, 1], [1, 0, 3]]
    logits = np.full((3, 8, 16), -8.0, np.float32)
    logits[1, 2:4, 4:8] = 8.0
    mask = other.to_image(logits, unseen=-30.0)
    expected = np.zeros((10, 12, 14), bool)
    expected[4:6, 5:7, 6:8] = True
    np.testing.assert_array_equal(mask, expected)
    back = other.mask_to_preprocessed(mask)
    np.testing.assert_array_equal(back, logits > 0)


def test_a_mask_ends_where_the_interpolated_logit_is_zero() -> None:
    """Twice as many voxels along the first axis; a quarter of a voxel further the logit is -0.875."""
    coarse = grid((3, 8, 8))
    logits = np.full((3, 8, 8), -1.5, np.float32)
    logits[1] = 1.0
    mask = coarse.to_image(logits, unseen=-30.0)
    assert np.flatnonzero(mask.any((1, 2))).tolist() == [2 + 2, 2 + 3]
    assert mask[4:6, 3:11, 4:12].all()
    for middle, planes in ((4.4, [4, 5]), (4.6, [3, 4, 5, 6]), (6.0, [3, 4, 5, 6])):  # 4.5 gives 0 there
        logits[1] = middle
        assert np.flatnonzero(coarse.to_image(logits, unseen=-30.0).any((1, 2))).tolist() == planes


def test_transposed_axes_come_back() -> None:
    turned = grid((8, 6, 8), transpose=(2, 0, 1))
    assert turned.to_preprocessed(np.array([[2, 3, 11]])).tolist() == [[7, 0, 0]]
    logits = np.full((8, 6, 8), -1.0, np.float32)
    logits[7, 0, 0] = 1.0
    mask = turned.to_image(logits, unseen=-30.0)
    assert np.argwhere(mask).tolist() == [[2, 3, 11]]
    np.testing.assert_array_equal(turned.mask_to_preprocessed(mask), logits > 0)


def test_empty_mask_is_empty() -> None:
    assert not grid((6, 8, 8)).to_image(np.full((6, 8, 8), np.nan, np.float32), unseen=-30.0).any()


@pytest.mark.parametrize(
    "voxel", [(1, 3, 4), (2, 2, 4), (2, 3, 3), (8, 3, 4), (2, 11, 4), (2, 3, 12), (9, 3, 4), (0, 3, 4)]
)
def test_click_in_the_zeros_around_the_content_is_refused(voxel: tuple[int, ...]) -> None:
    same, inside = grid((6, 8, 8)), (2, 3, 4)
    assert same.holds(np.array([inside, (7, 10, 11)]))
    assert not same.holds(np.array([inside, voxel]))
    with pytest.raises(UserError, match="zeros around the image's content"):
        same.to_preprocessed(np.array([voxel]))
