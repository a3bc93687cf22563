"""nnU-Net preprocessing of the windows around prompts, instead of the whole scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.inference.case_prompts import VoxelPrompt, prompts_of_image
from nnunetv2_promise.inference.placement import (
    Box,
    Window,
    WindowLayout,
    crop_box,
    group_points,
    place_window,
    to_resampled,
)
from nnunetv2_promise.inference.tile_code import encode_channel

# These look at one voxel at a time, so that a crop is normalised as the whole scan would be.
VOXELWISE_SCHEMES = {"CTNormalization", "NoNormalization", "RGBTo01Normalization"}


class PromptPreprocessor(DefaultPreprocessor):
    """Reads the prompts of a case and prepares one window for each; time does not grow with the scan.

    Order of operations as in nnU-Net: transpose, crop to non-zero, normalise, resample. The windows' crop comes before
    resampling. The result stacks the windows along axis 0 and has one channel more than the image (``tile_code``).
    """

    def run_case(
        self,
        image_files: Sequence[str],
        seg_file: str | None,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        dataset_json: dict[str, Any] | str,
    ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Preprocess one case with the prompts of its image folder.

        Args:
            image_files: One file for each channel.
            seg_file: Unused; cascades are not supported.
            plans_manager: nnU-Net's plans.
            configuration_manager: The configuration; ``patch_size`` is the window's size.
            dataset_json: Content of ``dataset.json``, or its path.

        Returns:
            Data (C + 1, n * D, H, W) float32, an empty segmentation, and the properties that export needs.

        Raises:
            UserError: If prompts are missing or do not fit the image, or an image is damaged or holds NaN.
        """
        dataset_json = read_json(dataset_json) if isinstance(dataset_json, str) else dataset_json
        prompts = prompts_of_image(Path(image_files[0]), dataset_json, plans_manager)
        for file in image_files:
            check_stored_voxels(Path(file))
        data, properties = plans_manager.image_reader_writer_class().read_images(image_files)
        data, layout = self.cut_windows(data, prompts, properties, plans_manager, configuration_manager, dataset_json)
        return (
            data,
            np.zeros((1, *data.shape[1:]), np.int8),
            properties
            | {
                "bbox_used_for_cropping": [list(edges) for edges in layout.region],
                "shape_after_cropping_and_before_resampling": layout,
            },
        )

    def cut_windows(
        self,
        data: np.ndarray,
        prompts: Sequence[VoxelPrompt],
        properties: dict[str, Any],
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        dataset_json: dict[str, Any],
    ) -> tuple[np.ndarray, WindowLayout]:
        """Crop, normalise and resample the window of each prompt.

        Args:
            data: (C, z, y, x) as the image reader gives it.
            prompts: Clicks in continuous (z, y, x) voxels of ``data``.
            properties: Properties of the image; ``shape_before_cropping`` is added.
            plans_manager: nnU-Net's plans.
            configuration_manager: The configuration.
            dataset_json: Content of ``dataset.json``.

        Returns:
            (C + 1, n * D, H, W) float32, one empty window if there are no prompts; and where the windows lie.
        """
        transpose = plans_manager.transpose_forward
        data = data.transpose([0, *[axis + 1 for axis in transpose]])
        spacing = np.array(properties["spacing"], float)[transpose]
        properties["shape_before_cropping"] = data.shape[1:]
        data, mask, bounds = self._crop_to_nonzero(data, configuration_manager)
        intensities = plans_manager.foreground_intensity_properties_per_channel
        voxelwise = set(configuration_manager.normalization_schemes) <= VOXELWISE_SCHEMES
        if not voxelwise:
            data = self._normalize(data.astype(np.float32), mask, configuration_manager, intensities)
        size = tuple(int(length) for length in configuration_manager.patch_size)
        heads = plans_manager.get_label_manager(dataset_json).num_segmentation_heads
        target = np.array(configuration_manager.spacing, float)
        windows: list[Window] = []
        arrays: list[np.ndarray] = []
        for label_head, centre, points in _window_centres(prompts, transpose, size, target / spacing):
            box = crop_box(centre, np.array(size) * target / spacing, bounds)
            inside = tuple(
                slice(low - first, high - first) for (low, high), (first, _) in zip(box, bounds, strict=True)
            )
            crop = data[(slice(None), *inside)].astype(np.float32)
            if voxelwise:
                crop = self._normalize(crop, mask[(slice(None), *inside)], configuration_manager, intensities)
            shape = compute_new_shape(crop.shape[1:], spacing, target)
            resampled = configuration_manager.resampling_fn_data(crop, shape, spacing, target)
            window = _window(label_head, box, shape, points, size)
            windows.append(window)
            arrays.append(_with_prompt_channel(resampled, window, len(arrays), heads))
        empty = np.zeros((data.shape[0] + 1, *size), np.float32)
        return np.concatenate(arrays or [empty], axis=1), WindowLayout.around(windows)

    @staticmethod
    def _crop_to_nonzero(
        data: np.ndarray, configuration_manager: ConfigurationManager
    ) -> tuple[np.ndarray, np.ndarray, Box]:
        """nnU-Net's crop; the hole-filled mask, slow on large scans, only where normalisation needs it."""
        if any(configuration_manager.use_mask_for_norm):
            data, mask, bounds = crop_to_nonzero(data)
            return data, mask, tuple((int(low), int(high)) for low, high in bounds)
        nonzero = (data != 0).any(0)
        bounds = []
        for axis in range(3):
            used = np.flatnonzero(nonzero.any(tuple(other for other in range(3) if other != axis)))
            bounds.append((int(used[0]), int(used[-1]) + 1) if len(used) else (0, nonzero.shape[axis]))
        data = data[(slice(None), *(slice(low, high) for low, high in bounds))]
        return data, np.broadcast_to(np.int8(0), (1, *data.shape[1:])), tuple(bounds)


def _window_centres(
    prompts: Sequence[VoxelPrompt], transpose: Sequence[int], size: Sequence[int], scale: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Label head, centre and clicks of each window, in transposed voxels of the scan."""
    centres = []
    for prompt in prompts:
        for points in group_points(prompt.points_zyx[:, list(transpose)], (np.array(size) - 1) * scale):
            centres.append((prompt.label_head, (points.min(0) + points.max(0)) / 2, points))
    return centres


def _window(label_head: int, box: Box, shape: Sequence[int], points: np.ndarray, size: tuple[int, ...]) -> Window:
    resampled = to_resampled(points, box, shape)
    start = place_window(resampled, size)
    voxels = np.clip(np.floor(resampled + 0.5).astype(int) - start, 0, np.array(size) - 1)
    return Window(
        label_head=label_head,
        box=box,
        resampled_shape=tuple(int(length) for length in shape),
        start=start,
        size=size,
        points=tuple(tuple(int(v) for v in voxel) for voxel in voxels),
    )


def _with_prompt_channel(resampled: np.ndarray, window: Window, number: int, heads: int) -> np.ndarray:
    """Cut the window, zero beyond the scan as in training, and add its prompt channel."""
    edges = [[start, start + length] for start, length in zip(window.start, window.size, strict=True)]
    image = crop_and_pad_nd(resampled, edges, 0)
    channel = encode_channel(window.size, number, window.label_head, heads, np.array(window.points))
    return np.concatenate([image, channel[None]])
