"""Convolution blocks and the shallow CNN encoder that adds detail to the transformer (paper, section 2)."""

from __future__ import annotations

from torch import nn


def conv_block(in_channels: int, out_channels: int) -> list[nn.Module]:
    """A 3 x 3 x 3 convolution without bias, InstanceNorm without affine, ReLU."""
    return [
        nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.InstanceNorm3d(out_channels),
        nn.ReLU(inplace=True),
    ]


class DoubleConv(nn.Sequential):
    """Two convolution blocks; on the patch at half size it is the CNN encoder."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Channels before and behind."""
        super().__init__(*conv_block(in_channels, out_channels), *conv_block(out_channels, out_channels))
