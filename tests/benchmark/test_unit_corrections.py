"""Clicks on the errors of masks that were made without clicks, and patches around clicks, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from nnunetv2_promise.benchmark.crops import BACKGROUND, crop_logits
from nnunetv2_promise.benchmark.unit_corrections import _FixedMask
from nnunetv2_promise.evaluation.correction_curves import correct_object
from nnunetv2_promise.images.objects import find_objects


def test_a_mask_made_without_clicks_gains_the_component_nearest_to_each_click() -> None:
    """The object is in two parts; the third component touches nothing that was clicked."""
    found = np.zeros((1, 1, 20), np.uint8)
    for start, stop in ((1, 5), (8, 11), (15, 20)):
        found[..., start:stop] = 1
    truth = np.zeros((1, 1, 20), dtype=bool)
    truth[..., 1:5], truth[..., 9:12] = True, True
    model = _FixedMask(find_objects(found, [1]), found.shape, (1.0, 1.0, 1.0))
    rows = correct_object(model, truth, spacing_zyx_mm=(1, 1, 1), clicks=4, tolerance_mm=0)
    dice = [row["dice"] for row in rows]
    # 4 of 7, then 4 + 2 of 7 with one voxel too many; what is too much cannot be taken away.
    assert dice == [8 / 11, 12 / 14, 12 / 14, 12 / 14]
    assert [row["positive"] for row in rows] == [True, True, False, False]


class _Constant:
    """Answers with the mean of its patch for the object, and its negative for the background."""

    configuration_manager = SimpleNamespace(patch_size=(1, 1, 4))

    def __init__(self, *, regions: bool = False) -> None:
        self.label_manager = SimpleNamespace(num_segmentation_heads=2, has_regions=regions)
        self.shapes: list[tuple[int, ...]] = []

    def predict_logits_from_preprocessed_data(self, patch: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(patch.shape))
        return torch.cat([-patch, patch])


def test_only_the_patches_around_clicks_are_predicted_and_overlaps_averaged() -> None:
    data = np.arange(1, 11, dtype=np.float32).reshape(1, 1, 1, 10)
    predictor = _Constant()
    logits = crop_logits(predictor, data, [np.array([0, 0, 1]), np.array([0, 0, 3])])
    assert predictor.shapes == [(1, 1, 1, 4)] * 2  # the first one reaches over the edge
    assert logits[1, 0, 0].tolist() == [1, 2, 3, 4, 5, *[-BACKGROUND] * 5]
    assert logits[0, 0, 0].tolist() == [-1, -2, -3, -4, -5, *[BACKGROUND] * 5]
    assert (crop_logits(_Constant(regions=True), data, []) == -BACKGROUND).all()
