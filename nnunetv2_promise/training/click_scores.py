"""True and false voxels of clicked patches, for the pseudo Dice that nnU-Net logs between epochs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnunetv2_promise.training.prompt_sampling import PromptedTarget


def click_scores(
    logits: Tensor, prompted: PromptedTarget, number_of_labels: int, ignored: Tensor | None
) -> dict[str, np.ndarray]:
    """True and false voxels of prompted patches, summed by label.

    Args:
        logits: (B, 2, D, H, W) of the clicked labels.
        prompted: Targets and labels of the patches.
        number_of_labels: Length of the results.
        ignored: (B, 1, D, H, W) bool, voxels that do not count, or None.

    Returns:
        ``tp_hard``, ``fp_hard`` and ``fn_hard``, (number_of_labels,) float64 each.
    """
    predicted = logits[:, 1:] > logits[:, :1]
    truth = prompted.target.bool()
    counted = torch.ones_like(truth) if ignored is None else ~ignored
    scores = {}
    for name, voxels in (("tp", predicted & truth), ("fp", predicted & ~truth), ("fn", ~predicted & truth)):
        per_patch = (voxels & counted).flatten(1).sum(1).cpu().numpy()
        total = np.zeros(number_of_labels)
        np.add.at(total, prompted.label_index.cpu().numpy(), per_patch)
        scores[f"{name}_hard"] = total
    return scores


def on_another_object(logits: Tensor, prompted: PromptedTarget, segmentation: Tensor) -> np.ndarray:
    """How many clicks there were on objects, and how many masks overlap another object more than the clicked one.

    Args:
        logits: (B, 2, D, H, W) of the clicked labels.
        prompted: Targets of the patches.
        segmentation: (B, 2, D, H, W): labels, and numbers of objects.

    Returns:
        (2,) int64.
    """
    masks = (logits[:, 1] > logits[:, 0]).cpu().numpy()
    clicked, numbers = prompted.target[:, 0].bool().cpu().numpy(), segmentation[:, 1].cpu().numpy()
    clicks = astray = 0
    for mask, truth, objects in zip(masks, clicked, numbers, strict=True):
        if truth.any():
            clicks += 1
            others = np.bincount(objects[mask & ~truth & (objects > 0)], minlength=1)
            astray += int(others.max() > np.count_nonzero(mask & truth))
    return np.array([clicks, astray])
