"""3D UX-Net: a convolutional backbone with large kernels in a UNETR-like decoder.

Lee, Bao, Huo and Landman, "3D UX-Net: A Large Kernel Volumetric ConvNet Modernizing Hierarchical Transformer for
Medical Image Segmentation", ICLR 2023. Written from the paper's description. The encoder and decoder blocks around the
backbone are MONAI's.

Parameters for one channel, two classes and features 48, 96, 192, 384 (d is a width; no norm outside the backbone has
parameters):

========================= =========================================================== ==========
part                      formula                                                     parameters
========================= =========================================================== ==========
stem                      7^3 x 48 + 48, norm 2 x 48                                      16,608
three reductions          norm 2 d, 2^3 d x 2 d + 2 d                                    775,488
eight blocks              344 d + 2 d + 8 d + 5 d + d = 360 d, two for each width        518,400
four output norms         2 d                                                              1,440
**backbone**                                                                           1,311,936
encoder blocks 1 to 5     63,552 + 377,856 + 1,511,424 + 6,045,696 + 24,182,784       32,181,312
decoder blocks 5 to 1     14,598,144 + 3,649,536 + 912,384 + 228,096 + 124,416        19,512,576
output                    48 x 2 + 2                                                          98
**network**                                                                           53,005,922
========================= =========================================================== ==========
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrUpBlock
from torch import Tensor, nn

from nnunetv2_promise.network_architectures.compared.padding import crop_end, pad_end, padded_size
from nnunetv2_promise.network_architectures.depthwise import DepthwiseConv3d, depthwise_layout

LAYER_SCALE = 1e-6
"""Start value of the factor on each block's branch (paper: 1e-6)."""
TOTAL_STRIDE = 16
EXPANSION = 4
"""Channels that each channel of a block becomes (paper, 3.2)."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, D, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Same shape as the input."""
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)


class UXBlock(nn.Module):
    """Depthwise 7^3 convolution, norm, and a pointwise expansion by 4 that keeps the channels apart (paper, 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv3d(channels, kernel_size=7)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv3d(channels, EXPANSION * channels, kernel_size=1, groups=channels)
        self.activation = nn.GELU()
        self.reduce = nn.Conv3d(EXPANSION * channels, channels, kernel_size=1, groups=channels)
        self.scale = nn.Parameter(torch.full((channels, 1, 1, 1), LAYER_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, D, H, W) to the same shape."""
        branch = self.activation(self.expand(depthwise_layout(self.norm(self.depthwise(features)))))
        return features + self.scale * self._reduce(branch)

    def _reduce(self, branch: Tensor) -> Tensor:
        """The grouped convolution as the weighted sum that it is, so that no GPU kernel works group by group.

        (B, 4 C, D, H, W) to (B, C, D, H, W).
        """
        weight, bias = self.reduce.weight.to(branch.dtype), self.reduce.get_parameter("bias")
        weighted = branch.unflatten(1, (-1, EXPANSION)) * weight.view(-1, EXPANSION, 1, 1, 1)
        return weighted.sum(2) + bias[:, None, None, None]


class UXBackbone(nn.Module):
    """Four stages at strides 2, 4, 8 and 16."""

    def __init__(self, *, in_channels: int, features: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv3d(in_channels, features[0], kernel_size=7, stride=2, padding=3), ChannelNorm(features[0])
        )
        reductions = (
            nn.Sequential(ChannelNorm(fine), nn.Conv3d(fine, coarse, kernel_size=2, stride=2))
            for fine, coarse in pairwise(features)
        )
        self.reductions = nn.ModuleList([stem, *reductions])
        self.stages = nn.ModuleList(
            nn.Sequential(*(UXBlock(width) for _ in range(depth)))
            for width, depth in zip(features, depths, strict=True)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for width in features)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, D, H, W) to the normalised features of each stage, finest first."""
        outputs = []
        features = image
        for reduction, stage, norm in zip(self.reductions, self.stages, self.norms, strict=True):
            features = stage(reduction(features))
            outputs.append(norm(features))
        return outputs


class UXNet3D(nn.Module):
    """3D UX-Net for patches of any size; they are padded to multiples of 16 and the logits are cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        features: Widths of the four stages.
        hidden: Width of the deepest encoder block.
        depths: Blocks in each stage.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (48, 96, 192, 384),
        hidden: int = 768,
        depths: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.backbone = UXBackbone(in_channels=in_channels, features=features, depths=depths)
        widths = [*features, hidden]
        options: dict[str, Any] = {"spatial_dims": 3, "kernel_size": 3, "norm_name": "instance", "res_block": True}
        sources = [in_channels, *features]
        self.encoder = nn.ModuleList(
            UnetrBasicBlock(in_channels=source, out_channels=width, stride=1, **options)
            for source, width in zip(sources, widths, strict=True)
        )
        self.decoder = nn.ModuleList(
            UnetrUpBlock(in_channels=coarse, out_channels=fine, upsample_kernel_size=2, **options)
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = UnetrBasicBlock(in_channels=widths[0], out_channels=widths[0], stride=1, **options)
        self.out = UnetOutBlock(spatial_dims=3, in_channels=widths[0], out_channels=out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) to logits (B, out_channels, D, H, W)."""
        size = image.shape[2:]
        image = pad_end(image, padded_size(size, TOTAL_STRIDE))
        levels = [image, *self.backbone(image)]
        *skips, features = (block(level) for block, level in zip(self.encoder, levels, strict=True))
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            features = block(features, skip)
        return crop_end(self.out(self.last(features)), size)
