"""From logits of several labels to the one mask that an interaction asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunetv2_promise.network_architectures.interactive.channels import PREVIOUS_MASK, first_positive_points


def choose_labels(logits: Tensor, channels: Tensor) -> Tensor:
    """The label that each patch is asked for.

    It is the one that the previous mask holds most of, since further clicks fall where the network errs. Without a mask
    it is the one that is most probable under the first positive click.

    Args:
        logits: (B, 1 + L, D, H, W), background first.
        channels: (B, 7, D, H, W), nnInteractive's.

    Returns:
        (B,) long, 0 to L - 1.
    """
    if logits.shape[1] == 2:
        return torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    points = first_positive_points(channels)
    labels = logits[:, 1:].flatten(2)  # B, L, V
    under_click = labels.gather(2, points.clamp(min=0).view(-1, 1, 1).expand(-1, labels.shape[1], 1))[..., 0]
    previous = channels[:, PREVIOUS_MASK].flatten(1)[:, None]  # B, 1, V
    under_mask = (logits.softmax(1)[:, 1:].flatten(2) * previous).sum(2)
    return torch.where(previous.any(2), under_mask, under_click).argmax(1)


def object_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits of one label against all others together: their softmax is the label's probability and the rest.

    Args:
        logits: (B, 1 + L, D, H, W), background first.
        labels: (B,) long, 0 to L - 1.

    Returns:
        (B, 2, D, H, W); the logits themselves where L is 1.
    """
    if logits.shape[1] == 2:
        return logits
    wanted = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    wanted.scatter_(1, labels[:, None] + 1, True)
    wanted = wanted.view(*wanted.shape, 1, 1, 1)  # B, 1 + L, 1, 1, 1
    label = logits.masked_fill(~wanted, 0).sum(1, keepdim=True)
    others = logits.masked_fill(wanted, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([others, label], dim=1)
