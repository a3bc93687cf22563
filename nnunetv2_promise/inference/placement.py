"""Where the windows around prompts lie, in the scan and on the network's grid.

All boxes, shapes and points here are in nnU-Net's axis order of the case (array axes after ``transpose_forward``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Voxels of the scan kept around a window, so that spline interpolation does not see the crop's edge.
CROP_MARGIN = 4

Box = tuple[tuple[int, int], ...]
Ints = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Window:
    """One window, cut from the scan around the clicks of one object.

    Attributes:
        label_head: Index of the output channel that the object's mask belongs to.
        box: Half-open box in the scan (original spacing) that was cropped and resampled.
        resampled_shape: Shape of that crop at the network's spacing.
        start: First voxel of the window in the resampled crop; may be negative or reach beyond its end.
        size: Window size in voxels at the network's spacing.
        points: (n, 3) click voxels in the window.
        name: What messages call the object.
        corrected: Whether the object's clicks are answered one after the other.
    """

    label_head: int
    box: Box
    resampled_shape: tuple[int, ...]
    start: tuple[int, ...]
    size: tuple[int, ...]
    points: tuple[tuple[int, ...], ...]
    name: str = ""
    corrected: bool = False


class WindowLayout(tuple):
    """Shape of the scan region that holds all windows, plus the windows themselves.

    nnU-Net carries this shape from preprocessing to export as an ordinary tuple; the windows ride along.
    """

    windows: tuple[Window, ...]
    region: Box

    @classmethod
    def around(cls, windows: Iterable[Window]) -> WindowLayout:
        """The smallest region that holds the windows' boxes; one voxel where there are none."""
        windows = tuple(windows)
        if windows:
            bounds = np.array([window.box for window in windows])  # windows, axes, 2
            region = tuple(
                (int(low), int(high)) for low, high in zip(bounds[..., 0].min(0), bounds[..., 1].max(0), strict=True)
            )
        else:
            region = ((0, 1),) * 3
        layout = cls(stop - start for start, stop in region)
        layout.windows, layout.region = windows, region
        return layout

    def place(self, window: Window) -> tuple[slice, ...]:
        """Where a window lies in the region."""
        return tuple(
            slice(low - first, high - first) for (low, high), (first, _) in zip(window.box, self.region, strict=True)
        )


def group_points(points: np.ndarray, extent: np.ndarray) -> list[np.ndarray]:
    """Split the clicks of one object into groups that each fit a window.

    Args:
        points: (n, 3) float, clicks in voxels of the scan.
        extent: (3,) float, edge lengths that a group must not exceed.

    Returns:
        Groups in order of their first click; one group unless the clicks lie far apart.
    """
    groups: list[list[np.ndarray]] = []
    bounds: list[tuple[np.ndarray, np.ndarray]] = []  # lowest and highest coordinates of each group
    for point in points:
        for number, (low, high) in enumerate(bounds):
            grown = np.minimum(low, point), np.maximum(high, point)
            if (grown[1] - grown[0] <= extent).all():
                groups[number].append(point)
                bounds[number] = grown
                break
        else:
            groups.append([point])
            bounds.append((point, point))
    return [np.array(group) for group in groups]


def centre_inside(centre: np.ndarray, extent: np.ndarray, bounds: Box) -> np.ndarray:
    """The centre nearest to a window's with which it lies in the scan; the scan's where the window is larger.

    Args:
        centre: (3,) float, in voxels of the scan.
        extent: (3,) float, the window's edge lengths in voxels of the scan.
        bounds: Half-open box of the scan that holds data.
    """
    low, high = np.array(bounds, float).T - 0.5  # a voxel reaches half its length to either side
    lower, upper = low + extent / 2, high - extent / 2
    return np.where(lower > upper, (low + high) / 2, np.clip(centre, lower, np.maximum(lower, upper)))


def crop_box(centre: np.ndarray, extent: np.ndarray, bounds: Box) -> Box:
    """The part of the scan that a window needs.

    Args:
        centre: (3,) float, voxel that the window is centred on.
        extent: (3,) float, the window's edge lengths in voxels of the scan.
        bounds: Half-open box of the scan that holds data.

    Returns:
        Half-open box inside ``bounds``, never empty.
    """
    box = []
    for middle, length, (low, high) in zip(centre, extent, bounds, strict=True):
        start = int(np.floor(middle + 0.5 - length / 2)) - CROP_MARGIN
        stop = int(np.ceil(middle + 0.5 + length / 2)) + CROP_MARGIN
        start = min(max(start, low), high - 1)
        box.append((start, max(min(stop, high), start + 1)))
    return tuple(box)


def to_resampled(points: np.ndarray, box: Box, resampled_shape: Sequence[int]) -> np.ndarray:
    """Map voxel positions of the scan to the resampled crop (nnU-Net resamples edge to edge).

    Args:
        points: (n, 3) float, voxels of the scan.
        box: The crop.
        resampled_shape: Its shape after resampling.

    Returns:
        (n, 3) float, voxels of the resampled crop.
    """
    start, stop = np.array(box, float).T
    return (points - start + 0.5) * np.asarray(resampled_shape) / (stop - start) - 0.5


def place_window(points: np.ndarray, size: Sequence[int], within: Sequence[int] | None = None) -> tuple[int, ...]:
    """First voxel of a window whose voxel ``size // 2`` is the middle of the points' bounding box.

    The same convention as nnU-Net's training patches (paper, section 3.1: one patch centred on the prompt).

    Args:
        points: (n, 3) voxels.
        size: (D, H, W) of the window.
        within: (D, H, W) of a grid that the window is moved into, or None.
    """
    middle = (points.min(0) + points.max(0)) / 2
    start = tuple(int(np.floor(m + 0.5)) - length // 2 for m, length in zip(middle, size, strict=True))
    return start if within is None else move_inside(start, size, within)


def move_inside(start: Ints, size: Ints, shape: Ints) -> tuple[int, ...]:
    """The nearest first voxel with which a window lies in a grid; along axes that are too short it is centred.

    nnU-Net pads what is smaller than a patch in the same way.
    """
    return tuple(
        min(max(int(begin), 0), limit - length) if limit >= length else (limit - length) // 2
        for begin, length, limit in zip(start, size, shape, strict=True)
    )


def overlap(
    start: Sequence[int], size: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the shared part of a window and an array: first in the window, then in the array."""
    in_window, in_array = [], []
    for begin, length, limit in zip(start, size, shape, strict=True):
        low = max(begin, 0)
        high = max(min(begin + length, limit), low)
        in_array.append(slice(low, high))
        in_window.append(slice(low - begin, high - begin))
    return tuple(in_window), tuple(in_array)
