"""Window attention with decomposed relative positions, without a table of scores.

The score of two tokens, ``q.k / sqrt(c) + lr (q.Rh + q.Rw + q.Rd) + mask``, is one dot product of longer vectors:
``q' = [q / sqrt(c), lr q.Rh, lr q.Rw, lr q.Rd, m]`` and ``k' = [k, onehot(h), onehot(w), onehot(d), onehot(region)]``
with ``m = -100 (1 - onehot(region))``. So the fused attention kernels apply, and neither the bias nor the scores
(N x N per head and window) are ever stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.windows import MASKED, WindowLayout


def relative_table(table: Tensor, window_size: int, window: int) -> Tensor:
    """Relative position vectors for every pair of places along one axis.

    Args:
        table: (L, c) as in the checkpoint, for relative positions of the window that it was trained with.
        window_size: The encoder's window along this axis; the table is interpolated to ``2 * window_size - 1``.
        window: The actual window, not larger. The table's middle is used, so a distance keeps its meaning.

    Returns:
        (window, window, c): entry [i, j] belongs to the query at place i and the key at place j.
    """
    length = 2 * window_size - 1
    if table.shape[0] != length:
        table = F.interpolate(table.T[None], size=length, mode="linear")[0].T
    place = torch.arange(window, device=table.device)
    return table[place[:, None] - place[None, :] + window_size - 1]


class WindowAttention(nn.Module):
    """SAM's attention in 3D windows (DESIGN section 3): frozen qkv and projection, a trained table along the slices."""

    lr: Tensor

    def __init__(self, *, embed_dim: int, num_heads: int, window: Sequence[int], table_length: Sequence[int]) -> None:
        """``window`` and ``table_length`` (of the three relative position tables) are in token order (H, W, D)."""
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.window_size = tuple(window)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(table_length[0], self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(table_length[1], self.head_dim))
        self.rel_pos_d = nn.Parameter(torch.zeros(table_length[2], self.head_dim))
        self.register_buffer("lr", torch.ones(()))

    def forward(self, windows: Tensor, layout: WindowLayout) -> Tensor:
        """Attend within each window.

        Args:
            windows: (B * windows, N, E) from ``layout.partition``.
            layout: The windows' layout.

        Returns:
            (B * windows, N, E).
        """
        n, tokens, _ = windows.shape
        qkv = self.qkv(windows).view(n, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (n, heads, N, c)
        long_q, long_k = self._lengthen(q, k, layout)
        long_v = F.pad(v, (0, long_q.shape[-1] - self.head_dim))  # the CPU kernel needs one width for all three
        out = F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., : self.head_dim]
        return self.proj(out.transpose(1, 2).reshape(n, tokens, -1))

    def _lengthen(self, q: Tensor, k: Tensor, layout: WindowLayout) -> tuple[Tensor, Tensor]:
        shape = (*k.shape[:3], -1)
        q_parts = [q * self.head_dim**-0.5, *self._position_scores(q, layout.window)]
        k_parts = [k, layout.positions.to(k.dtype).expand(shape)]
        if layout.regions is not None:
            regions = layout.regions.to(k.dtype).repeat(k.shape[0] // layout.regions.shape[0], 1, 1)[:, None]
            q_parts.append((MASKED * (1 - regions)).expand(shape))
            k_parts.append(regions.expand(shape))
        q_parts = [part.to(k.dtype) for part in q_parts]
        return torch.cat(q_parts, dim=-1), torch.cat(k_parts, dim=-1)

    def _position_scores(self, q: Tensor, window: Sequence[int]) -> list[Tensor]:
        """The scores lr q.R for every place of a key along each axis: three times (n, heads, N, window)."""
        tables = [self.rel_pos_h, self.rel_pos_w, self.rel_pos_d]
        h, w, d = (
            self.lr * relative_table(table, size, actual)
            for table, size, actual in zip(tables, self.window_size, window, strict=True)
        )
        grid = q.unflatten(2, tuple(window))
        scores = (
            torch.einsum("nahwdc,hkc->nahwdk", grid, h),
            torch.einsum("nahwdc,wkc->nahwdk", grid, w),
            torch.einsum("nahwdc,dkc->nahwdk", grid, d),
        )
        return [score.flatten(2, 4) for score in scores]
