"""The mask decoder: four features, the CNN encoder's and the image to logits (paper, section 2).

Only the deepest feature depends on the prompt, and the fusing convolution is linear in its input channels. So its
output is the sum of a share that is computed once per patch (:meth:`MaskDecoder.encode`) and one that each prompt adds
(:meth:`MaskDecoder.decode`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.cnn_encoder import DoubleConv, conv_block
from nnunetv2_promise.network_architectures.config import FEATURES

LOGITS = 2
"""Background and foreground."""
HEADS = ("head2", "head3", "head4", "head5")
UPS = ("up2", "up3", "up4", "up5")


class FeatureHeads(nn.Module):
    """A double convolution and an upsampling x2 for each of the four features, shallow to deep."""

    def __init__(self, *, in_channels: int, channels: int, upsampling: str) -> None:
        """``upsampling`` is ``"transposed"`` (up-conv) or ``"trilinear"``."""
        super().__init__()
        for head, up in zip(HEADS, UPS, strict=True):
            self.add_module(head, DoubleConv(in_channels, channels))
            if upsampling == "transposed":
                self.add_module(up, nn.ConvTranspose3d(channels, channels, kernel_size=2, stride=2))
            else:
                self.add_module(up, nn.Upsample(scale_factor=2, mode="trilinear"))

    def forward(self, index: int, feature: Tensor) -> Tensor:
        """(B, C, H, W, D) feature number ``index`` to (B, channels, 2H, 2W, 2D)."""
        return self.get_submodule(UPS[index])(self.get_submodule(HEADS[index])(feature))


class MaskDecoder(nn.Module):
    """Fuses the four features, the CNN encoder's features and the image."""

    def __init__(
        self, *, neck_channels: int, channels: int, image_channels: int, upsampling: str, cnn_encoder: str | None
    ) -> None:
        """``channels`` is the decoder's width, ``image_channels`` that of the patch; options as in ``ProMISe``."""
        super().__init__()
        self.channels = channels
        self.adds_cnn = cnn_encoder == "residual"
        fused = FEATURES * channels + (channels if cnn_encoder == "concatenate" else 0) + image_channels
        self.mlahead = FeatureHeads(in_channels=neck_channels, channels=channels, upsampling=upsampling)
        self.head = nn.Sequential(
            *conv_block(fused, channels), nn.Conv3d(channels, LOGITS, kernel_size=3, padding=1, bias=False)
        )

    def encode(self, features: Sequence[Tensor], cnn_feature: Tensor | None, image: Tensor) -> Tensor:
        """The share of the fusing convolution that no prompt changes.

        Args:
            features: The three shallower features, each (B, C, H, W, D).
            cnn_feature: (B, channels, 2H, 2W, 2D) or None.
            image: (B, image channels, 2H, 2W, 2D).

        Returns:
            (B, channels, 2H, 2W, 2D).
        """
        parts = [self.mlahead(index, feature) for index, feature in enumerate(features)]
        weight = self.head[0].weight
        shallow = F.conv3d(torch.cat(parts, dim=1), weight[:, : 3 * self.channels], padding=1)
        rest = [image] if cnn_feature is None or self.adds_cnn else [cnn_feature, image]
        return shallow + F.conv3d(torch.cat(rest, dim=1), weight[:, 4 * self.channels :], padding=1)

    def decode(self, shared: Tensor, deepest: Tensor, residual: Tensor | None) -> Tensor:
        """Add the prompt's share and finish.

        Args:
            shared: (B, channels, 2H, 2W, 2D) from :meth:`encode`.
            deepest: (B, C, H, W, D), the prompt encoder's output.
            residual: The CNN encoder's features with ``cnn_encoder="residual"``, else None.

        Returns:
            (B, 2, 4H, 4W, 4D) logits.
        """
        _, norm, relu, to_logits = self.head
        last = slice(3 * self.channels, 4 * self.channels)
        steered = self.mlahead(FEATURES - 1, deepest)
        fused = relu(norm(shared + F.conv3d(steered, self.head[0].weight[:, last], padding=1)))
        if residual is not None:
            fused = fused + residual
        return F.interpolate(to_logits(fused), scale_factor=2, mode="trilinear", align_corners=True)
