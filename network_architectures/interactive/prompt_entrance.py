"""Where interactions enter the decoder of a U-Net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.interactive.channels import CHANNELS, PREVIOUS_MASK

MASK_LOGIT = 8.0


class ZeroConv3d(nn.Conv3d):
    """A 1 x 1 x 1 convolution that starts at zero, so that a new branch changes nothing before it is trained."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def reset_parameters(self) -> None:
        """Weights and bias are zero."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class PromptEntrance(nn.Module):
    """Turns the interaction channels into something to add to the features of one decoder level.

    A 3 x 3 x 3 convolution, so that shapes and edges of the mask count, then a ``ZeroConv3d``.

    Args:
        features: Channels of the level.
        hidden: Channels between the two convolutions.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(CHANNELS, hidden, 3, padding=1)
        self.nonlinearity = nn.LeakyReLU(inplace=True)
        self.zero_conv = ZeroConv3d(hidden, features)

    def forward(self, channels: Tensor, size: Sequence[int]) -> Tensor:
        """Shrink the channels to the level's size and project them.

        Args:
            channels: (B, 7, D, H, W) at the patch's size.
            size: (d, h, w) of the level.

        Returns:
            (B, features, d, h, w); zero before training.
        """
        return self.zero_conv(self.nonlinearity(self.conv(shrink_channels(channels, size))))


class CorrectionHead(nn.Module):
    """What interactions add to the object's logit at full resolution, given what the decoder knows there.

    The way from a click to the answer is short here, so that it is learned within few steps: two 3 x 3 x 3
    convolutions, then a ``ZeroConv3d``. A previous mask speaks for itself with a learned weight, so that what was right
    stays: the engine centres its patch on each click, and a patch that is half outside of the scan misleads the U-Net.

    Args:
        features: Channels of the decoder's finest features.
        hidden: Channels between the convolutions.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(features + CHANNELS, hidden, 3, padding=1),
            nn.LeakyReLU(inplace=True),
            nn.Conv3d(hidden, hidden, 3, padding=1),
            nn.LeakyReLU(inplace=True),
        )
        self.zero_conv = ZeroConv3d(hidden, 1)
        self.mask_weight = nn.Parameter(torch.tensor(MASK_LOGIT))

    def forward(self, features: Tensor, channels: Tensor) -> Tensor:
        """(B, features, D, H, W) and (B, 7, D, H, W) to (B, 1, D, H, W).

        Before training: zero for a patch without a mask, else plus and minus ``MASK_LOGIT`` in the mask and outside.
        """
        mask = channels[:, PREVIOUS_MASK : PREVIOUS_MASK + 1]
        present = mask.flatten(1).any(1).view(-1, 1, 1, 1, 1)
        kept = self.mask_weight * (2 * mask - 1) * present
        return kept + self.zero_conv(self.layers(torch.cat([features, channels], dim=1)))


def shrink_channels(channels: Tensor, size: Sequence[int]) -> Tensor:
    """Interaction channels on a coarser grid: the mask averaged, the rest by maximum, so that no click vanishes."""
    if tuple(channels.shape[2:]) == tuple(size):
        return channels
    mask, rest = channels.split([1, CHANNELS - 1], dim=1)
    depth, height, width = size
    return torch.cat(
        [F.adaptive_avg_pool3d(mask, (depth, height, width)), F.adaptive_max_pool3d(rest, tuple(size))], dim=1
    )
