"""How prompts travel through nnU-Net's sliding window as one extra channel.

nnU-Net hands a network nothing but tiles of the preprocessed array. The windows of a case stand one behind the other
along axis 0 of that array, and its last channel says which window a voxel belongs to, which label the window is for,
and where the clicks are. A voxel of window ``i`` for output channel ``h`` of ``H`` holds ``1 + i * H + h``, plus 1/256
for each click on it. Zero means: no window. float32 holds this exactly up to 2^16.

The network answers with a vote: channel 0 carries the weight of the tile, the label's channel the weight plus the
logit. Tiles that straddle two windows answer zero. Whatever weights nnU-Net averages tiles with, the quotient of the
two gives the logit back.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError

CLICK = 1.0 / 256
# Together at most 64 * (8 + 30) * 10 (nnU-Net's largest tile weight), which float16 holds.
VOTE = 8.0
LOGIT_LIMIT = 30.0
SCALE = 64.0


def encode_channel(size: tuple[int, ...], window: int, label_head: int, heads: int, points: np.ndarray) -> np.ndarray:
    """The extra channel of one window.

    Args:
        size: (D, H, W) of the window.
        window: Its number.
        label_head: Output channel of its label.
        heads: Number of output channels.
        points: (n, 3) click voxels in the window.

    Returns:
        (D, H, W) float32.
    """
    channel = np.full(size, 1 + window * heads + label_head, np.float32)
    np.add.at(channel, tuple(np.asarray(points, int).T), np.float32(CLICK))
    return channel


def decode_channel(channel: Tensor, heads: int) -> tuple[int, Tensor] | None:
    """What the extra channel of a tile says.

    Args:
        channel: (D, H, W) float32.
        heads: Number of output channels.

    Returns:
        Output channel of the label and (n, 3) long clicks, repeated ones repeated; None if the tile is not one window.
    """
    code = torch.floor(channel)
    first = int(code.flatten()[0])
    if first == 0 or not bool((code == first).all()):
        return None
    clicks = torch.round((channel - code) / CLICK).long()
    voxels = clicks.nonzero()
    return (first - 1) % heads, voxels.repeat_interleave(clicks[tuple(voxels.T)], dim=0)


def encode_vote(logit: Tensor, label_head: int, heads: int) -> Tensor:
    """The answer for one window: (D, H, W) foreground logit -> (heads, D, H, W)."""
    answer = logit.new_zeros((heads, *logit.shape))
    answer[0] = SCALE * VOTE
    answer[label_head] = SCALE * (VOTE + logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT))
    return answer


def decode_vote(averaged: np.ndarray, label_head: int) -> np.ndarray:
    """The foreground logit of one window from nnU-Net's averaged answers.

    Args:
        averaged: (heads, D, H, W), any float type.
        label_head: Output channel of the window's label.

    Returns:
        (D, H, W) float32.

    Raises:
        UserError: If no tile coincided with the window, which happens only with unusual step sizes.
    """
    weight = averaged[0].astype(np.float32) / (SCALE * VOTE)
    if weight.min() <= 0:
        raise UserError(
            "nnUNetv2_predict -step_size: with several prompts in a case only step sizes that divide 1 evenly "
            "(0.5, 0.25, 1) place a tile on each prompt; run again with the default of 0.5."
        )
    return averaged[label_head].astype(np.float32) / (SCALE * weight) - VOTE
