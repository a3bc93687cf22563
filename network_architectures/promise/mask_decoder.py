"""The mask decoder, and the shallow CNN encoder that adds detail to it (paper, section 2).

Two things follow from the fusing convolution being linear. Only the deepest feature depends on the prompt, so its
output is the sum of a share that is computed once per patch (:meth:`MaskDecoder.encode`) and one that each prompt adds
(:meth:`MaskDecoder.fuse`). And nothing but the up-convolution stands between a feature and it, so both are one
transposed convolution with a kernel of 4 x 4 x 4 and stride 2: a third of the work, and the upsampled features are
never stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.promise.options import FEATURES


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


LOGITS = 2
"""Background and foreground."""
HEADS = ("head2", "head3", "head4", "head5")
UPS = ("up2", "up3", "up4", "up5")


def fused_up_kernel(up_weight: Tensor, conv_weight: Tensor) -> Tensor:
    """An up-convolution followed by a 3 x 3 x 3 convolution as one transposed convolution.

    Args:
        up_weight: (I, M, 2, 2, 2) of a transposed convolution with stride 2.
        conv_weight: (O, M, 3, 3, 3) of a convolution with padding 1.

    Returns:
        (I, O, 4, 4, 4) for a transposed convolution with stride 2 and padding 1, without the up-convolution's bias.
    """
    return F.conv3d(up_weight, conv_weight, padding=2)


class FeatureHeads(nn.Module):
    """A double convolution and an upsampling x2 for each of the four features, shallow to deep."""

    def __init__(self, *, in_channels: int, channels: int, upsampling: str) -> None:
        """``upsampling`` is ``"transposed"`` (up-conv) or ``"trilinear"``."""
        super().__init__()
        for head, up in zip(HEADS, UPS, strict=True):
            self.add_module(head, DoubleConv(in_channels, channels))
            if upsampling == "transposed":
                self.add_module(up, nn.ConvTranspose3d(channels, channels, kernel_size=2, stride=2))

    def forward(self, index: int, feature: Tensor, conv_weight: Tensor) -> Tensor:
        """A feature's share of the fusing convolution, without the up-convolution's bias.

        Args:
            index: Of the feature, from shallow to deep.
            feature: (B, C, H, W, D).
            conv_weight: (O, channels, 3, 3, 3), the feature's part of the fusing convolution.

        Returns:
            (B, O, 2H, 2W, 2D).
        """
        feature = getattr(self, HEADS[index])(feature)
        up = getattr(self, UPS[index], None)
        if up is None:
            # As 3DSAM-adapter's published decoder does.
            finer = F.interpolate(feature, scale_factor=2, mode="trilinear", align_corners=True)
            return F.conv3d(finer, conv_weight, padding=1)
        with torch.autocast(feature.device.type, enabled=False):
            kernel = fused_up_kernel(up.weight, conv_weight)
        return F.conv_transpose3d(feature, kernel, stride=2, padding=1)

    def bias_weight(self, conv_weight: Tensor) -> Tensor | None:
        """What the up-convolutions' biases add, as a convolution of a volume of ones.

        Args:
            conv_weight: (O, 4 * channels, 3, 3, 3), the features' part of the fusing convolution.

        Returns:
            (O, 1, 3, 3, 3), or None where upsampling is trilinear.
        """
        if not hasattr(self, UPS[0]):
            return None
        bias = torch.cat([getattr(self, up).bias for up in UPS])
        return torch.einsum("omhwd,m->ohwd", conv_weight, bias)[:, None]


class MaskDecoder(nn.Module):
    """Fuses the four features, the CNN encoder's features and the image."""

    def __init__(
        self,
        *,
        neck_channels: int,
        channels: int,
        image_channels: int,
        upsampling: str,
        cnn_encoder: str | None,
        labels: int = 1,
    ) -> None:
        """``channels`` is the decoder's width, ``image_channels`` that of the patch; options as in ``ProMISe``."""
        super().__init__()
        self.channels = channels
        concatenated = channels if cnn_encoder == "concatenate" else 0
        self.splits = [channels] * FEATURES + [concatenated, image_channels]
        self.mlahead = FeatureHeads(in_channels=neck_channels, channels=channels, upsampling=upsampling)
        self.head = nn.Sequential(
            *conv_block(sum(self.splits), channels),
            nn.Conv3d(channels, labels * LOGITS, kernel_size=3, padding=1, bias=False),
        )

    def encode(self, features: Sequence[Tensor], cnn_feature: Tensor | None, image: Tensor) -> Tensor:
        """The share of the fusing convolution that no prompt changes.

        Args:
            features: The three shallower features, each (B, C, H, W, D).
            cnn_feature: (B, channels, 2H, 2W, 2D) where it is concatenated, else None.
            image: (B, image channels, 2H, 2W, 2D).

        Returns:
            (B, channels, 2H, 2W, 2D).
        """
        weight = self.head.get_parameter("0.weight")
        *feature_weights, cnn_weight, image_weight = weight.split(self.splits, dim=1)
        bias_weight = self.mlahead.bias_weight(weight[:, : FEATURES * self.channels])
        if bias_weight is not None:
            image = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
            image_weight = torch.cat([image_weight, bias_weight], dim=1)
        shared = F.conv3d(image, image_weight, padding=1)
        if cnn_feature is not None:
            shared = shared + F.conv3d(cnn_feature, cnn_weight, padding=1)
        for index, feature in enumerate(features):
            shared = shared + self.mlahead(index, feature, feature_weights[index])
        return shared

    def fuse(self, shared: Tensor, deepest: Tensor, residual: Tensor | None) -> Tensor:
        """Add the prompted feature.

        Args:
            shared: (B, channels, 2H, 2W, 2D) from :meth:`encode`.
            deepest: (B, C, H, W, D), the prompt encoder's output.
            residual: The CNN encoder's features with ``cnn_encoder="residual"``, else None.

        Returns:
            (B, channels, 2H, 2W, 2D), the fused feature.
        """
        _, norm, relu, _ = self.head
        last = FEATURES - 1
        weight = self.head.get_parameter("0.weight")[:, last * self.channels : FEATURES * self.channels]
        fused = relu(norm(shared + self.mlahead(last, deepest, weight)))
        return fused if residual is None else fused + residual

    def decode(self, fused: Tensor, label_index: Tensor | None = None) -> Tensor:
        """Finish.

        Args:
            fused: (B, channels, 2H, 2W, 2D) from :meth:`fuse`.
            label_index: (B,) or (B, K) long, the labels whose logits are wanted; None for those of all labels.

        Returns:
            (B, 2 K, 4H, 4W, 4D) logits, a pair of background and foreground for each label.
        """
        logits = self._logits(fused, label_index)
        return F.interpolate(logits, scale_factor=2, mode="trilinear", align_corners=True)

    def _logits(self, fused: Tensor, label_index: Tensor | None) -> Tensor:
        """The last convolution; of its kernels only those of the labels that each patch asks for."""
        weight = self.head.get_parameter("3.weight")
        if label_index is None:
            return F.conv3d(fused, weight, padding=1)
        batch = len(fused)
        pairs = weight.unflatten(0, (-1, LOGITS))[label_index.reshape(batch, -1)]  # (B, K, 2, channels, 3, 3, 3)
        in_groups = fused.flatten(0, 1)[None]  # (1, B * channels, 2H, 2W, 2D): each patch is a group of its own
        logits = F.conv3d(in_groups, pairs.flatten(0, 2), padding=1, groups=batch)
        return logits.unflatten(1, (batch, -1))[0]  # (B, 2 K, 2H, 2W, 2D)
