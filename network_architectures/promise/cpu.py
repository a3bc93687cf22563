"""Linear layers and chunks of tokens as a CPU likes them.

In float32 on the CPU, ``torch.nn.functional.linear`` calls MKL, which on some processors uses half the vector width
that oneDNN uses; PyTorch's own oneDNN operator computes the same and was 1.8 to 2.2 times as fast
(docs/explanation/speed.md). Everywhere else these layers are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _OneDNNLinear(torch.autograd.Function):
    """``x @ weight.T + bias``; the input is kept only where the weight is trained."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)  # (all rows, out)
        by_x = _onednn(gradient, weight.T.contiguous(), None) if ctx.needs_input_grad[0] else None
        by_weight = _onednn(rows.T, x.flatten(0, -2).T, None) if ctx.needs_input_grad[1] else None
        by_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return by_x, by_weight, by_bias


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``, through oneDNN where that is possible.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,) or None.

    Returns:
        (..., out).
    """
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32 or not _HAS_ONEDNN
    if plain or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or x.numel() == 0:
        return F.linear(x, weight, bias)
    return _OneDNNLinear.apply(x, weight, bias)


class Linear(nn.Linear):
    """``torch.nn.Linear`` through :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return linear(x, self.weight, self.bias)


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
    instead of 400 and its memory is used again instead of being requested anew.

    Args:
        x: (n, E) tokens or (n, N, E) windows of tokens.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    tokens = 1 if x.ndim == 2 else x.shape[1]
    step = max(1, CHUNK_TOKENS // tokens)
    return [slice(start, start + step) for start in range(0, len(x), step)]
