"""What interactions add to the answer of a U-Net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.interactive.channels import (
    CHANNELS,
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
)

MASK_LOGIT = 4.0
LEAST_MASK_LOGIT = 1.0
CLICK_LOGIT = 6.0


class ZeroConv3d(nn.Conv3d):
    """A 1 x 1 x 1 convolution that starts at zero, so that a new branch changes nothing before it is trained."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def reset_parameters(self) -> None:
        """Weights and bias are zero."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class CorrectionHead(nn.Module):
    """What interactions say about the object's logit.

    At each level of the decoder two 3 x 3 x 3 convolutions and a ``ZeroConv3d`` read its features and the interactions;
    the features do not depend on interactions, so that the answer to one more click costs this head alone. It learns
    to move the object's border: by a voxel at the finest level, by many at the coarse ones, along what the features
    say. A previous mask and the clicks also speak for themselves; their weights are trained from values at which a
    click changes a certain mask in its middle only, and an uncertain one as far as the click reaches.

    Args:
        widths: Channels of the decoder's levels, coarsest first.
        hidden: Channels between the convolutions.
    """

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width + CHANNELS, hidden, 3, padding=1),
                nn.LeakyReLU(inplace=True),
                nn.Conv3d(hidden, hidden, 3, padding=1),
                nn.LeakyReLU(inplace=True),
                ZeroConv3d(hidden, 1),
            )
            for width in widths
        )
        self.mask_weight = nn.Parameter(torch.ones(()))
        self.click_weight = nn.Parameter(torch.ones(()))

    def forward(self, features: Sequence[Tensor], channels: Tensor, automatic: Tensor) -> Tensor:
        """What is added to the object's logit.

        Before training it is ``CLICK_LOGIT`` times the clicks with their signs; and, where there is a previous mask,
        ``hold`` in the mask and its negative outside.

        Args:
            features: Of each level (B, width, d, h, w), coarsest first.
            channels: (B, 7, D, H, W).
            automatic: (B, 1, D, H, W), the object's logit against the rest without any interaction.

        Returns:
            (B, 1, D, H, W).
        """
        clicks = channels[:, POSITIVE_POINTS : POSITIVE_POINTS + 1] - channels[:, NEGATIVE_POINTS : NEGATIVE_POINTS + 1]
        mask = (2 * channels[:, PREVIOUS_MASK : PREVIOUS_MASK + 1] - 1) * has_mask(channels)
        logit = CLICK_LOGIT * self.click_weight * clicks + self.mask_weight * mask * hold(automatic)
        for level, feature in zip(self.levels, features, strict=True):
            size = feature.shape[2:]
            learned = level(torch.cat([feature, shrink_channels(channels, size)], dim=1))
            if size != channels.shape[2:]:
                learned = F.interpolate(learned, channels.shape[2:], mode="trilinear", align_corners=False)
            logit = logit + learned
        return logit


def hold(automatic: Tensor) -> Tensor:
    """How strongly a previous mask holds against clicks: by the U-Net's own certainty, at most ``MASK_LOGIT``.

    A mask is mostly wrong where the U-Net hesitated, so a click changes more of it there. It holds a little in any
    case: a mask of the user's in a place of which the U-Net knows nothing must not vanish at the first click.

    Args:
        automatic: (B, 1, D, H, W), the object's logit against the rest without any interaction.

    Returns:
        (B, 1, D, H, W), ``LEAST_MASK_LOGIT`` to ``MASK_LOGIT``; no gradient reaches ``automatic``.
    """
    return (MASK_LOGIT * torch.tanh(automatic.detach().abs() / MASK_LOGIT)).clamp(min=LEAST_MASK_LOGIT)


def has_mask(channels: Tensor) -> Tensor:
    """Whether each patch of (B, 7, D, H, W) channels has a previous mask: (B, 1, 1, 1, 1) bool."""
    return channels[:, PREVIOUS_MASK].flatten(1).any(1).view(-1, 1, 1, 1, 1)


def shrink_channels(channels: Tensor, size: Sequence[int]) -> Tensor:
    """Interaction channels on a coarser grid: the mask averaged, the rest by maximum, so that no click vanishes."""
    if tuple(channels.shape[2:]) == tuple(size):
        return channels
    mask, rest = channels.split([1, CHANNELS - 1], dim=1)
    depth, height, width = size
    return torch.cat(
        [F.adaptive_avg_pool3d(mask, (depth, height, width)), F.adaptive_max_pool3d(rest, tuple(size))], dim=1
    )
