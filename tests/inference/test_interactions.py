"""Clicks and scribbles of an object in the order in which they count, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_promise.inference.interactions import order_clicks, split_interactions

SCRIBBLE = np.array([[0.0, 0, 0], [0, 0, 4]])


def test_scribbles_come_first_as_clicks_made_at_once() -> None:
    signs = np.array([True, False])
    ordered = order_clicks([SCRIBBLE, SCRIBBLE + 1], np.array([[7.0, 8, 9], [1, 2, 3]]), signs)
    drawn = len(ordered.points_zyx) - 2
    assert ordered.at_once == (drawn // 2, drawn // 2, 1, 1)
    assert drawn > 2
    assert ordered.points_zyx[0].tolist() == [0, 0, 0]
    assert ordered.points_zyx[drawn // 2 - 1].tolist() == [0, 0, 4]
    assert ordered.points_zyx[drawn // 2].tolist() == [1, 1, 1]
    assert ordered.points_zyx[-2:].tolist() == [[7, 8, 9], [1, 2, 3]]
    assert ordered.positive.tolist() == [True] * (drawn + 1) + [False]


@pytest.mark.parametrize("empty", [np.zeros((0, 3)), np.array([])])
def test_a_scribble_alone_needs_no_click(empty: np.ndarray) -> None:
    ordered = order_clicks([SCRIBBLE], empty, np.array([], bool))
    assert ordered.points_zyx.shape == (ordered.at_once[0], 3)
    assert len(ordered.at_once) == 1
    assert ordered.positive.all()


def test_interactions_take_their_clicks_and_the_sign_of_the_first() -> None:
    voxels, signs = list("abcdef"), [True, True, False, True, False, False]
    found = list(split_interactions(voxels, signs, (2, 1, 1, 2)))
    assert [(part.voxels, part.positive) for part in found] == [
        (["a", "b"], True),
        (["c"], False),
        (["d"], True),
        (["e", "f"], False),
    ]
