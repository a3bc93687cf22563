"""How prompts travel through nnU-Net's sliding window as one extra channel.

nnU-Net hands a network nothing but tiles of the preprocessed array. The windows of a case stand one behind the other
along axis 0 of that array, and its last channel says which window a voxel belongs to, which label the window is for,
and where the clicks are. A voxel of window ``i`` for label ``h`` of ``H`` (background counts) holds
``1 + (i % 2) * H + h``, plus 1/256 for each click on it, at most 255; only windows next to each other have to differ.
Zero means: no window. float32 holds this exactly up to 2^16.

The network answers with a vote of two channels: the weight of the tile, and the weight plus the logit. Both are zero
where no patch looked, and in tiles that straddle two windows. Whatever weights nnU-Net averages tiles and folds with,
the quotient of the two gives the mean logit of those who looked.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError

CLICK = 1.0 / 256
MAX_CLICKS = 255
VOTE_CHANNELS = 2
# Together at most 64 * (8 + 30) * 10 (nnU-Net's largest tile weight), which float16 holds.
VOTE = 8.0
LOGIT_LIMIT = 30.0
SCALE = 64.0


def encode_channel(size: tuple[int, ...], window: int, label_head: int, heads: int, points: np.ndarray) -> np.ndarray:
    """The extra channel of one window.

    Args:
        size: (D, H, W) of the window.
        window: Its number.
        label_head: Number of its label.
        heads: Background and every label.
        points: (n, 3) click voxels in the window.

    Returns:
        (D, H, W) float32.
    """
    channel = np.full(size, 1 + (window % 2) * heads + label_head, np.float32)
    voxels, counts = np.unique(np.asarray(points, int), axis=0, return_counts=True)
    channel[tuple(voxels.T)] += CLICK * np.minimum(counts, MAX_CLICKS)
    return channel


def decode_channel(channel: Tensor, heads: int) -> tuple[int, Tensor] | None:
    """What the extra channel of a tile says.

    Args:
        channel: (D, H, W) float32.
        heads: Background and every label.

    Returns:
        Number of the label and (n, 3) long clicks, repeated ones repeated; None if the tile is not one window.
    """
    code = torch.floor(channel)
    first = int(code.flatten()[0])
    if first == 0 or not bool((code == first).all()):
        return None
    clicks = torch.round((channel - code) / CLICK).long()
    voxels = clicks.nonzero()
    return (first - 1) % heads, voxels.repeat_interleave(clicks[tuple(voxels.T)], dim=0)


def encode_vote(logit: Tensor) -> Tensor:
    """The answer for one window; who saw nothing of a voxel does not vote there.

    Args:
        logit: (D, H, W) foreground logit, NaN where no patch looked.

    Returns:
        (2, D, H, W): the weight of the vote, and the weight plus the logit.
    """
    seen = ~logit.isnan()
    vote = VOTE + logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    return SCALE * torch.stack([VOTE * seen, torch.where(seen, vote, 0)])


def decode_vote(averaged: np.ndarray) -> np.ndarray:
    """The foreground logit of one window from nnU-Net's averaged answers.

    Args:
        averaged: (2, D, H, W), any float type.

    Returns:
        (D, H, W) float32, NaN where nobody voted.

    Raises:
        UserError: If no tile coincided with the window, which happens only with unusual step sizes.
    """
    weight = averaged[0].astype(np.float32) / (SCALE * VOTE)
    if not weight.any():
        raise UserError(
            "nnUNetv2_predict -step_size: with several prompts in a case only step sizes that divide 1 evenly "
            "(0.5, 0.25, 1) place a tile on each prompt; run again with the default of 0.5."
        )
    logit = np.full_like(weight, np.nan)
    np.divide(averaged[1].astype(np.float32), SCALE * weight, out=logit, where=weight > 0)
    return logit - VOTE
