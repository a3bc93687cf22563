"""Cutting windows around clicks from a scan, preprocessed as nnU-Net would preprocess the whole of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_promise.images.geometry import nearest_voxel
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.placement import (
    Box,
    Window,
    centre_inside,
    crop_box,
    group_points,
    place_window,
    to_resampled,
)
from nnunetv2_promise.planning.prompt_settings import placement_of

# These look at one voxel at a time, so that a crop is normalised as the whole scan would be.
VOXELWISE_SCHEMES = {"CTNormalization", "NoNormalization", "RGBTo01Normalization"}


class WindowCutter:
    """A scan from which windows are cut; time and memory of a window do not grow with the scan.

    Order of operations as in nnU-Net: transpose, crop to non-zero, normalise, resample. The window's crop comes before
    resampling, and before normalisation where that looks at single voxels.

    Args:
        data: (C, z, y, x) as the image reader gives it.
        properties: Properties of the image; its ``spacing`` is used.
        plans: nnU-Net's plans.
        configuration: The configuration.

    Attributes:
        shape: (D, H, W) of the scan, in nnU-Net's axis order.
        spacing_mm: Of the scan, in that order.
        bounds: Half-open box of the scan that holds more than zeros.
    """

    def __init__(
        self,
        data: np.ndarray,
        properties: Mapping[str, Any],
        plans: PlansManager,
        configuration: ConfigurationManager,
    ) -> None:
        self._transpose = list(plans.transpose_forward)
        self._configuration = configuration
        self._inside = placement_of(configuration.configuration) == "inside"
        self._intensities = plans.foreground_intensity_properties_per_channel
        self._normaliser = DefaultPreprocessor(verbose=False)
        self.spacing_mm = np.array(properties["spacing"], float)[self._transpose]
        # Models for nnInteractive's engine keep voxels as they are: their network's grid is the scan's.
        keeps_voxels = configuration.configuration.get("resampling_fn_data") == "no_resampling_hack"
        self._target_mm = self.spacing_mm if keeps_voxels else np.array(configuration.spacing, float)
        data = data.transpose([0, *[axis + 1 for axis in self._transpose]])  # C, D, H, W
        self.shape: tuple[int, ...] = data.shape[1:]
        self._data, self._mask, self.bounds = _crop_to_nonzero(data, any(configuration.use_mask_for_norm))
        self._voxelwise = set(configuration.normalization_schemes) <= VOXELWISE_SCHEMES
        if not self._voxelwise:
            self._data = self._normalise(self._data.astype(np.float32), self._mask)

    def in_padding(self, prompt: VoxelPrompt) -> bool:
        """Whether every click lies in the zeros around the scan's content, where there is nothing to segment."""
        voxels = nearest_voxel(self.points(prompt), self.shape)
        low, high = np.array(self.bounds).T
        return not ((voxels >= low) & (voxels < high)).all(1).any()

    def in_axis_order(self, mask_zyx: np.ndarray) -> np.ndarray:
        """A (z, y, x) mask of the scan in nnU-Net's axis order."""
        return mask_zyx.transpose(self._transpose)

    def points(self, prompt: VoxelPrompt) -> np.ndarray:
        """(n, 3) float, the clicks of a prompt in nnU-Net's axis order."""
        return prompt.points_zyx[:, self._transpose]

    def clicks(self, prompt: VoxelPrompt) -> np.ndarray:
        """(n, 3) int64, the voxels of the scan that a prompt clicks on, in nnU-Net's axis order."""
        return nearest_voxel(self.points(prompt), self.shape)

    def groups(self, prompt: VoxelPrompt, size: Sequence[int]) -> list[np.ndarray]:
        """The clicks of a prompt, split into groups that each fit a window of the given size.

        Returns:
            (n, 3) float each, in nnU-Net's axis order.
        """
        return group_points(self.points(prompt), self.extent(np.array(size) - 1))

    def extent(self, size: Sequence[int] | np.ndarray) -> np.ndarray:
        """(3,) float, edge lengths of a (D, H, W) box of the network's grid in voxels of the scan."""
        return np.array(size) * self._target_mm / self.spacing_mm

    def in_window(self, prompt: VoxelPrompt, window: Window) -> list[tuple[int, ...]]:
        """The clicks of a prompt as voxels of a window; those beyond its edge are moved to it."""
        return window_voxels(
            to_resampled(self.points(prompt), window.box, window.resampled_shape),
            window.start,
            window.size,
        )

    def cut(
        self, points: np.ndarray, size: Sequence[int], *, label_head: int, name: str = ""
    ) -> tuple[Window, np.ndarray]:
        """Crop, normalise and resample one window.

        Args:
            points: (n, 3) float, one of ``groups``.
            size: (D, H, W) of the window at the network's spacing.
            label_head: Output channel of the object's label.
            name: What messages call the object.

        Returns:
            The window, and its image (C, D, H, W) float32, zero beyond the scan as in training.
        """
        size = tuple(int(length) for length in size)
        centre = (points.min(0) + points.max(0)) / 2
        if self._inside:
            centre = centre_inside(centre, self.extent(size), self.bounds)
        box = crop_box(centre, self.extent(size), self.bounds)
        inside = tuple(
            slice(low - first, high - first) for (low, high), (first, _) in zip(box, self.bounds, strict=True)
        )
        crop = self._data[(slice(None), *inside)].astype(np.float32)
        if self._voxelwise:
            crop = self._normalise(crop, self._mask[(slice(None), *inside)])
        shape = tuple(int(n) for n in compute_new_shape(crop.shape[1:], self.spacing_mm, self._target_mm))
        resampled = self._configuration.resampling_fn_data(crop, shape, self.spacing_mm, self._target_mm)
        start = place_window(to_resampled(centre[None], box, shape), size, shape if self._inside else None)
        window = Window(
            label_head=label_head,
            box=box,
            resampled_shape=shape,
            start=start,
            size=size,
            points=tuple(window_voxels(to_resampled(points, box, shape), start, size)),
            name=name,
        )
        edges = [[start, start + length] for start, length in zip(window.start, size, strict=True)]
        return window, crop_and_pad_nd(resampled, edges, 0)

    def enlarged(self, size: Sequence[int], axes: np.ndarray) -> np.ndarray:
        """A window's size, half as much again along the axes that are marked."""
        return self.limited(np.where(axes, np.array(size) * 3 // 2, size), size)

    def limited(self, larger: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """No larger than the scan where windows stay inside: patches in them must not see what lies beyond."""
        if not self._inside:
            return larger
        lengths = [high - low for low, high in self.bounds]
        return np.minimum(larger, np.maximum(size, compute_new_shape(lengths, self.spacing_mm, self._target_mm)))

    def _normalise(self, data: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self._normaliser._normalize(data, mask, self._configuration, self._intensities)


def _crop_to_nonzero(data: np.ndarray, with_mask: bool) -> tuple[np.ndarray, np.ndarray, Box]:
    """nnU-Net's crop; the hole-filled mask, slow on large scans, only where normalisation needs it."""
    if with_mask:
        data, mask, bounds = crop_to_nonzero(data)
        return data, mask, tuple((int(low), int(high)) for low, high in bounds)
    nonzero = (data != 0).any(0)
    bounds = []
    for axis in range(3):
        used = np.flatnonzero(nonzero.any(tuple(other for other in range(3) if other != axis)))
        bounds.append((int(used[0]), int(used[-1]) + 1) if len(used) else (0, nonzero.shape[axis]))
    data = data[(slice(None), *(slice(low, high) for low, high in bounds))]
    return data, np.broadcast_to(np.int8(0), (1, *data.shape[1:])), tuple(bounds)


def window_voxels(resampled: np.ndarray, start: Sequence[int], size: Sequence[int]) -> list[tuple[int, ...]]:
    """The voxels of a window that (n, 3) points of its resampled crop belong to; nearest ones of points beyond."""
    voxels = np.clip(np.floor(resampled + 0.5).astype(int) - np.array(start), 0, np.array(size) - 1)
    return [tuple(int(v) for v in voxel) for voxel in voxels]
