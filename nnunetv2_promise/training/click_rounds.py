"""One training step with several rounds of clicks, at the memory of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed, nn

from nnunetv2_promise.training.error_clicks import Density

DENSITIES: tuple[Density, ...] = ("central", "uniform")


@dataclass(frozen=True)
class ClickSchedule:
    """How clicks are drawn in a training step.

    Attributes:
        rounds: Rounds of clicks; the network answers after each.
        several_share: Share of rounds that add two or three clicks at once, so that the network sees late states.
        mask_share: Share of steps that start from the automatic mask; the others start from nothing.
    """

    rounds: int = 3
    several_share: float = 0.5
    mask_share: float = 0.75

    def draw(self, rng: np.random.Generator) -> tuple[int, Density]:
        """How many clicks the next round adds, and where in an error they fall."""
        number = int(rng.integers(2, 4)) if rng.random() < self.several_share else 1
        return number, DENSITIES[int(rng.integers(len(DENSITIES)))]


def backward_rounds(
    features: Sequence[Tensor],
    rounds: Sequence[Callable[[Sequence[Tensor]], Tensor]],
    *,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> list[Tensor]:
    """Backward passes of several losses that share features, keeping one round's activations at a time.

    Each loss but the last is differentiated down to copies of the features. The last one runs on the features
    themselves and hands on what the copies gathered, so that what made them is differentiated once. The gradients are
    those of the losses' sum.

    Args:
        features: What the network made of the image, with its graph if it learns.
        rounds: Functions from features to a scalar loss, called in order.
        scale: What mixed precision does to a loss before its backward pass.

    Returns:
        The losses, detached and unscaled.
    """
    copies = [feature.detach().requires_grad_(feature.requires_grad) for feature in features]
    losses = []
    for compute in rounds[:-1]:
        loss = compute(copies)
        scale(loss).backward()
        losses.append(loss.detach())
    loss = rounds[-1](features)
    gathered = [(f.float() * c.grad).sum() for f, c in zip(features, copies, strict=True) if c.grad is not None]
    (scale(loss) + torch.stack(gathered).sum() if gathered else scale(loss)).backward()
    return [*losses, loss.detach()]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process of a training the mean of all processes' gradients.

    PyTorch's DDP wants one backward pass that reaches every parameter; here several reach different ones.

    Args:
        parameters: Of the network; those without a gradient are left out, in every process the same ones.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    for gradient, mean in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
