"""Attention on long vectors that keeps little for its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.promise.fused_attention import (
    Lengthen,
    WindowTerms,
    lengthen,
    long_keys,
    long_queries,
    long_values,
    split_heads,
)


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
    return out[..., : qkv.shape[-1] // (3 * heads)].transpose(1, 2).flatten(2)


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
