"""What a user does in one go: a click, or the clicks that a scribble stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.prompts.scribbles import scribble_clicks


class Interaction(NamedTuple):
    """Clicks that are made at once.

    Attributes:
        voxels: (n, 3), in the axis order of the array that is clicked on.
        positive: Whether the object is there.
    """

    voxels: Sequence[Sequence[int]]
    positive: bool


class OrderedClicks(NamedTuple):
    """All clicks on one object, in the order in which they count.

    Attributes:
        points_zyx: (n, 3) float.
        positive: (n,) bool, whether each is on the object.
        at_once: How many clicks each interaction makes; their sum is n.
    """

    points_zyx: NDArray[np.float64]
    positive: NDArray[np.bool_]
    at_once: tuple[int, ...]


def order_clicks(
    scribbles_zyx: Sequence[NDArray[np.float64]], clicks_zyx: NDArray[np.float64], positive: NDArray[np.bool_]
) -> OrderedClicks:
    """Scribbles come first, each as clicks made at once; then the clicks one by one.

    Args:
        scribbles_zyx: (k, 3) for each scribble.
        clicks_zyx: (n, 3).
        positive: (n,).
    """
    drawn = [scribble_clicks(scribble) for scribble in scribbles_zyx]
    made = sum(map(len, drawn))
    return OrderedClicks(
        points_zyx=np.concatenate([*drawn, clicks_zyx.reshape(-1, 3)]),
        positive=np.concatenate([np.ones(made, bool), positive]),
        at_once=(*map(len, drawn), *(1 for _ in positive)),
    )


def split_interactions(voxels: Sequence[Any], positive: Sequence[Any], at_once: Sequence[int]) -> Iterator[Interaction]:
    """The interactions of an object, from all of its clicks in their order.

    Args:
        voxels: (n, 3).
        positive: (n,).
        at_once: As in ``OrderedClicks``.
    """
    for stop, count in zip(accumulate(at_once), at_once, strict=True):
        yield Interaction(voxels[stop - count : stop], bool(positive[stop - count]))
