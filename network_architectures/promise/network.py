"""ProMISe: a patch and points in, a mask's logits out (Li et al., "ProMISe", 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.promise.correcting import Corrections, dense_maps
from nnunetv2_promise.network_architectures.promise.image_encoder import ImageEncoder
from nnunetv2_promise.network_architectures.promise.initialisation import initialise
from nnunetv2_promise.network_architectures.promise.mask_decoder import LOGITS, DoubleConv, MaskDecoder
from nnunetv2_promise.network_architectures.promise.options import (
    check_corrections,
    check_image,
    check_options,
    check_points,
    encoder_config,
)
from nnunetv2_promise.network_architectures.promise.patch_embedding import TOKEN_VOXELS
from nnunetv2_promise.network_architectures.promise.prompt_encoder import PromptEncoder

TO_TOKEN_ORDER = (0, 1, 3, 4, 2)
"""(B, C, D, H, W) to (B, C, H, W, D): the published code's order, array axes (1, 2, 0)."""
TO_ARRAY_ORDER = (0, 1, 4, 2, 3)
"""Back again."""


@dataclass(frozen=True)
class EncodedPatch:
    """What the network knows of a patch before it sees a prompt; decode it with as many prompts as you like.

    Attributes:
        deepest: (B, neck_channels, H/4, W/4, D/4), the feature that prompts act on.
        shared: (B, decoder_channels, H/2, W/2, D/2), the prompt-free share of the fusing convolution.
        residual: The CNN encoder's features where they are added as a residual, else None.
    """

    deepest: Tensor
    shared: Tensor
    residual: Tensor | None


