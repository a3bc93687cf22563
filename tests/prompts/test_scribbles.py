"""Which clicks a scribble stands for."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_promise.prompts.scribbles import scribble_clicks


@pytest.mark.parametrize(
    ("line", "clicks"),
    [
        ([[3, 4, 5]], [[3, 4, 5]]),
        ([[3, 4, 5], [3, 4, 5]], [[3, 4, 5]]),
        ([[0, 0, 0], [0, 0, 3]], [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]]),
        # Round a corner: evenly along the line, not from point to point.
        ([[0, 0, 0], [0, 0, 1], [0, 3, 1]], [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 2, 1], [0, 3, 1]]),
    ],
)
def test_clicks_lie_evenly_on_the_line_with_both_ends(line: list, clicks: list) -> None:
    np.testing.assert_allclose(scribble_clicks(line), clicks)


def test_long_line_is_ten_clicks() -> None:
    found = scribble_clicks([[0, 0, 0], [0, 0, 50], [0, 40, 50]])
    assert len(found) == 10
    np.testing.assert_allclose(found[[0, 5, 9]], [[0, 0, 0], [0, 0, 50], [0, 40, 50]])
