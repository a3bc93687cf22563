"""SAM's attention in 3D windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunetv2_promise.network_architectures.promise.chunks import chunk_slices
from nnunetv2_promise.network_architectures.promise.compact_attention import attend
from nnunetv2_promise.network_architectures.promise.cpu import Linear
from nnunetv2_promise.network_architectures.promise.fused_attention import WindowTerms, relative_table
from nnunetv2_promise.network_architectures.promise.windows import WindowLayout


class WindowAttention(nn.Module):
    """SAM's attention in 3D windows (DESIGN section 3): frozen qkv and projection, a trained table along the slices.

    Attributes:
        compact: Make queries and keys again in the backward pass instead of keeping them. Activation checkpointing does
            that for the whole block, so it turns this off.
    """

    lr: Tensor

    def __init__(self, *, embed_dim: int, num_heads: int, window: Sequence[int], table_length: Sequence[int]) -> None:
        """``window`` and ``table_length`` (of the three relative position tables) are in token order (H, W, D)."""
        super().__init__()
        self.num_heads = num_heads
        head_dim = embed_dim // num_heads
        self.window_size = tuple(window)
        self.compact = True
        self.qkv = Linear(embed_dim, 3 * embed_dim)
        self.proj = Linear(embed_dim, embed_dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(table_length[0], head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(table_length[1], head_dim))
        self.rel_pos_d = nn.Parameter(torch.zeros(table_length[2], head_dim))
        self.register_buffer("lr", torch.ones(()))

    def forward(self, windows: Tensor, layout: WindowLayout) -> Tensor:
        """Attend within each window.

        Args:
            windows: (B * windows, N, E) from ``layout.partition``; overwritten where the work is done in chunks.
            layout: The windows' layout.

        Returns:
            (B * windows, N, E).
        """
        tables = self._tables(layout)
        regions = layout.regions_of(len(windows))
        parts = chunk_slices(windows)
        if parts is None:
            return self._attend(windows, layout, tables, regions)
        for part in parts:
            windows[part] = self._attend(windows[part], layout, tables, None if regions is None else regions[part])
        return windows

    def _attend(self, windows: Tensor, layout: WindowLayout, tables: list[Tensor], regions: Tensor | None) -> Tensor:
        qkv = self.qkv(windows)  # (n, N, 3 E)
        terms = WindowTerms(
            window=layout.window,
            positions=layout.positions.to(qkv.dtype),
            regions=None if regions is None else regions.to(qkv.dtype),
        )
        tables = [table.to(qkv.dtype) for table in tables]
        return self.proj(attend(qkv, self.num_heads, terms, tables, compact=self.compact))

    def _tables(self, layout: WindowLayout) -> list[Tensor]:
        tables = (self.rel_pos_h, self.rel_pos_w, self.rel_pos_d)
        return [
            self.lr * relative_table(table, size, actual)
            for table, size, actual in zip(tables, self.window_size, layout.window, strict=True)
        ]
