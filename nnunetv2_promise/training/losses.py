"""Structural and boundary loss (paper, section 2, "Boundary-aware loss")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

PAPER_KERNEL = (5, 5, 5)
PUBLISHED_KERNEL = (5, 5, 1)
IGNORED_LOGIT = 30.0


def structural_loss(logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Half Dice of the foreground plus half cross entropy.

    Args:
        logits: (B, 2, D, H, W) float.
        target: (B, 1, D, H, W), 0 or 1.
        ignore: (B, 1, D, H, W) bool, voxels that do not count; None if all do.

    Returns:
        Scalar: Dice averaged over the batch, cross entropy over the voxels that count.
    """
    labels = target[:, 0].long()
    if ignore is None:
        return 0.5 * _dice(logits, target) + 0.5 * F.cross_entropy(logits, labels)
    counted = ~ignore
    entropy = (F.cross_entropy(logits, labels, reduction="none") * counted[:, 0]).sum() / counted.sum().clamp(min=1)
    return 0.5 * _dice(_certain_where(ignore, logits), target.masked_fill(ignore, 0)) + 0.5 * entropy


_dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True)


def _certain_where(ignore: Tensor, logits: Tensor) -> Tensor:
    """A certain answer of background on ignored voxels, without gradient: there they add nothing to any sum."""
    certain = logits.new_tensor([IGNORED_LOGIT, -IGNORED_LOGIT]).view(1, 2, 1, 1, 1)
    return torch.where(ignore, certain, logits)


def smooth_boundary(maps: Tensor, kernel: Sequence[int] = PAPER_KERNEL) -> Tensor:
    """The paper's boundary generator ``|m - avgpool(m)|``, stride 1, zero padding.

    Args:
        maps: (B, C, D, H, W) float in [0, 1].
        kernel: Odd edge lengths along D, H, W in voxels.

    Returns:
        (B, C, D, H, W), 0 away from edges.
    """
    pooled = maps
    for axis, length in enumerate(kernel):  # one axis after the other: 15 sums for 5 x 5 x 5 instead of 125
        one = [length if other == axis else 1 for other in range(3)]
        pooled = F.avg_pool3d(pooled, one, stride=1, padding=[edge // 2 for edge in one])
    return (maps - pooled).abs()


def boundary_loss(
    logits: Tensor, target: Tensor, ignore: Tensor | None = None, *, kernel: Sequence[int] = PAPER_KERNEL
) -> Tensor:
    """Mean squared difference of the smooth boundaries of prediction and mask, foreground channel.

    Patches without foreground have no boundary and count as zero.

    Args:
        logits: (B, 2, D, H, W) float.
        target: (B, 1, D, H, W), 0 or 1.
        ignore: (B, 1, D, H, W) bool, voxels that do not count; None if all do.
        kernel: Pooling kernel; the paper's is 5 x 5 x 5.

    Returns:
        Scalar, mean over the batch and over the voxels that count.
    """
    if ignore is not None:
        logits, target = _certain_where(ignore, logits), target.masked_fill(ignore, 0)
    probability = logits.softmax(1)[:, 1:]
    difference = smooth_boundary(probability, kernel) - smooth_boundary(target.to(probability.dtype), kernel)
    has_foreground = target.flatten(1).any(1)
    if ignore is None:
        per_patch = difference.square().flatten(1).mean(1)
    else:
        counted = (~ignore).flatten(1)
        per_patch = (difference.square().flatten(1) * counted).sum(1) / counted.sum(1).clamp(min=1)
    return (per_patch * has_foreground).mean()


def published_boundary_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The boundary term as the published code computes it.

    Both softmax channels are compared with the boundary of the foreground mask, pooling 5 x 5 x 1.

    Args:
        logits: (B, 2, D, H, W) float.
        target: (B, 1, D, H, W), 0 or 1.

    Returns:
        Scalar, before the weight of 10.
    """
    probabilities = logits.softmax(1)
    mask = target.to(probabilities.dtype)
    difference = smooth_boundary(probabilities, PUBLISHED_KERNEL) - smooth_boundary(mask, PUBLISHED_KERNEL)
    return (difference.square().flatten(1).mean(1) * target.flatten(1).any(1)).mean()


class ProMISeLoss(nn.Module):
    """Structural loss plus weighted boundary loss.

    Args:
        boundary_weight: Weight of the boundary loss; 0 leaves it out (Table 2, rows without -B).
        kernel: Pooling kernel of the boundary generator.
    """

    def __init__(self, *, boundary_weight: float = 10.0, kernel: Sequence[int] = PAPER_KERNEL) -> None:
        super().__init__()
        self.boundary_weight = boundary_weight
        self.kernel = tuple(kernel)

    def forward(self, logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (B, 2, D, H, W) float.
            target: (B, 1, D, H, W), 0 or 1.
            ignore: (B, 1, D, H, W) bool, voxels that must not influence the loss; None if there are none.

        Returns:
            Scalar.
        """
        logits = logits.float()
        loss = structural_loss(logits, target, ignore)
        if self.boundary_weight:
            loss = loss + self.boundary_weight * boundary_loss(logits, target, ignore, kernel=self.kernel)
        return loss


def loss_of_labels(loss: nn.Module, logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Half for the clicked label, half for all others together.

    Args:
        loss: A loss of one label, such as :class:`ProMISeLoss`.
        logits: (B, 2, D, H, W) of one label, or (B, K, 2, D, H, W), the clicked one first.
        target: (B, K, D, H, W), 0 or 1.
        ignore: (B, 1, D, H, W) bool, voxels that must not influence the loss; None if there are none.

    Returns:
        Scalar.
    """
    if logits.ndim == 5:
        return loss(logits, target, ignore)
    clicked = loss(logits[:, 0], target[:, :1], ignore)
    others = logits[:, 1:].flatten(0, 1)  # (B (K - 1), 2, D, H, W)
    if not len(others):
        return clicked
    number = target.shape[1] - 1
    repeated = None if ignore is None else ignore.repeat_interleave(number, dim=0)
    return (clicked + loss(others, target[:, 1:].flatten(0, 1)[:, None], repeated)) / 2
