"""What may be wrong with the mask of one object, in one line for the user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunetv2_promise.inference.placement import Window

IN_PADDING = "its clicks lie in the zeros around the scan, so its mask is empty"
EMPTY = "its mask is empty; click where the object is"
MISSED = "the mask does not hold its click; look whether it is the clicked object"
CUT = "the mask touches the edge of its window and may be cut off"


def describe(name: str, faults: Sequence[str]) -> str:
    """One line about an object, such as ``Case 'a', object 2: the mask ...``."""
    return f"{name}: {'; '.join(faults)}."


def faults(*, empty: bool, holds_click: bool, cut: bool) -> list[str]:
    """What is wrong with a mask, in words; nothing if all is well."""
    if empty:
        return [EMPTY]
    return ([] if holds_click else [MISSED]) + ([CUT] if cut else [])


def window_faults(window: Window, logit: np.ndarray) -> list[str]:
    """What is wrong with the mask of a window.

    Args:
        window: The window.
        logit: (D, H, W) foreground logit, NaN where no patch looked.
    """
    mask = logit > 0
    return faults(empty=not mask.any(), holds_click=holds(mask, window.points), cut=is_cut(window, logit))


def is_cut(window: Window, logit: np.ndarray) -> bool:
    """Whether a mask ends where its window ends, or where growth stopped, and not where the object does."""
    mask = logit > 0
    return bool(cut_faces(window, mask).any()) or _ends_unseen(mask, np.isnan(logit))


def holds(mask: np.ndarray, voxels: Sequence[Sequence[int]] | np.ndarray) -> bool:
    """Whether a mask holds every one of (n, 3) voxels."""
    return bool(mask[tuple(np.asarray(voxels, int).reshape(-1, 3).T)].all())


def cut_faces(window: Window, mask: np.ndarray) -> np.ndarray:
    """The faces of a window that its mask touches although the scan continues behind them.

    Returns:
        (3, 2) bool: lower and upper face of each axis.
    """
    faces = np.zeros((3, 2), bool)
    for axis, (start, length, end) in enumerate(zip(window.start, window.size, window.resampled_shape, strict=True)):
        faces[axis, 0] = start > 0 and mask.take(0, axis).any()
        faces[axis, 1] = start + length < end and mask.take(-1, axis).any()
    return faces


def _ends_unseen(mask: np.ndarray, unseen: np.ndarray) -> bool:
    """Whether the mask has a neighbour that no patch looked at, as growth ended before the object did."""
    for axis in range(3):
        first = (slice(None),) * axis + (slice(None, -1),)
        second = (slice(None),) * axis + (slice(1, None),)
        if (mask[first] & unseen[second]).any() or (mask[second] & unseen[first]).any():
            return True
    return False
