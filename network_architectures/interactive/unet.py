"""nnU-Net's U-Nets, clickable."""

from __future__ import annotations

import pydoc
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.interactive.answers import choose_labels, object_logits
from nnunetv2_promise.network_architectures.interactive.channels import CHANNELS
from nnunetv2_promise.network_architectures.interactive.correction_head import (
    CorrectionHead,
    ZeroConv3d,
    has_mask,
)

PROMPT_FORMS = ("decoder", "input")
# nnU-Net leaves out every key with this part when it starts from pretrained weights; a plain U-Net has no corrections.
_NOT_IN_PRETRAINED = "seg_layers"


class InteractiveUNet(nn.Module):
    """A U-Net of nnU-Net's (PlainConvUNet, ResidualEncoderUNet) that takes nnInteractive's interaction channels.

    ``decoder`` form: encoder and decoder see the image alone and run once per patch; at each level of the decoder
    interactions enter through convolutions that start at zero (``CorrectionHead``). With no interaction it is the plain
    U-Net with a head per label; with interactions it answers for one label, and where there is a previous mask the
    answer is that mask, corrected: the engine centres its patch on each click, and a patch that is half outside of the
    scan misleads a U-Net. Its keys are those of the plain U-Net and ``corrections``.

    ``input`` form: the interactions stand beside the image, as in nnInteractive's network; keys of the plain U-Net.

    Args:
        input_channels: Image channels alone, which makes the plain U-Net, or those plus nnInteractive's 7.
        num_classes: Heads of the plain U-Net. With interactions it must be 2, object or not.
        deep_supervision: Whether ``automatic`` returns the logits of every level.
        unet: Dotted path of the plain U-Net's class.
        image_channels: Channels of the image.
        labels: Foreground labels L of the data.
        prompts: ``"decoder"`` or ``"input"``.
        prompt_features: Hidden channels of the corrections.
        **arch_kwargs: Of the plain U-Net.

    Raises:
        UserError: If the channels fit neither reading, or ``prompts`` is unknown.
    """

    encoder: Any
    decoder: Any
    corrections: Any

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        unet: str,
        image_channels: int,
        labels: int,
        prompts: str = "decoder",
        prompt_features: int = 16,
        **arch_kwargs: Any,
    ) -> None:
        super().__init__()
        if prompts not in PROMPT_FORMS:
            raise UserError(
                f"The plans' architecture says prompts '{prompts}'; write one of {', '.join(PROMPT_FORMS)}."
            )
        if input_channels not in (image_channels, image_channels + CHANNELS):
            raise UserError(
                f"InteractiveUNet got {input_channels} input channels; the plans' architecture needs {image_channels} "
                f"of the image, or {image_channels + CHANNELS} with interactions."
            )
        self.image_channels = image_channels
        self.clickable = input_channels > image_channels
        self.beside_image = self.clickable and prompts == "input"
        self.asked: int | None = None
        heads = 1 + labels if self.clickable and prompts == "decoder" else num_classes
        seen = input_channels if self.beside_image else image_channels
        self.unet_class = cast(Any, pydoc.locate(unet))
        plain = self.unet_class(
            input_channels=seen, num_classes=heads, deep_supervision=deep_supervision, **arch_kwargs
        )
        self.encoder, self.decoder = plain.encoder, plain.decoder
        if self.clickable and not self.beside_image:
            widths = self.encoder.output_channels[-2::-1]  # of the decoder's levels, coarsest first
            self.corrections = nn.ModuleDict({_NOT_IN_PRETRAINED: CorrectionHead(widths, prompt_features)})

    def initialize(self, module: nn.Module) -> None:
        """nnU-Net's initialisation of a submodule; convolutions that start at zero stay so."""
        if not isinstance(module, ZeroConv3d):
            self.unet_class.initialize(module)

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> Any:
        """Numbers in the plain U-Net's feature maps, by which nnU-Net estimates memory."""
        return self.encoder.compute_conv_feature_map_size(input_size) + self.decoder.compute_conv_feature_map_size(
            input_size
        )

    def ask_for(self, label: int | None) -> None:
        """Say which label interactions mean from now on, where the caller can only hand over channels.

        Args:
            label: 0 to L - 1; None lets ``choose_labels`` tell it from the interactions.
        """
        self.asked = label

    def forward(
        self, x: Tensor | Sequence[Tensor], channels: Tensor | None = None, labels: Tensor | None = None
    ) -> Any:
        """Segment a patch.

        Args:
            x: (B, C, D, H, W) image; (B, C + 7, D, H, W) with nnInteractive's channels; or what ``encode`` returned.
            channels: (B, 7, D, H, W), with an encoded patch.
            labels: (B,) long, 0 to L - 1, the labels that an encoded patch is asked for; see ``decode``.

        Returns:
            Without interactions: the plain U-Net's logits (B, heads, D, H, W), a list of them under deep supervision.
            With interactions: (B, 2, D, H, W), the object that is asked for.
        """
        if not isinstance(x, Tensor):
            return self.decode(x, channels, labels)
        if self.beside_image or x.shape[1] == self.image_channels:
            return self.decoder(self.encoder(x))
        image, interactions = x.split([self.image_channels, CHANNELS], dim=1)
        return self.decode(self.encode(image), interactions)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of each level of the decoder for a patch (B, C, D, H, W), coarsest first; no prompt changes them."""
        skips = self.encoder(image)
        below, features = skips[-1], []
        for upsample, stage, skip in zip(self.decoder.transpconvs, self.decoder.stages, skips[-2::-1], strict=True):
            below = stage(torch.cat([upsample(below), skip], dim=1))
            features.append(below)
        return features

    def decode(self, features: Sequence[Tensor], channels: Tensor | None = None, labels: Tensor | None = None) -> Any:
        """Logits of an encoded patch, with interactions or without.

        Args:
            features: What ``encode`` returned.
            channels: (B, 7, D, H, W); None for no interaction.
            labels: (B,) long, 0 to L - 1, the labels that are asked for. If None, the one of ``ask_for``, and without
                one ``choose_labels``.

        Returns:
            Without channels (B, heads, D, H, W), under deep supervision a list, finest first; else (B, 2, D, H, W).
        """
        heads = self.decoder.seg_layers
        if channels is None and self.decoder.deep_supervision:
            return [head(feature) for head, feature in zip(heads, features, strict=True)][::-1]
        logits = heads[-1](features[-1])
        if channels is None:
            return logits
        if labels is None and self.asked is not None:
            labels = torch.full((len(logits),), self.asked, device=logits.device)
        pair = object_logits(logits, choose_labels(logits, channels) if labels is None else labels)
        background, wanted = pair.masked_fill(has_mask(channels), 0).split(1, dim=1)
        change = self.corrections[_NOT_IN_PRETRAINED](features, channels, pair[:, 1:] - pair[:, :1])
        return torch.cat([background, wanted + change], dim=1)
