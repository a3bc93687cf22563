"""SAM's attention in 3D windows: how the token grid is cut, with Swin's shift, and what is computed within a window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.promise.cpu import chunk_slices
from nnunetv2_promise.network_architectures.promise.fused_attention import WindowTerms, attend, relative_table

REGIONS = 8
"""A rolled window holds at most two parts per axis."""


def cut_windows(tokens: Tensor, window: Sequence[int]) -> Tensor:
    """(B, H, W, D, E) tokens, sizes multiples of the window's, to (B * windows, N, E)."""
    h, w, d = window
    return rearrange(tokens, "b (nh h) (nw w) (nd d) e -> (b nh nw nd) (h w d) e", h=h, w=w, d=d)


def join_windows(windows: Tensor, window: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Undo :func:`cut_windows`: (B * windows, N, E), ``counts`` windows along each axis, to (B, H, W, D, E)."""
    (h, w, d), (nh, nw, nd) = window, counts
    pattern = "(b nh nw nd) (h w d) e -> b (nh h) (nw w) (nd d) e"
    return rearrange(windows, pattern, nh=nh, nw=nw, nd=nd, h=h, w=w, d=d)


class WindowLayout(nn.Module):
    """Windows of one token grid, shifted or not.

    A window shrinks to the grid where the grid is smaller, and is not shifted there. A grid that is not a multiple of
    the window is padded at its end with zero tokens, which take part in the attention as they do in SAM.

    The tables are shared by all blocks of the same kind and are not part of a checkpoint:
    ``positions`` (N, wh + ww + wd) marks each token's place in its window per axis; ``regions`` (windows, N, 8) marks
    the part of the rolled grid that it comes from.
    """

    positions: Tensor
    regions: Tensor | None

    def __init__(self, *, grid: Sequence[int], window: Sequence[int], shifted: bool) -> None:
        """Args are in token order: ``grid`` and ``window`` sizes along (H, W, D)."""
        super().__init__()
        self.grid = tuple(grid)
        self.window = tuple(min(w, g) for w, g in zip(window, grid, strict=True))
        self.padded = tuple(-(-g // w) * w for g, w in zip(self.grid, self.window, strict=True))
        self.shift = tuple(w // 2 if shifted and g > w else 0 for g, w in zip(self.grid, self.window, strict=True))
        self.counts = tuple(p // w for p, w in zip(self.padded, self.window, strict=True))
        self.register_buffer("positions", self._positions(), persistent=False)
        self.register_buffer("regions", self._regions() if any(self.shift) else None, persistent=False)

    def _positions(self) -> Tensor:
        places = torch.meshgrid(*(torch.arange(w) for w in self.window), indexing="ij")
        one_hot = [F.one_hot(place.flatten(), w) for place, w in zip(places, self.window, strict=True)]  # (N, w) each
        return torch.cat(one_hot, dim=1).float()

    def _regions(self) -> Tensor:
        """A token's region within its window: per axis 1 beyond the seam of the rolled grid, else 0."""
        beyond = [torch.arange(p) >= p - s for p, s in zip(self.padded, self.shift, strict=True)]
        h, w, d = torch.meshgrid(*beyond, indexing="ij")
        region = (4 * h.long() + 2 * w.long() + d.long())[None, ..., None]
        return F.one_hot(cut_windows(region, self.window)[..., 0], REGIONS).float()

    def regions_of(self, windows: int) -> Tensor | None:
        """``regions`` for a batch with so many windows in all: (windows, N, 8), or None where nothing is masked."""
        if self.regions is None:
            return None
        return self.regions.repeat(windows // len(self.regions), 1, 1)

    def partition(self, tokens: Tensor) -> Tensor:
        """(B, H, W, D, E) tokens to (B * windows, N, E)."""
        if self.padded != self.grid:
            ends = [p - g for p, g in zip(self.padded, self.grid, strict=True)]
            tokens = F.pad(tokens, (0, 0, 0, ends[2], 0, ends[1], 0, ends[0]))
        if any(self.shift):
            tokens = tokens.roll([-s for s in self.shift], (1, 2, 3))
        return cut_windows(tokens, self.window)

    def merge(self, windows: Tensor) -> Tensor:
        """(B * windows, N, E) back to (B, H, W, D, E); undoes :meth:`partition`."""
        tokens = join_windows(windows, self.window, self.counts)  # (B, *padded, E)
        if any(self.shift):
            tokens = tokens.roll(self.shift, (1, 2, 3))
        return tokens[:, : self.grid[0], : self.grid[1], : self.grid[2]]


class WindowAttention(nn.Module):
    """SAM's attention in 3D windows (paper, section 2): frozen qkv and projection, a trained table along the slices.

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
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
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
