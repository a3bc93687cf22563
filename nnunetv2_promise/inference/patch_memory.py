"""The patches of an image, encoded once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from numpy.typing import NDArray

# Encoded patches that are kept; one of ViT-B at 128^3 has 170 MB.
KEPT_PATCHES = 8

Start = tuple[int, ...]


class PatchMemory:
    """The patches of one image, encoded when they are first needed; the most recent ones are kept.

    Args:
        network: A ``PromptedNetwork`` on its device, in evaluation mode.
        image: (C, D, H, W) float32, preprocessed.
        kept: How many encoded patches are kept.

    Attributes:
        encodings: How often a patch was encoded.
    """

    def __init__(self, network: Any, image: NDArray[np.float32], *, kept: int = KEPT_PATCHES) -> None:
        self.network: Any = network
        self.device: torch.device = next(network.parameters()).device
        self.shape: tuple[int, ...] = image.shape[1:]
        self.encodings = 0
        self._image = image
        self._limit = kept
        self._kept: dict[Start, Any] = {}

    def encoded(self, start: Start) -> Any:
        """The patch that starts at a voxel, which may lie outside of the image; zeros are there, as in training."""
        known = self._kept.pop(start, None)
        if known is None:
            box = [[low, low + length] for low, length in zip(start, self.network.patch_size, strict=True)]
            patch = torch.from_numpy(crop_and_pad_nd(self._image, box, 0)).float().to(self.device)
            known = self.network.encode(patch[None])
            self.encodings += 1
        self._kept[start] = known  # the newest comes last
        if len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
        return known
