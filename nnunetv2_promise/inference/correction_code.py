"""How clicks that correct travel through nnU-Net's sliding window: as channels behind the one of ``tile_code``.

The first of them is the previous mask, the others are one interaction each, in their order. Like the image they are
mirrored with their tile. The channel of ``tile_code`` then holds no click.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_promise.inference.interactions import Interaction

OUTSIDE, IN_MASK = 1.0, 2.0


class Corrections(NamedTuple):
    """What is asked in one window.

    Attributes:
        interactions: In their order, in voxels of the window.
        previous_mask: (D, H, W) bool, or None if there is none.
    """

    interactions: Sequence[Interaction]
    previous_mask: NDArray[np.bool_] | None


def channels_for(corrections: Sequence[Corrections]) -> int:
    """How many channels a case needs whose windows ask this; none if nothing is corrected."""
    return max((1 + len(item.interactions) for item in corrections), default=0)


def encode_corrections(corrections: Corrections, size: Sequence[int], channels: int) -> NDArray[np.float32]:
    """The channels of one window.

    Args:
        corrections: What is asked.
        size: (D, H, W) of the window.
        channels: Of ``channels_for``.

    Returns:
        (channels, D, H, W). An interaction's channel counts its clicks on each voxel, negative ones below 0.
    """
    encoded = np.zeros((channels, *size), np.float32)
    if corrections.previous_mask is not None:
        encoded[0] = np.where(corrections.previous_mask, IN_MASK, OUTSIDE)
    for channel, interaction in zip(encoded[1:], corrections.interactions, strict=False):
        voxels, counts = np.unique(np.asarray(interaction.voxels, int), axis=0, return_counts=True)
        channel[tuple(voxels.T)] = counts if interaction.positive else -counts
    return encoded


def decode_corrections(channels: Tensor) -> Corrections | None:
    """What the channels of a tile say.

    Args:
        channels: (K, D, H, W) float32; K may be 0.

    Returns:
        What is asked; None if the tile's window has no correction.
    """
    interactions = []
    for channel in channels[1:]:
        voxels = channel.nonzero()  # (n, 3)
        if not len(voxels):
            break
        counts = channel[tuple(voxels.T)].round().long()
        repeated = voxels.repeat_interleave(counts.abs(), dim=0)
        interactions.append(Interaction(repeated.tolist(), bool(counts[0] > 0)))
    if not interactions:
        return None
    first = channels[0].cpu().numpy()
    return Corrections(interactions, first > (OUTSIDE + IN_MASK) / 2 if first.any() else None)
