"""The image encoder: SAM's vision transformer over a 3D patch, with adapters (paper, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nnunetv2_promise.network_architectures.promise.adapter import Adapter
from nnunetv2_promise.network_architectures.promise.cpu import chunk_slices
from nnunetv2_promise.network_architectures.promise.options import EncoderConfig
from nnunetv2_promise.network_architectures.promise.patch_embedding import (
    SAM_PATCH,
    TOKEN_VOXELS,
    embed_patches,
    fused_kernel,
)
from nnunetv2_promise.network_architectures.promise.window_attention import WindowAttention, WindowLayout

LAYER_NORM_EPS = 1e-6
"""SAM's."""


class MLP(nn.Module):
    """SAM's two-layer perceptron."""

    def __init__(self, embed_dim: int, hidden: int) -> None:
        """``embed_dim`` is the width of a token, ``hidden`` that of the middle layer."""
        super().__init__()
        self.lin1 = nn.Linear(embed_dim, hidden)
        self.lin2 = nn.Linear(hidden, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., E) to the same shape."""
        return self.lin2(F.gelu(self.lin1(tokens)))


class PatchProjection(nn.Module):
    """Holds SAM's patch embedding under SAM's name; it is applied as part of the fused kernel."""

    def __init__(self, embed_dim: int) -> None:
        """``embed_dim`` is the width of a token."""
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=SAM_PATCH, stride=SAM_PATCH)


class Block(nn.Module):
    """One transformer block with an adapter before it and, with ``adapters=2``, one behind."""

    def __init__(self, config: EncoderConfig, *, is_global: bool, adapters: int) -> None:
        """``is_global`` says that SAM's block attends globally, so that its position tables are longer."""
        super().__init__()
        dim = config.embed_dim
        z, y, x = config.window_zyx
        window = (y, x, z)
        if is_global and config.pos_embed_size:
            lengths = [2 * config.pos_embed_size - 1] * 3
        else:
            lengths = [2 * (config.table_window or w) - 1 for w in window]
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = WindowAttention(embed_dim=dim, num_heads=config.num_heads, window=window, table_length=lengths)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = MLP(dim, int(dim * config.mlp_ratio))
        self.adapter = Adapter(dim)
        self.adapter_back = Adapter(dim) if adapters == 2 else None

    def forward(self, tokens: Tensor, layout: WindowLayout) -> Tensor:
        """(B, H, W, D, E) to the same shape."""
        tokens = self.adapter(tokens)
        tokens = tokens + layout.merge(self.attn(layout.partition(self.norm1(tokens)), layout))
        tokens = self._perceive(tokens)
        if self.adapter_back is not None:
            tokens = tokens + self.adapter_back(tokens)  # the adapter adds its input too, as in the published code
        return tokens

    def _perceive(self, tokens: Tensor) -> Tensor:
        rows = tokens.flatten(0, 3)  # (B H W D, E)
        parts = chunk_slices(rows)
        if parts is None:
            return tokens + self.mlp(self.norm2(tokens))
        for part in parts:
            rows[part] += self.mlp(self.norm2(rows[part]))
        return rows.view(tokens.shape)  # (B, H, W, D, E)


