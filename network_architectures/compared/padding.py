"""Any patch size in, the same size out: padding to what a network's strides need."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def padded_size(size: Sequence[int], multiple: int) -> tuple[int, ...]:
    """The smallest size that a network with this total stride takes.

    Args:
        size: (D, H, W) in voxels.
        multiple: Total stride of the network; its coarsest grid has one voxel for that many.

    Returns:
        (D, H, W), each a multiple; the last one is doubled if the coarsest grid would be a single voxel, since
        instance normalisation needs two.
    """
    padded = [-(-length // multiple) * multiple for length in size]
    if math.prod(padded) == multiple ** len(padded):
        padded[-1] *= 2
    return tuple(padded)


def pad_end(volume: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, D, H, W) padded with zeros at the end of each axis; zero is the mean of normalised images.

    Only the end is padded, so that coarser outputs keep their place after cropping.
    """
    missing = [target - length for target, length in zip(size, volume.shape[2:], strict=True)]
    if not any(missing):
        return volume
    return F.pad(volume, (0, missing[2], 0, missing[1], 0, missing[0]))


def crop_end(volume: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, D, H, W) cut to ``size``; undoes :func:`pad_end`."""
    return volume[:, :, : size[0], : size[1], : size[2]]
