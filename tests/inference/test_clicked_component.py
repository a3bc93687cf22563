"""Only what is connected with a click stays in an answer."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_promise.inference.clicked_component import keep_clicked

NAN = float("nan")
# One row of voxels along the last axis: two marked runs, one voxel that no patch saw.
ROW = np.array([[[3.0, 2.0, -1.0, 4.0, 5.0, NAN, -2.0, 6.0]]], np.float32)


@pytest.mark.parametrize(
    ("clicks", "expected"),
    [
        ([[0, 0, 1]], [3, 2, -1, -4, -5, NAN, -2, -6]),
        ([[0, 0, 3]], [-3, -2, -1, 4, 5, NAN, -2, -6]),
        ([[0, 0, 0], [0, 0, 7]], [3, 2, -1, -4, -5, NAN, -2, 6]),
        ([[0, 0, 6]], [-3, -2, -1, -4, -5, NAN, -2, 6]),  # on none: the nearest
        ([[0, 0, 5], [0, 0, 7]], [-3, -2, -1, 4, 5, NAN, -2, 6]),  # one of two is on none
    ],
)
def test_components_without_a_click_become_background(clicks: list[list[int]], expected: list[float]) -> None:
    np.testing.assert_array_equal(keep_clicked(ROW, clicks)[0, 0], np.array(expected, np.float32))


def test_every_positive_logit_is_marked() -> None:
    row = np.array([[[0.1, -0.1, 0.2, -3.0, 0.3]]], np.float32)
    np.testing.assert_allclose(keep_clicked(row, [[0, 0, 2]])[0, 0], [-0.1, -0.1, 0.2, -3.0, -0.3])
    np.testing.assert_allclose(keep_clicked(row[..., :3], [[0, 0, 2]])[0, 0], [-0.1, -0.1, 0.2])


def test_corners_connect() -> None:
    logit = np.full((2, 2, 2), -1.0, np.float32)
    logit[0, 0, 0] = logit[1, 1, 1] = 1
    np.testing.assert_array_equal(keep_clicked(logit, [[0, 0, 0]]), logit)


def test_one_component_or_none_stays_as_it_is() -> None:
    one = np.array([[[1.0, 2.0, -1.0]]], np.float32)
    for logit in (one, -np.abs(one)):
        before = logit.copy()
        assert keep_clicked(logit, [[0, 0, 2]]) is logit
        np.testing.assert_array_equal(logit, before)