class Neck(nn.Sequential):
    """Tokens to a feature of ``neck_channels``: two convolutions without bias, each followed by LayerNorm."""

    def __init__(self, embed_dim: int, neck_channels: int) -> None:
        """``embed_dim`` is the width of a token, ``neck_channels`` that of the feature."""
        super().__init__(
            nn.Conv3d(embed_dim, neck_channels, kernel_size=1, bias=False),
            nn.LayerNorm(neck_channels, eps=LAYER_NORM_EPS),
            nn.Conv3d(neck_channels, neck_channels, kernel_size=3, padding=1, bias=False),
            nn.LayerNorm(neck_channels, eps=LAYER_NORM_EPS),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, D, E) to (B, C, H, W, D), channels last in memory."""
        _, norm1, conv, norm2 = self
        feature = norm1(F.linear(tokens, self.get_parameter("0.weight").flatten(1)))  # (B, H, W, D, C)
        feature = conv(feature.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)  # channels first for the convolution only
        return norm2(feature).permute(0, 4, 1, 2, 3)  # (B, C, H, W, D)


class ImageEncoder(nn.Module):
    """SAM's vision transformer on a 3D patch.

    The position table is averaged over areas of the token grid (by 2 for SAM's 64 x 64 table and a patch of 128), or
    interpolated where the grid is finer. Without ``pos_embed_size`` the table has the grid's size and is used as is.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        patch_size: Sequence[int],
        adapters: int = 2,
        neck_channels: int = 256,
        activation_checkpointing: bool = False,
    ) -> None:
        """``patch_size`` (D, H, W) in voxels, multiples of 4."""
        super().__init__()
        depth, height, width = (size // TOKEN_VOXELS for size in patch_size)
        self.grid = (height, width, depth)
        self.activation_checkpointing = activation_checkpointing
        self.feature_indexes = config.feature_indexes
        table = (config.pos_embed_size,) * 2 if config.pos_embed_size else (height, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, *table, config.embed_dim))
        self.depth_embed = nn.Parameter(torch.ones(1, depth, config.embed_dim))
        self.patch_embed = PatchProjection(config.embed_dim)
        self.slice_embed = nn.Conv3d(
            config.embed_dim, config.embed_dim, (1, 1, SAM_PATCH), stride=(1, 1, SAM_PATCH), groups=config.embed_dim
        )
        self.blocks = nn.ModuleList(
            Block(config, is_global=i in config.global_attn_indexes, adapters=adapters) for i in range(config.depth)
        )
        self.neck_3d = nn.ModuleList(Neck(config.embed_dim, neck_channels) for _ in self.feature_indexes)
        z, y, x = config.window_zyx
        for module in self.modules():
            if isinstance(module, WindowAttention):
                module.compact = not activation_checkpointing
        self.plain_layout = WindowLayout(grid=self.grid, window=(y, x, z), shifted=False)
        self.shifted_layout = WindowLayout(grid=self.grid, window=(y, x, z), shifted=True)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode a patch.

        Args:
            image: (B, 1, H, W, D) in token order (array axes 1, 2, 0).

        Returns:
            Four features (B, C, H/4, W/4, D/4), from shallow to deep.
        """
        tokens = self.embed(image)
        features = []
        for index, block in enumerate(self.blocks):
            layout = self.plain_layout if index % 2 else self.shifted_layout
            if self.activation_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, layout, use_reentrant=False)
            else:
                tokens = block(tokens, layout)
            if index in self.feature_indexes:
                features.append(self.neck_3d[self.feature_indexes.index(index)](tokens))
        return features

    def embed(self, image: Tensor) -> Tensor:
        """(B, 1, H, W, D) patch to (B, H/4, W/4, D/4, E) tokens with their positions."""
        names = ("patch_embed.proj.weight", "patch_embed.proj.bias", "slice_embed.weight", "slice_embed.bias")
        with torch.autocast(image.device.type, enabled=False):
            kernel, bias = fused_kernel(*map(self.get_parameter, names))
        return embed_patches(image, kernel, bias) + self._positions()

    def _positions(self) -> Tensor:
        table: Tensor = self.pos_embed
        height, width, _ = self.grid
        if table.shape[1:3] != (height, width):
            finer = height > table.shape[1] or width > table.shape[2]
            mode = {"mode": "bilinear", "align_corners": False} if finer else {"mode": "area"}
            channels_first = table.permute(0, 3, 1, 2)  # (1, E, rows, columns)
            table = F.interpolate(channels_first, (height, width), **mode).permute(0, 2, 3, 1)  # (1, H, W, E)
        return table[:, :, :, None] + self.depth_embed[:, None, None]  # (1, H, W, D, E)
