"""A residual that keeps one byte for each entry, and chunks of tokens that fit the CPU's cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _AddRelu(torch.autograd.Function):
    """``x + relu(y)``; of y only its sign is kept, one byte per entry."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y > 0)
        return x + torch.relu(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        (positive,) = ctx.saved_tensors
        return gradient, gradient * positive


def add_relu(x: Tensor, y: Tensor) -> Tensor:
    """``x + relu(y)`` with little saved for the backward pass; without gradients it may overwrite ``y``."""
    if torch.is_grad_enabled():
        return x + F.relu(y) if torch.compiler.is_compiling() else _AddRelu.apply(x, y)
    return F.relu(y, inplace=True).add(x)


CHUNK_TOKENS = 2048


def chunk_slices(x: Tensor) -> list[slice] | None:
    """Slices of the first axis to work on one after the other, or None to work on everything at once.

    Chunks pay on the CPU while nothing is kept for a backward pass: a block's widest result then takes some 25 MB
    instead of 400 and its memory is used again instead of being requested every time.

    Args:
        x: (n, E) tokens or (n, N, E) windows of tokens.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    tokens = 1 if x.ndim == 2 else x.shape[1]
    step = max(1, CHUNK_TOKENS // tokens)
    return [slice(start, start + step) for start in range(0, len(x), step)]
