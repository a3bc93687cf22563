"""The window in which one object is segmented click by click, with its previous mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.correction_code import Corrections
from nnunetv2_promise.inference.image_grids import resample_mask
from nnunetv2_promise.inference.interactions import split_interactions
from nnunetv2_promise.inference.placement import Window, overlap, to_resampled
from nnunetv2_promise.inference.window_cutting import WindowCutter


@dataclass(frozen=True, eq=False)
class CorrectionWindow:
    """A window and what is asked in it.

    Attributes:
        window: Its ``points`` are the positive clicks.
        image: (C, D, H, W) float32.
        corrections: Interactions and previous mask, in voxels of the window.
    """

    window: Window
    image: np.ndarray
    corrections: Corrections


def cut_around_first(cutter: WindowCutter, prompt: VoxelPrompt, size: Sequence[int]) -> CorrectionWindow | None:
    """A window of the given size around the first interaction; None if it does not hold all clicks and the mask.

    Raises:
        UserError: If the previous mask cannot be read.
    """
    first = cutter.points(prompt)[: prompt.counts[0]]
    window, image = cutter.cut(first, size, label_head=prompt.label_head, name=prompt.name)
    resampled = to_resampled(cutter.points(prompt), window.box, window.resampled_shape)
    voxels = np.floor(resampled + 0.5).astype(int) - np.array(window.start)
    if ((voxels < 0) | (voxels >= np.array(window.size))).any():
        return None
    mask = _previous_mask(cutter, prompt)
    in_window = None if mask is None else _mask_in_window(mask, window)
    if mask is not None and not _holds(window, mask):
        return None
    return _asked(prompt, window, image, voxels, in_window)


def cut_around_all(cutter: WindowCutter, prompt: VoxelPrompt, size: Sequence[int]) -> CorrectionWindow:
    """A window that holds one of the given size around each click and each voxel of the previous mask.

    Raises:
        UserError: If the previous mask cannot be read.
    """
    points = cutter.points(prompt)
    mask = _previous_mask(cutter, prompt)
    if mask is not None and mask.any():
        corners = [[np.flatnonzero(mask.any(_others(axis)))[end] for axis in range(3)] for end in (0, -1)]
        points = np.concatenate([points, corners])
    apart = np.ceil(np.ptp(points, axis=0) / cutter.extent((1, 1, 1))).astype(int)
    room = cutter.limited(np.array(size) + apart + 2, size)  # clicks and windows are rounded to whole voxels
    window, image = cutter.cut(points, room.tolist(), label_head=prompt.label_head, name=prompt.name)
    in_window = None if mask is None else _mask_in_window(mask, window)
    return _asked(prompt, window, image, np.array(cutter.in_window(prompt, window)), in_window)


def _asked(
    prompt: VoxelPrompt, window: Window, image: np.ndarray, voxels: np.ndarray, mask: np.ndarray | None
) -> CorrectionWindow:
    interactions = list(split_interactions(voxels.tolist(), prompt.signs.tolist(), prompt.counts))
    positive = tuple(map(tuple, voxels[prompt.signs].tolist()))
    return CorrectionWindow(replace(window, points=positive, corrected=True), image, Corrections(interactions, mask))


def _previous_mask(cutter: WindowCutter, prompt: VoxelPrompt) -> np.ndarray | None:
    """(D, H, W) bool in nnU-Net's axis order, without what lies in the zeros around the scan."""
    mask = prompt.read_previous_mask()
    if mask is None:
        return None
    content = tuple(slice(*edges) for edges in cutter.bounds)
    inside = np.zeros(cutter.shape, bool)
    inside[content] = cutter.in_axis_order(mask)[content]
    return inside


def _mask_in_window(mask: np.ndarray, window: Window) -> np.ndarray:
    resampled = resample_mask(mask[tuple(slice(*edges) for edges in window.box)], window.resampled_shape)
    edges = [[start, start + length] for start, length in zip(window.start, window.size, strict=True)]
    return crop_and_pad_nd(resampled, edges, False)


def _holds(window: Window, mask: np.ndarray) -> bool:
    """Whether a window holds every voxel of a mask of the scan."""
    box = tuple(slice(*edges) for edges in window.box)
    if np.count_nonzero(mask[box]) < np.count_nonzero(mask):
        return False
    resampled = resample_mask(mask[box], window.resampled_shape)
    _, in_crop = overlap(window.start, window.size, window.resampled_shape)
    return np.count_nonzero(resampled[in_crop]) == np.count_nonzero(resampled)


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)
