"""Prompts for training patches, drawn on the device for the batch at once (paper, section 2, "Prompt encoder")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PromptedTarget(NamedTuple):
    """What one training step needs besides the image.

    Attributes:
        target: (B, 1, D, H, W) uint8, 1 on the chosen label.
        label_index: (B,) long, index of the chosen label in the list of labels.
        points: (B, N, 3) long, voxel indices in array axis order.
    """

    target: Tensor
    label_index: Tensor
    points: Tensor


def choose_labels(segmentation: Tensor, labels: Sequence[int], *, generator: torch.Generator | None = None) -> Tensor:
    """Choose for each patch the label in its middle, else one that is present, else any.

    At prediction the patch is centred on the clicked object, so the label in the middle is what a click there means.

    Args:
        segmentation: (B, 1, D, H, W) integer label maps.
        labels: Foreground label values.
        generator: Source of randomness on the segmentation's device; the global one if None.

    Returns:
        (B,) long, indices into ``labels``.
    """
    depth, height, width = (size // 2 for size in segmentation.shape[2:])
    middle = segmentation[:, 0, depth, height, width, None] == segmentation.new_tensor(labels)  # B, L
    present = torch.stack([(segmentation == label).flatten(1).any(1) for label in labels], dim=1)
    weights = torch.where(middle.any(1, keepdim=True), middle, present)
    weights = torch.where(weights.any(1, keepdim=True), weights, torch.ones_like(weights)).float()
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


def sample_points(mask: Tensor, number: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw voxels uniformly from each mask, with replacement; from the whole patch where a mask is empty.

    Args:
        mask: (B, D, H, W) bool.
        number: Points for each patch.
        generator: Source of randomness on the mask's device; the global one if None.

    Returns:
        (B, number, 3) long, voxel indices in array axis order.
    """
    flat = mask.flatten(1)
    flat = flat | ~flat.any(1, keepdim=True)
    rank = flat.cumsum(1)  # B, V: how many voxels of the mask lie at or before each voxel
    uniform = torch.rand(len(flat), number, generator=generator, device=mask.device, dtype=torch.float64)
    wanted = (uniform * rank[:, -1:]).long() + 1
    index = torch.searchsorted(rank, wanted)
    _, height, width = mask.shape[1:]
    return torch.stack([index // (height * width), index // width % height, index % width], dim=-1)


def prompt_batch(
    segmentation: Tensor,
    labels: Sequence[int],
    *,
    object_points: int,
    random_points: int,
    ignore_label: int | None = None,
    generator: torch.Generator | None = None,
) -> PromptedTarget:
    """Choose a label for each patch and draw its prompts.

    The paper draws 10 points from the object, if there is one, and 10 from anywhere, so that noisy prompts do no harm.
    A patch without the object gets all of its points from anywhere, which keeps shapes fixed.

    Args:
        segmentation: (B, 1, D, H, W) integer label maps.
        labels: Foreground label values.
        object_points: Points drawn from the chosen label.
        random_points: Points drawn from the whole patch.
        ignore_label: Label value that is never clicked, or None.
        generator: Source of randomness on the segmentation's device; the global one if None.

    Returns:
        Target, label and points of each patch.
    """
    label_index = choose_labels(segmentation, labels, generator=generator)
    values = torch.as_tensor(labels, device=segmentation.device)[label_index]
    target = segmentation == values.view(-1, 1, 1, 1, 1).to(segmentation.dtype)
    anywhere = torch.ones_like(target) if ignore_label is None else segmentation != ignore_label
    inside = sample_points(
        torch.where(target.flatten(1).any(1).view(-1, 1, 1, 1), target[:, 0], anywhere[:, 0]),
        object_points,
        generator=generator,
    )
    noise = sample_points(anywhere[:, 0], random_points, generator=generator)
    return PromptedTarget(target.to(torch.uint8), label_index, torch.cat([inside, noise], dim=1))
