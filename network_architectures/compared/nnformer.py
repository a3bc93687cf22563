"""nnFormer: a transformer in the shape of a U-Net.

Zhou et al., "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer", IEEE TIP 2023. Written from the
paper's description.

Parameters for a 64 x 128 x 128 crop, one channel, two classes, one output (d is a width, h the heads, w the window).
Tokens are 2 x 4 x 4 voxels, so that the grids 32^3, 16^3, 8^3 and 4^3 fit the paper's windows, 4, 4, 8, 4.

===================== ================================================================= ===========
part                  formula                                                            parameters
===================== ================================================================= ===========
embedding             3^3 (1 x 96 + 96 x 96 + 96 x 192 + 192 x 192) + 576, norms 2 x 576  1,746,144
encoder, eight blocks 12 d^2 + 13 d + h (2 w - 1)^3, two for each of                     75,484,716
                      d = 192, 384, 768, 1536 and h = 6, 12, 24, 48
three reductions      norm 2 d, 3^3 d x 2 d + 2 d                                        41,809,152
four output norms     2 d                                                                     5,760
three expansions      norm 2 d, 2^3 d x d/2 + d/2                                        12,393,024
decoder, skip blocks  11 d^2 + 12 d + h (2 w - 1)^3 for d = 768, 384, 192 and            8,706,060
                      h = 48, 24, 12
decoder, own blocks   12 d^2 + 13 d + h (2 w - 1)^3                                       9,481,548
output                2 x 4 x 4 x 192 x 2 + 2                                                12,290
**network**                                                                             149,638,694
===================== ================================================================= ===========

The paper does not say how many heads the decoder has. The published totals, this one and 149,650,982 for a cube of 128
with tokens of 4^3, hold with twice the encoder's number at the same width, as above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.compared.nnformer_blocks import Stage, embedding, expansion, reduction
from nnunetv2_promise.network_architectures.compared.padding import crop_end, pad_end

TOKEN_VOXELS = 4
"""Edge of a token along the patch's longest axis; shorter along axes that are shorter by a half or more."""
STAGES = 4


def token_size(patch_size: Sequence[int]) -> tuple[int, int, int]:
    """Voxels of a token along each axis, by the patch's anisotropy, as the published settings choose them.

    The grids come out as cubic as they can be: 4 along the longest axis, 2 along one that is half as long, 1 along one
    that is a quarter or less.
    """
    longest = max(patch_size)
    depth, height, width = (max(1, TOKEN_VOXELS >> round(math.log2(longest / length))) for length in patch_size)
    return depth, height, width


class NNFormer(nn.Module):
    """nnFormer for patches of one size, padded to whole tokens in the deepest grid; the logits are cropped back.

    Args:
        patch_size: (D, H, W) in voxels; windows and tables of relative positions depend on it.
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        embed_dim: Width of the first stage, doubled by each further one.
        depths: Blocks in each stage; the decoder has as many.
        num_heads: Heads in each stage of the encoder; the decoder has twice as many at the same width.
        windows: Edge of the volumes in tokens in each stage; never larger than the grid's shortest axis.
        drop_path: Probability of leaving out a branch in the last block of the encoder; earlier ones have less.
        deep_supervision: Whether there are outputs at a half and a quarter of the resolution as well, for training.
            They add (voxels of a token) out_channels (2 + 4) embed_dim + 2 out_channels parameters.
    """

    def __init__(
        self,
        *,
        patch_size: Sequence[int] = (64, 128, 128),
        in_channels: int = 1,
        out_channels: int = 2,
        embed_dim: int = 192,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (6, 12, 24, 48),
        windows: Sequence[int] = (4, 4, 8, 4),
        drop_path: float = 0.2,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if len(patch_size) != 3 or min(patch_size) < 1:
            raise UserError(f"patch_size is {tuple(patch_size)}; nnFormer needs three sizes of at least one voxel.")
        self.patch_size = tuple(patch_size)
        token = token_size(patch_size)
        strides = [voxels * 2 ** (STAGES - 1) for voxels in token]
        self.padded = tuple(-(-length // stride) * stride for length, stride in zip(patch_size, strides, strict=True))
        self.deep_supervision = deep_supervision
        widths = [embed_dim * 2**level for level in range(STAGES)]
        grids = [
            [length // voxels // 2**level for length, voxels in zip(self.padded, token, strict=True)]
            for level in range(STAGES)
        ]
        kinds = [
            {"width": width, "grid": grid, "window": min(window, *grid), "drop_path": rates}
            for width, grid, window, rates in zip(widths, grids, windows, _rates(depths, drop_path), strict=True)
        ]
        self.embedding = embedding(in_channels, embed_dim, token)
        self.encoder = nn.ModuleList(Stage(heads=h, **kind) for h, kind in zip(num_heads, kinds, strict=True))
        self.reductions = nn.ModuleList(reduction(width) for width in widths[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.expansions = nn.ModuleList(expansion(width) for width in widths[:0:-1])
        self.decoder = nn.ModuleList(
            Stage(heads=heads, skip_attention=True, **kind)
            for heads, kind in zip(num_heads[:0:-1], kinds[-2::-1], strict=True)
        )
        outputs = widths[:-1] if deep_supervision else widths[:1]
        self.outputs = nn.ModuleList(nn.ConvTranspose3d(width, out_channels, token, stride=token) for width in outputs)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Segment a batch of patches.

        Args:
            image: (B, in_channels, D, H, W) of ``patch_size``.

        Returns:
            Logits (B, out_channels, D, H, W); with ``deep_supervision`` a list of them, followed by those at a half
            and a quarter of the resolution (sizes are rounded as Python does).

        Raises:
            UserError: If the image has another size.
        """
        if image.ndim != 5 or tuple(image.shape[2:]) != self.patch_size:
            raise UserError(
                f"image has shape {tuple(image.shape)}; this nnFormer was built for patches of {self.patch_size}."
            )
        skips = self._encode(pad_end(image, self.padded).movedim(1, -1))
        decoded = self._decode(skips)
        heads = self.outputs if self.deep_supervision else self.outputs[:1]
        logits = [
            crop_end(head(tokens.movedim(-1, 1)), [round(length / 2**level) for length in self.patch_size])
            for level, (head, tokens) in enumerate(zip(heads, decoded, strict=False))
        ]
        return logits if self.deep_supervision else logits[0]

    def _encode(self, image: Tensor) -> list[Tensor]:
        """(B, D, H, W, C) to the normalised tokens of each stage, finest first."""
        tokens = self.embedding(image)
        levels = []
        for level, (stage, norm) in enumerate(zip(self.encoder, self.norms, strict=True)):
            tokens = stage(tokens)
            levels.append(norm(tokens))
            if level < len(self.reductions):
                tokens = self.reductions[level](tokens)
        return levels

    def _decode(self, levels: list[Tensor]) -> list[Tensor]:
        """The decoder's tokens, finest first."""
        *skips, tokens = levels
        decoded = []
        for expand, stage, skip in zip(self.expansions, self.decoder, reversed(skips), strict=True):
            tokens = stage(expand(tokens), skip)
            decoded.append(tokens)
        return decoded[::-1]


def _rates(depths: Sequence[int], last: float) -> list[list[float]]:
    """Rising linearly from 0 to ``last`` over all blocks of the encoder."""
    rates = torch.linspace(0, last, sum(depths), device="cpu").tolist()
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=True)]
