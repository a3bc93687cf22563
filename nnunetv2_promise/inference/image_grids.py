"""Between an image and what nnU-Net's preprocessing makes of it: voxels there, masks back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunetv2_promise.errors import UserError


class PreprocessedGrid:
    """How the grids of an image and of its preprocessed array lie.

    Args:
        properties: What nnU-Net's preprocessor noted.
        shape: (D, H, W) of the preprocessed array.
        transpose_forward: Of the plans.
        transpose_backward: Of the plans.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        shape: Sequence[int],
        transpose_forward: Sequence[int],
        transpose_backward: Sequence[int],
    ) -> None:
        self.shape = tuple(shape)
        self._forward, self._backward = list(transpose_forward), list(transpose_backward)
        self._whole = tuple(properties["shape_before_cropping"])
        box = np.array(properties["bbox_used_for_cropping"])
        self._low, self._cropped = box[:, 0], box[:, 1] - box[:, 0]

    def holds(self, voxels_zyx: NDArray[np.int64]) -> bool:
        """Whether (n, 3) voxels of the image all lie in its content, and not in the zeros that are cut off."""
        inside = voxels_zyx[:, self._forward] - self._low
        return bool(((inside >= 0) & (inside < self._cropped)).all())

    def to_preprocessed(self, voxels_zyx: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 3) voxels of the image to the nearest ones of the preprocessed array (resampled edge to edge).

        Raises:
            UserError: If one lies in the zeros around the image's content, which preprocessing cuts off.
        """
        inside = voxels_zyx[:, self._forward] - self._low
        if not self.holds(voxels_zyx):
            raise UserError("A click lies in the zeros around the image's content, where there is nothing to segment.")
        return ((inside + 0.5) * np.array(self.shape) / self._cropped).astype(np.int64)

    def to_image(self, logits: NDArray[np.float32], unseen: float) -> NDArray[np.bool_]:
        """Where a (D, H, W) logit, interpolated linearly, is above 0, as a mask on the image's grid (z, y, x).

        Args:
            logits: Preprocessed array, NaN where nothing is known.
            unseen: What stands for NaN; below 0.
        """
        mask = np.zeros(self._whole, bool)
        box = ndimage.find_objects((logits > 0).view(np.uint8))
        if box:
            part, places = [], []
            for axis, edges in enumerate(box[0]):
                scale = self.shape[axis] / self._cropped[axis]
                first = max(int(np.floor((edges.start - 0.5) / scale)) - 1, 0)
                last = min(int(np.ceil((edges.stop + 0.5) / scale)) + 1, int(self._cropped[axis]))
                part.append(slice(first + self._low[axis], last + self._low[axis]))
                places.append((np.arange(first, last) + 0.5) * scale - 0.5)
            near = np.meshgrid(*places, indexing="ij")
            known = np.nan_to_num(logits, nan=unseen)
            mask[tuple(part)] = ndimage.map_coordinates(known, near, order=1, mode="nearest") > 0
        return mask.transpose(self._backward)

    def mask_to_preprocessed(self, mask_zyx: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask of the image on the preprocessed grid, by nearest voxels."""
        cropped = mask_zyx.transpose(self._forward)[
            tuple(slice(low, low + n) for low, n in zip(self._low, self._cropped, strict=True))
        ]
        return resample_mask(cropped, self.shape)


def resample_mask(mask: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.bool_]:
    """A mask on a grid of another shape that covers the same space, by nearest voxels."""
    index = [((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(shape, mask.shape, strict=True)]
    return mask[np.ix_(*index)]
