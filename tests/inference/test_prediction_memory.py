"""Memory of prediction: windows one by one, so that it grows with neither clicks nor labels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from test_prediction_geometry import SPACING_ZYX_MM
from test_segment import image, model

from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.case_segmentation import segment_case
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.configuration import PromptLabelManager


@pytest.mark.parametrize(("heads", "bytes_per_voxel"), [(2, 5), (118, 5), (256, 5), (257, 6)])
def test_a_composed_mask_holds_one_label_and_one_logit_per_voxel(heads: int, bytes_per_voxel: int) -> None:
    composed = MaskComposition((4, 5, 6), heads)
    composed.add(heads - 1, (slice(0, 2), slice(0, 2), slice(0, 2)), np.ones((2, 2, 2), np.float32))
    assert composed.labels.nbytes + composed.best.nbytes == bytes_per_voxel * 4 * 5 * 6
    assert composed.logits is None
    assert np.count_nonzero(composed.labels == heads - 1) == 8


def test_nnunets_sliding_window_gets_two_channels_however_many_labels_there_are() -> None:
    labels = {"background": 0, **{f"label_{value}": value for value in range(1, 118)}}
    manager = PromptLabelManager(labels, regions_class_order=None)
    assert len(manager.foreground_labels) == 117
    assert manager.num_segmentation_heads == 2


def peak_bytes(clicks: int) -> int:
    """The most that NumPy holds while so many objects of a scan are segmented, without the masks that are asked for."""
    loaded, scan = model(), image()
    place = np.array([[20.0, 24.0, 28.0]])  # always the same, since windows at the border are smaller
    prompts = [VoxelPrompt(label_head=1 + n % 2, points_zyx=place) for n in range(clicks)]
    tracemalloc.start()
    try:
        masks = segment_case(loaded, scan[None], {"spacing": SPACING_ZYX_MM}, prompts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(masks.objects) == clicks
    assert masks.labels.any()
    return peak - sum(item.found.mask.nbytes for item in masks.objects if item.found is not None)


def test_many_clicks_need_little_more_memory_than_one() -> None:
    peak_bytes(1)  # what is imported and cached at first does not count
    one, many = peak_bytes(1), peak_bytes(12)
    assert many < 1.05 * one
