"""nnU-Net preprocessing of the windows around prompts, instead of the whole scan: what the stock command runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.inference.case_prompts import prompts_of_image
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

    The result stacks the windows along axis 0 and has one channel more than the image (``tile_code``).
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
            Data (C + 1, n * D, H, W) float32, one empty window if there are no prompts; an empty segmentation; and the
            properties that export needs.

        Raises:
            UserError: If prompts are missing or do not fit the image, or an image is damaged or holds NaN.
        """
        dataset_json = read_json(dataset_json) if isinstance(dataset_json, str) else dataset_json
        files = [Path(file) for file in image_files]
        prompts = prompts_of_image(files, dataset_json, plans_manager, configuration_manager)
        for file in files:
            check_stored_voxels(file)
        data, properties = plans_manager.image_reader_writer_class().read_images(image_files)
        cutter = WindowCutter(data, properties, plans_manager, configuration_manager)
        size = tuple(int(length) for length in configuration_manager.patch_size)
        heads = len(plans_manager.get_label_manager(dataset_json).all_labels)
        planned = []
        for prompt in prompts:
            if cutter.in_padding(prompt):
                logger.warning(describe(prompt.name, [IN_PADDING]))
            else:
                planned += [(prompt, points) for points in cutter.groups(prompt, size)]
        depth = size[0]
        stacked = np.zeros((data.shape[0] + 1, max(len(planned), 1) * depth, *size[1:]), np.float32)
        windows: list[Window] = []
        for number, (prompt, points) in enumerate(planned):
            window, image = cutter.cut(points, size, label_head=prompt.label_head, name=prompt.name)
            windows.append(window)
            place = slice(number * depth, (number + 1) * depth)
            stacked[:-1, place] = image
            stacked[-1, place] = encode_channel(size, number, window.label_head, heads, np.array(window.points))
        layout = WindowLayout.around(windows)
        properties |= {
            "shape_before_cropping": cutter.shape,
            "bbox_used_for_cropping": [list(edges) for edges in layout.region],
            "shape_after_cropping_and_before_resampling": layout,
        }
        return stacked, np.zeros((1, *stacked.shape[1:]), np.int8), properties
