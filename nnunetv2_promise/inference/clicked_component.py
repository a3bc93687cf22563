"""The part of an answer that belongs to the clicked object: an object is one connected component."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


def keep_clicked(logit: np.ndarray, clicks: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Turn what is not connected with a click into background.

    Models whose target is the clicked object learn one connected component (26 neighbours) for each click; what they
    mark elsewhere in the window is another object.

    Args:
        logit: (D, H, W) float32 foreground logit of a window, NaN where no patch looked.
        clicks: (n, 3) voxels of the window, on the object.

    Returns:
        (D, H, W) float32. The component that holds a click stays, or the one nearest to it (in voxels). The logits of
        the others change their sign.
    """
    mask = logit > 0  # NaN is not
    components, number = ndimage.label(mask, structure=_NEIGHBOURS_26)
    if number < 2:
        return logit
    marked = np.argwhere(mask)
    nearest = KDTree(marked).query(np.asarray(clicks, int).reshape(-1, 3))[1]
    kept = components[tuple(marked[nearest].T)]
    return np.where(mask & ~np.isin(components, kept), -logit, logit)
