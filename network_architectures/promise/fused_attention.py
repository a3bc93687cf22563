"""Queries and keys that carry position bias and mask, so that one dot product gives the whole attention score.

``q.k / sqrt(c) + lr (q.Rh + q.Rw + q.Rd) + mask`` is ``q'.k'`` with
``q' = [q / sqrt(c), lr q.Rh, lr q.Rw, lr q.Rd, m]`` and ``k' = [k, onehot(h), onehot(w), onehot(d), onehot(region)]``,
where ``m = -100 (1 - onehot(region))``. So the fused attention kernels apply, and neither the bias nor the scores
(N x N per head and window) are ever stored. The form with +100 inside a region would lose digits.

Letters: n windows, a heads, N = h w d places in a window, c channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MASKED = -100.0
"""Added to the score of two tokens that the roll has brought into one window from opposite sides of the grid."""
AXES = ("h", "w", "d")


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


@dataclass(frozen=True)
class WindowTerms:
    """What is added to the scores of all heads.

    Attributes:
        window: Places (h, w, d) of a window.
        positions: (N, h + w + d), one-hot place of each token per axis.
        regions: (n, N, 8), one-hot region of each token, or None where nothing is masked.
    """

    window: tuple[int, ...]
    positions: Tensor
    regions: Tensor | None


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, N, 3 * a * c) to three views (n, a, N, c)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (n, a, N, c) each
    return q, k, v


def long_queries(q: Tensor, terms: WindowTerms, tables: Sequence[Tensor]) -> Tensor:
    """(n, a, N, c) to (n, a, N, width); ``tables`` hold lr R of each axis, (places, places, c)."""
    grid = q.unflatten(2, terms.window)  # (n, a, h, w, d, c)
    parts = [q * q.shape[-1] ** -0.5]
    for axis, table in zip(AXES, tables, strict=True):
        scores = torch.einsum(f"nahwdc,{axis}kc->nahwdk", grid, table)
        parts.append(scores.flatten(2, 4))  # (n, a, N, places of this axis)
    if terms.regions is not None:
        parts.append((MASKED * (1 - terms.regions))[:, None].expand(*q.shape[:3], -1))
    return torch.cat(parts, dim=-1)


def long_keys(k: Tensor, terms: WindowTerms) -> Tensor:
    """(n, a, N, c) to (n, a, N, width)."""
    parts = [k, terms.positions.expand(*k.shape[:3], -1)]
    if terms.regions is not None:
        parts.append(terms.regions[:, None].expand(*k.shape[:3], -1))
    return torch.cat(parts, dim=-1)


def long_values(v: Tensor, width: int) -> Tensor:
    """Zeros behind the values: the CPU kernel needs one width for queries, keys and values."""
    return F.pad(v, (0, width - v.shape[-1]))


def lengthen(qkv: Tensor, heads: int, terms: WindowTerms, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(n, N, 3 * a * c) to long queries, keys and values, each (n, a, N, width)."""
    q, k, v = split_heads(qkv, heads)
    long_q = long_queries(q, terms, tables)
    return long_q, long_keys(k, terms), long_values(v, long_q.shape[-1])


class Lengthen(torch.autograd.Function):
    """:func:`lengthen` of which only ``qkv`` and the tables are kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, heads: int, terms: WindowTerms, *tables: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :func:`lengthen`."""
        ctx.save_for_backward(qkv, *tables)
        ctx.heads, ctx.window = heads, terms.window
        return lengthen(qkv, heads, terms, tables)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_q: Tensor, by_k: Tensor, by_v: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``qkv`` and of the tables that are trained."""
        qkv, *tables = ctx.saved_tensors
        q, _, _ = split_heads(qkv, ctx.heads)
        grid = q.unflatten(2, ctx.window)  # (n, a, h, w, d, c)
        width = q.shape[-1]
        by_qkv = torch.empty_like(qkv)
        to_q, to_k, to_v = split_heads(by_qkv, ctx.heads)
        to_k.copy_(by_k[..., :width])
        to_v.copy_(by_v[..., :width])
        torch.mul(by_q[..., :width], width**-0.5, out=to_q)
        by_tables: list[Tensor | None] = [None] * len(tables)
        scores = by_q[..., width : width + sum(ctx.window)].split(ctx.window, dim=-1)
        for index, (axis, table, by_score) in enumerate(zip(AXES, tables, scores, strict=True)):
            by_score = by_score.unflatten(2, ctx.window)  # (n, a, h, w, d, places of this axis)
            to_q += torch.einsum(f"nahwdk,{axis}kc->nahwdc", by_score, table).flatten(2, 4)
            if ctx.needs_input_grad[3 + index]:
                by_tables[index] = torch.einsum(f"nahwdk,nahwdc->{axis}kc", by_score, grid)
        return (by_qkv, None, None, *by_tables)


def attend(qkv: Tensor, heads: int, terms: WindowTerms, tables: Sequence[Tensor], *, compact: bool) -> Tensor:
    """Attention within windows.

    Args:
        qkv: (n, N, 3 E).
        heads: Number of heads.
        terms: What is added to the scores.
        tables: lr R of each axis.
        compact: Keep only ``qkv`` and the result for the backward pass and make the long vectors again there.

    Returns:
        (n, N, E).
    """
    plainly = torch.compiler.is_compiling() or not torch.is_grad_enabled()
    q, k, v = lengthen(qkv, heads, terms, tables) if plainly else Lengthen.apply(qkv, heads, terms, *tables)
    if plainly or not compact:
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    else:
        out = _attend_compactly(q, k, v, qkv.detach(), heads, terms, [table.detach() for table in tables])
    return out[..., : qkv.shape[-1] // (3 * heads)].transpose(1, 2).flatten(2)  # (n, a, N, c) to (n, N, E)


def _attend_compactly(
    long_q: Tensor, long_k: Tensor, long_v: Tensor, qkv: Tensor, heads: int, terms: WindowTerms, tables: list[Tensor]
) -> Tensor:
    """The fused kernel; kept are the recipes of its long arguments and the part of its result that is not zero."""
    shape, width = long_q.shape, qkv.shape[-1] // (3 * heads)
    makers: dict[int, Callable[[], Tensor]] = {
        long_q.data_ptr(): lambda: long_queries(split_heads(qkv, heads)[0], terms, tables),
        long_k.data_ptr(): lambda: long_keys(split_heads(qkv, heads)[1], terms),
        long_v.data_ptr(): lambda: long_values(split_heads(qkv, heads)[2], shape[-1]),
    }

    def pack(saved: Tensor) -> Tensor | Callable[[], Tensor]:
        if saved.shape != shape:
            return saved
        if saved.data_ptr() in makers:
            return makers[saved.data_ptr()]
        result = saved[..., :width].clone()
        return lambda: F.pad(result, (0, shape[-1] - width))

    def unpack(kept: Tensor | Callable[[], Tensor]) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept()

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)
