"""nnU-Net preprocessing of the windows around prompts, instead of the whole scan: what the stock command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.inference.case_prompts import VoxelPrompt, prompts_of_image
from nnunetv2_promise.inference.correction_code import Corrections, channels_for, encode_corrections
from nnunetv2_promise.inference.correction_window import cut_around_first
from nnunetv2_promise.inference.object_faults import IN_PADDING, describe
from nnunetv2_promise.inference.placement import Window, WindowLayout
from nnunetv2_promise.inference.tile_code import encode_channel
from nnunetv2_promise.inference.window_cutting import WindowCutter

logger = logging.getLogger(__name__)

NO_CLICKS_IN_ARRAYS = (
    "nnU-Net's array functions take no clicks; call nnunetv2_promise.segment(model, image, spacing, clicks)."
)


class PromptPreprocessor(DefaultPreprocessor):
    """Reads the prompts of a case and prepares one window for each.

    The result stacks the windows along axis 0 and has one channel more than the image (``tile_code``), and further ones
    where a mask is corrected (``correction_code``).
    """

    def run_case_npy(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refused: nnU-Net's predictor has no clicks to hand over with an array.

        Raises:
            UserError: Always; it names the function to call.
        """
        raise UserError(NO_CLICKS_IN_ARRAYS)

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
            Data (C + K, n * D, H, W) float32, one empty window if there are no prompts; an empty segmentation; and the
            properties that export needs.

        Raises:
            UserError: If prompts are missing or do not fit the image, corrections of an object need more than one
                window, or an image is damaged or holds NaN.
        """
        dataset_json = read_json(dataset_json) if isinstance(dataset_json, str) else dataset_json
        files = [Path(file) for file in image_files]
        kinds = getattr(configuration_manager, "prompt_kinds", ("points",))
        prompts = prompts_of_image(files, dataset_json, plans_manager, configuration_manager, kinds)
        for file in files:
            check_stored_voxels(file)
        data, properties = plans_manager.image_reader_writer_class().read_images(image_files)
        cutter = WindowCutter(data, properties, plans_manager, configuration_manager)
        size = tuple(int(length) for length in configuration_manager.patch_size)
        planned = list(_plan_windows(cutter, prompts, size, corrects="negative_points" in kinds))
        heads = len(plans_manager.get_label_manager(dataset_json).all_labels)
        stacked = _stack(planned, (data.shape[0], *size), heads)
        layout = WindowLayout.around(item.window for item in planned)
        properties |= {
            "shape_before_cropping": cutter.shape,
            "bbox_used_for_cropping": [list(edges) for edges in layout.region],
            "shape_after_cropping_and_before_resampling": layout,
        }
        return stacked, np.zeros((1, *stacked.shape[1:]), np.int8), properties


class _Planned(NamedTuple):
    """A window, its image, and what is corrected in it."""

    window: Window
    image: np.ndarray
    corrections: Corrections | None


def _plan_windows(
    cutter: WindowCutter, prompts: Sequence[VoxelPrompt], size: Sequence[int], *, corrects: bool
) -> Iterator[_Planned]:
    """The windows of a case, in the order of its prompts."""
    for prompt in prompts:
        if cutter.in_padding(prompt):
            logger.warning(describe(prompt.name, [IN_PADDING]))
        elif corrects and prompt.corrects:
            asked = cut_around_first(cutter, prompt, size)
            if asked is None:
                raise UserError(
                    f"{prompt.name}: not all of its clicks and its previous mask lie in the window of {tuple(size)} "
                    "voxels (in the model's axis order) around its first click, which is all that nnUNetv2_predict can "
                    "look at; use nnUNetv2_promise_predict."
                )
            yield _Planned(asked.window, asked.image, asked.corrections)
        else:
            for points in cutter.groups(prompt, size):
                window, image = cutter.cut(points, size, label_head=prompt.label_head, name=prompt.name)
                yield _Planned(window, image, None)


def _stack(planned: Sequence[_Planned], shape: Sequence[int], heads: int) -> np.ndarray:
    """The windows one behind the other, with the channels of their prompts.

    Args:
        planned: The windows.
        shape: (C, D, H, W) of a window's image.
        heads: Background and every label.

    Returns:
        (C + K, n * D, H, W) float32; one empty window if there are none.
    """
    image_channels, depth, *size = shape
    extra = channels_for([item.corrections for item in planned if item.corrections is not None])
    stacked = np.zeros((image_channels + 1 + extra, max(len(planned), 1) * depth, *size), np.float32)
    for number, (window, image, corrections) in enumerate(planned):
        place = slice(number * depth, (number + 1) * depth)
        points = np.array(window.points if corrections is None else (), int).reshape(-1, 3)
        stacked[:image_channels, place] = image
        stacked[image_channels, place] = encode_channel(window.size, number, window.label_head, heads, points)
        if corrections is not None:
            stacked[image_channels + 1 :, place] = encode_corrections(corrections, window.size, extra)
    return stacked