class ProMISe(nn.Module):
    """A promptable 3D segmentation network on SAM's image encoder.

    The four parts are the paper's: image encoder with adapters, visual prompt encoder, CNN encoder, mask decoder.
    All options are JSON values, so that plans can hold them.
    """

    def __init__(
        self,
        *,
        encoder: str | Mapping[str, Any] = "vit_b",
        patch_size: Sequence[int] = (128, 128, 128),
        in_channels: int = 1,
        adapters: int = 2,
        upsampling: str = "transposed",
        cnn_encoder: str | None = "concatenate",
        decoder_channels: int = 128,
        neck_channels: int = 256,
        labels: int = 1,
        corrects: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        """Build the network with random weights.

        Args:
            encoder: ``"vit_b"``, ``"vit_l"``, ``"vit_h"``, or a dict with the fields of
                :class:`~nnunetv2_promise.network_architectures.promise.options.EncoderConfig`.
            patch_size: (D, H, W) in voxels, at least 16 each. A size that is not a multiple of 4 is padded inside.
            in_channels: Channels C of the image. With more than one, a trained 1 x 1 x 1 convolution, at first their
                mean, makes the one that SAM's encoder sees; the CNN encoder and the decoder see all.
            adapters: 1 or 2 per block (2 is the paper's choice).
            upsampling: ``"transposed"`` (up-conv) or ``"trilinear"``, of the features in the decoder.
            cnn_encoder: ``"concatenate"`` (ProMISe-C), ``"residual"`` (ProMISe-R) or None.
            decoder_channels: Width of the CNN encoder and the mask decoder.
            neck_channels: Width of the four image features and of the prompt encoder, a multiple of 16.
            labels: Foreground labels that a prompt may name. Each has a pair of logits of its own in the last
                convolution; 1 is the published network.
            corrects: Take negative clicks and a previous mask, and predict a mask's Dice. The parts for it start
                without effect.
            activation_checkpointing: Recompute each block in the backward pass: less memory, more time.

        Raises:
            UserError: If an option has no meaning.
        """
        super().__init__()
        check_options(
            patch_size, in_channels, adapters, upsampling, cnn_encoder, neck_channels, decoder_channels, labels
        )
        self.patch_size = tuple(int(size) for size in patch_size)
        self.in_channels = in_channels
        self.labels = labels
        self.padded_size = tuple(-(-size // TOKEN_VOXELS) * TOKEN_VOXELS for size in self.patch_size)
        self.adds_cnn = cnn_encoder == "residual"
        self.channel_mixer = nn.Conv3d(in_channels, 1, kernel_size=1, bias=False) if in_channels > 1 else None
        self.image_encoder = ImageEncoder(
            encoder_config(encoder),
            patch_size=self.padded_size,
            adapters=adapters,
            neck_channels=neck_channels,
            activation_checkpointing=activation_checkpointing,
        )
        self.prompt_encoder = PromptEncoder(neck_channels, mlp_dim=8 * neck_channels)
        self.cnn_encoder = DoubleConv(in_channels, decoder_channels) if cnn_encoder else None
        self.mask_decoder = MaskDecoder(
            neck_channels=neck_channels,
            channels=decoder_channels,
            image_channels=in_channels,
            upsampling=upsampling,
            cnn_encoder=cnn_encoder,
            labels=labels,
        )
        initialise(self)
        # nnU-Net's -pretrained_weights lets only what is called so be missing from a checkpoint, such as a plain one.
        self.corrections = (
            nn.ModuleDict({"seg_layers": Corrections(deepest_channels=neck_channels, fused_channels=decoder_channels)})
            if corrects
            else None
        )

    def forward(self, image: Tensor, point_coords: Tensor, **prompt: Tensor | None) -> Tensor:
        """Segment what the points mean.

        Args:
            image: (B, C, D, H, W) float, normalised, of the network's patch size.
            point_coords: (B, N, 3) voxel indices in array axis order (D, H, W), may be fractional; N >= 1.
            **prompt: ``label_index``, ``point_labels`` and ``previous_logits``; see :meth:`decode`.

        Returns:
            (B, 2, D, H, W) logits of background and foreground, or those of several labels; see :meth:`decode`.

        Raises:
            UserError: If a shape is wrong; outside training also if the image is not finite or a point lies outside it.
        """
        return self.decode(self.encode(image), point_coords, **prompt)

    def encode(self, image: Tensor) -> EncodedPatch:
        """Compute everything that no prompt changes.

        Args:
            image: (B, C, D, H, W) float, normalised, of the network's patch size.

        Raises:
            UserError: As :meth:`forward`.
        """
        check_image(image, self.in_channels, self.patch_size, check_values=not self.training)
        pads = [p - s for p, s in zip(self.padded_size, self.patch_size, strict=True)]
        if any(pads):
            image = F.pad(image, (0, pads[2], 0, pads[1], 0, pads[0]), mode="replicate")
        image = image.permute(TO_TOKEN_ORDER)  # (B, C, H, W, D)
        mixed = image if self.channel_mixer is None else self.channel_mixer(image)
        *shallow, deepest = self.image_encoder(mixed)
        small = F.avg_pool3d(image, 2)  # equals trilinear resizing to half the size
        cnn_feature = None if self.cnn_encoder is None else self.cnn_encoder(small)
        added, concatenated = (cnn_feature, None) if self.adds_cnn else (None, cnn_feature)
        return EncodedPatch(deepest, self.mask_decoder.encode(shallow, concatenated, small), added)

    def decode(
        self,
        encoded: EncodedPatch,
        point_coords: Tensor,
        *,
        label_index: Tensor | None = None,
        point_labels: Tensor | None = None,
        previous_logits: Tensor | None = None,
    ) -> Tensor:
        """Segment one prompt per patch in an encoded batch.

        Args:
            encoded: What :meth:`encode` returned for a batch of B.
            point_coords: (B, N, 3) voxel indices in array axis order.
            label_index: (B,) or (B, K) long, the label or labels, counted from 0, that are wanted for each patch; None
                for all. Without effect where the network has one label.
            point_labels: (B, N) long, 1 for positive clicks and 0 for negative ones; None: all are positive.
            previous_logits: (B, 1, D, H, W), what the previous answer said for foreground against background; None at
                the first click.

        Returns:
            Logits of background and foreground: (B, 2, D, H, W) with one label for each patch, (B, K, 2, D, H, W) with
            several, where K is the number of all labels if ``label_index`` is None.

        Raises:
            UserError: As :meth:`forward`.
        """
        return self._logits(*self._fuse(encoded, point_coords, point_labels, previous_logits), label_index)

    def decode_and_rate(
        self,
        encoded: EncodedPatch,
        point_coords: Tensor,
        *,
        label_index: Tensor | None = None,
        point_labels: Tensor | None = None,
        previous_logits: Tensor | None = None,
        refines: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`decode`, and how good the mask is.

        With ``refines`` the previous answer is that to the very same clicks, which correct nothing in it.

        Returns:
            The logits, and the Dice that the network expects of the first label's mask, (B,) from 0 to 1.

        Raises:
            UserError: As :meth:`forward`, and if the network does not correct.
        """
        if self.corrections is None:
            raise UserError("This network cannot rate its masks; build it with corrects=True.")
        fused, push = self._fuse(encoded, point_coords, point_labels, previous_logits, refines)
        logits = self._logits(fused, push, label_index)
        first = (logits if logits.ndim == 5 else logits[:, 0]).permute(TO_TOKEN_ORDER)  # (B, 2, H, W, D)
        ends = [padded - size for padded, size in zip(self.padded_size, self.patch_size, strict=True)]
        first = F.pad(first, (0, ends[0], 0, ends[2], 0, ends[1]), mode="replicate")
        corrections: Any = self.corrections["seg_layers"]
        return logits, corrections.confidence(fused, first)

    def _fuse(
        self,
        encoded: EncodedPatch,
        point_coords: Tensor,
        point_labels: Tensor | None,
        previous_logits: Tensor | None,
        refines: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The decoder's fused feature (B, decoder_channels, H/2, W/2, D/2), and ``Corrections.push`` or None."""
        check_points(point_coords, len(encoded.deepest), self.patch_size, check_values=not self.training)
        check_corrections(
            point_coords, point_labels, previous_logits, self.patch_size, corrects=self.corrections is not None
        )
        if self.corrections is None:
            steered = self.prompt_encoder(encoded.deepest, point_coords, self.padded_size)
            return self.mask_decoder.fuse(encoded.shared, steered, encoded.residual), None
        corrections: Any = self.corrections["seg_layers"]
        signs = torch.ones_like(point_coords[..., 0], dtype=torch.long) if point_labels is None else point_labels.long()
        maps = dense_maps(point_coords, signs, previous_logits, self.padded_size)
        to_deepest, to_fused = corrections(maps.to(corrections.point_signs.dtype))
        meanings = corrections.point_signs[signs]  # (B, N, neck_channels)
        steered = self.prompt_encoder(encoded.deepest + to_deepest, point_coords, self.padded_size, meanings)
        fused = self.mask_decoder.fuse(encoded.shared, steered, encoded.residual) + to_fused
        corrects = previous_logits is not None and not refines
        return fused, corrections.push(point_coords, signs, self.patch_size, corrects=corrects)

    def _logits(self, fused: Tensor, push: Tensor | None, label_index: Tensor | None) -> Tensor:
        wanted = None if self.labels == 1 else label_index
        logits = self.mask_decoder.decode(fused, wanted).permute(TO_ARRAY_ORDER)
        depth, height, width = self.patch_size
        logits = logits[:, :, :depth, :height, :width].contiguous()
        if push is not None:
            logits[:, 1::LOGITS] += push
        one_pair = self.labels == 1 or (label_index is not None and label_index.ndim == 1)
        return logits if one_pair else logits.unflatten(1, (-1, LOGITS))  # (B, K, 2, D, H, W)

    def freeze_pretrained(self) -> None:
        """Freeze what comes from SAM, except the LayerNorms, which the published code trains."""
        for parameter in self.pretrained_parameters().values():
            parameter.requires_grad_(False)

    def freeze_confidence(self) -> None:
        """Freeze the head that predicts a mask's Dice."""
        if self.corrections is not None:
            self.corrections["seg_layers"].confidence.requires_grad_(False)

    def pretrained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that SAM's file fills and training leaves alone, by their name in the image encoder."""
        frozen = ("patch_embed.", ".attn.qkv.", ".attn.proj.", ".attn.rel_pos_h", ".attn.rel_pos_w", ".mlp.")
        return {
            name: parameter
            for name, parameter in self.image_encoder.named_parameters()
            if name == "pos_embed" or any(part in name for part in frozen)
        }

    def parameter_parts(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters by part, for clipping the gradient per part (paper's training).

        Returns:
            ``image_encoder``, ``prompt_encoder`` and ``mask_decoder``; the last holds the CNN encoder, too.
        """
        parts: dict[str, list[nn.Module | None]] = {
            "image_encoder": [self.channel_mixer, self.image_encoder],
            "prompt_encoder": [self.prompt_encoder, self.corrections],
            "mask_decoder": [self.mask_decoder, self.cnn_encoder],
        }
        return {
            name: [p for module in modules if module is not None for p in module.parameters() if p.requires_grad]
            for name, modules in parts.items()
        }

    def trained_of_all(self) -> str:
        """One sentence for the log: how many parameters are trained, of how many."""
        everything = sum(p.numel() for p in self.parameters())
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return f"{trained:,} of {everything:,} parameters are trained ({100 * trained / everything:.1f} %)."
