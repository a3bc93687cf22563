"""Training patches as nnInteractive's AutoZoom shows them: a larger part of the scan, shrunk to patch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from torch import Tensor
from torch.nn import functional as F

from nnunetv2_promise.training.data_loading import CentredDataLoader

AUTOZOOM_FACTORS = (1.5, 2.25, 3.375, 4.0)
"""The engine enlarges its patch by 1.5 until the answer no longer changes at the border, to 4 at most."""


class Shrink(BasicTransform):
    """Shrinks image and labels to a size; what has the size already stays as it is.

    Args:
        size: (D, H, W).
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = [int(length) for length in size]

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        """(C, D, H, W) float, interpolated as the engine does it."""
        if list(img.shape[1:]) == self.size:
            return img
        return F.interpolate(img[None], self.size, mode="trilinear")[0]

    def _apply_to_segmentation(self, segmentation: Tensor, **params: Any) -> Tensor:
        """(C, D, H, W) integers: each voxel takes the label of its middle."""
        if list(segmentation.shape[1:]) == self.size:
            return segmentation
        return F.interpolate(segmentation[None].float(), self.size, mode="nearest-exact")[0].to(segmentation.dtype)


class ZoomingDataLoader(CentredDataLoader):
    """Patches around foreground, a share of them zoomed out by one of AutoZoom's factors.

    Of the others a share is moved inside the scan; all the rest is centred on its voxel, with zeros beyond the scan.

    A batch has one more entry, ``zoom``: (batch size,) float32, 1 where a patch is not zoomed.
    """

    patch_size: Any
    transforms: Any

    def __init__(self, *args: Any, zoom_share: float, inside_share: float = 0.0, **kwargs: Any) -> None:
        """As nnU-Net's loader; the shares are those of zoomed patches, and of patches inside among the others."""
        super().__init__(*args, **kwargs)
        self.zoom_share = zoom_share
        self.inside_share = inside_share
        self.transforms = ComposeTransforms([Shrink(self.patch_size), self.transforms])
        self._zooms: list[float] = []

    def get_bbox(
        self, data_shape: np.ndarray, force_fg: bool, class_locations: dict | None, *args: Any, **kwargs: Any
    ) -> tuple[list[int], list[int]]:
        """Half-open box of a patch before shrinking; see nnU-Net."""
        zoom = self._draw_zoom(data_shape)
        self._zooms.append(zoom)
        self.inside = zoom == 1 and np.random.uniform() < self.inside_share
        if zoom == 1:
            return super().get_bbox(data_shape, force_fg, class_locations, *args, **kwargs)
        size, padding = self.patch_size, self.need_to_pad
        self.patch_size = [round(length * zoom) for length in size]
        self.need_to_pad = padding + np.array(self.patch_size) - np.array(size)
        try:
            return super().get_bbox(data_shape, force_fg, class_locations, *args, **kwargs)
        finally:
            self.patch_size, self.need_to_pad = size, padding

    def _draw_zoom(self, shape: np.ndarray) -> float:
        """1, or at ``zoom_share`` a factor at which the step before did not hold the scan yet."""
        if np.random.uniform() >= self.zoom_share:
            return 1.0
        ratio = float(np.max(np.array(shape) / np.array(self.final_patch_size)))
        factors = [factor for factor in AUTOZOOM_FACTORS if factor / AUTOZOOM_FACTORS[0] < ratio]
        return float(np.random.choice(factors)) if factors else 1.0

    def generate_train_batch(self) -> dict[str, Any]:
        """nnU-Net's batch, and how much each patch was zoomed."""
        self._zooms = []
        batch = super().generate_train_batch()
        return batch | {"zoom": torch.tensor(self._zooms)}
