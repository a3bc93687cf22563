"""A scribble as clicks, for models that take nothing but clicks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCRIBBLE_CLICKS = 10


def scribble_clicks(points: ArrayLike) -> NDArray[np.float64]:
    """The clicks that a scribble stands for: places on its line, evenly spaced, both of its ends among them.

    Args:
        points: (n, 3), the voxels that the line runs through, n >= 1.

    Returns:
        (m, 3); m is ``SCRIBBLE_CLICKS``, or less on a line that is shorter than that many voxels.
    """
    corners = np.asarray(points, float).reshape(-1, 3)
    steps = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.linspace(0, along[-1], min(SCRIBBLE_CLICKS, int(along[-1]) + 1))
    return np.stack([np.interp(places, along, column) for column in corners.T], axis=1)
