"""Prompts for training patches, drawn on the device for the batch at once (paper, section 2, "Prompt encoder")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MOST_LABELS = 8
"""Labels that learn from one patch; memory grows with them."""
NEIGHBOUR_SHARE = 0.25
"""How often any object of the label is clicked instead of the one in the patch's middle."""


class PromptedTarget(NamedTuple):
    """What one training step needs besides the image.

    Attributes:
        target: (B, 1, D, H, W) uint8, 1 on what was clicked.
        label_index: (B,) long, index of its label in the list of labels.
        points: (B, N, 3) long, voxel indices in array axis order.
        other_targets: (B, K - 1, D, H, W) uint8, what the same click means for other labels.
        other_labels: (B, K - 1) long, indices of these labels.
    """

    target: Tensor
    label_index: Tensor
    points: Tensor
    other_targets: Tensor
    other_labels: Tensor

    @property
    def targets(self) -> Tensor:
        """(B, K, D, H, W) uint8, the clicked one first."""
        return torch.cat([self.target, self.other_targets], dim=1)

    @property
    def labels(self) -> Tensor:
        """(B, K) long, the clicked one first."""
        return torch.cat([self.label_index[:, None], self.other_labels], dim=1)


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
    middle = segmentation[:, 0, depth, height, width, None] == segmentation.new_tensor(labels)  # (B, L)
    present = torch.stack([(segmentation == label).flatten(1).any(1) for label in labels], dim=1)
    weights = torch.where(middle.any(1, keepdim=True), middle, present)
    weights = torch.where(weights.any(1, keepdim=True), weights, torch.ones_like(weights)).float()
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


def choose_objects(
    mask: Tensor, objects: Tensor, *, neighbour_share: float = NEIGHBOUR_SHARE, generator: torch.Generator | None = None
) -> Tensor:
    """Reduce each mask to one object: mostly the one in the patch's middle, else any.

    Neighbours of the same label are what the network must leave out, so they are clicked, too.

    Args:
        mask: (B, D, H, W) bool, the chosen labels.
        objects: (B, D, H, W) integer numbers of objects, 0 for none.
        neighbour_share: How often the object in the middle has no preference.
        generator: Source of randomness on the mask's device; the global one if None.

    Returns:
        (B, D, H, W) bool. A mask without a numbered object stays as it is.
    """
    middle = tuple(size // 2 for size in mask.shape[1:])
    draws = torch.rand(len(mask), 2, generator=generator, device=mask.device)
    chosen = []
    for own_mask, numbers, (preference, pick) in zip(mask, objects, draws, strict=True):
        present = numbers[own_mask & (numbers > 0)].unique()
        if not len(present):
            chosen.append(own_mask)
            continue
        number = numbers[middle]
        if not own_mask[middle] or number == 0 or preference < neighbour_share:
            number = present[(pick * len(present)).long()]
        chosen.append(own_mask & (numbers == number))
    return torch.stack(chosen)


def sample_points(mask: Tensor, number: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw voxels uniformly from each mask, with replacement; from the whole patch where a mask is empty.

    Args:
        mask: (B, D, H, W) bool.
        number: Points for each patch.
        generator: Source of randomness on the mask's device; the global one if None.

    Returns:
        (B, number, 3) long, voxel indices in array axis order.
    """
    flat = mask.flatten(1)  # (B, V)
    flat = flat | ~flat.any(1, keepdim=True)
    rank = flat.cumsum(1)  # (B, V): how many voxels of the mask lie at or before each voxel
    # A float32 of a GPU or of mps has 24 bits: enough to reach every voxel of a patch of 256 x 256 x 256.
    uniform = torch.rand(len(flat), number, generator=generator, device=mask.device)
    wanted = torch.minimum((uniform * rank[:, -1:]).long(), rank[:, -1:] - 1) + 1
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
    most_labels: int = 1,
    generator: torch.Generator | None = None,
) -> PromptedTarget:
    """Choose a label, and an object of it, for each patch and draw its prompts.

    The paper draws 10 points from the object, if there is one, and 10 from anywhere, so that noisy prompts do no harm.
    A patch without the object gets all of its points from anywhere, which keeps shapes fixed. No point falls on other
    objects of the chosen label: there it would ask for them.

    Args:
        segmentation: (B, 1, D, H, W) integer label maps: the target is the label. Or (B, 2, D, H, W), the second
            channel with the numbers of objects: the target is one object.
        labels: Foreground label values.
        object_points: Points drawn from the target.
        random_points: Points drawn from the whole patch.
        ignore_label: Label value that is never clicked, or None.
        most_labels: How many labels learn from a patch, at most; the clicked one is the first.
        generator: Source of randomness on the segmentation's device; the global one if None.

    Returns:
        Targets, labels and points of each patch.
    """
    objects = segmentation[:, 1] if segmentation.shape[1] > 1 else None
    clicked = choose_labels(segmentation[:, :1], labels, generator=generator)  # (B,)
    label_index = _with_others(clicked, segmentation[:, :1], labels, most_labels, generator)  # (B, K)
    values = torch.as_tensor(labels, device=segmentation.device, dtype=segmentation.dtype)[label_index]
    of_label = segmentation[:, :1] == values[:, :, None, None, None]  # (B, K, D, H, W)
    mask = of_label[:, 0] if objects is None else choose_objects(of_label[:, 0], objects, generator=generator)
    anywhere = ~of_label[:, 0] | mask
    if ignore_label is not None:
        anywhere &= segmentation[:, 0] != ignore_label
    inside = sample_points(
        torch.where(mask.flatten(1).any(1).view(-1, 1, 1, 1), mask, anywhere), object_points, generator=generator
    )
    noise = sample_points(anywhere, random_points, generator=generator)
    others = of_label[:, 1:] if objects is None else nearest_objects(of_label[:, 1:], objects, inside[:, 0])
    return PromptedTarget(
        target=mask[:, None].to(torch.uint8),
        label_index=clicked,
        points=torch.cat([inside, noise], dim=1),
        other_targets=others.to(torch.uint8),
        other_labels=label_index[:, 1:],
    )


def nearest_objects(of_label: Tensor, objects: Tensor, point: Tensor) -> Tensor:
    """What a click means for labels that it may have missed: the object of each label nearest to it.

    Args:
        of_label: (B, K, D, H, W) bool, voxels of each label.
        objects: (B, D, H, W) integer numbers of objects, 0 for none.
        point: (B, 3) voxel indices.

    Returns:
        (B, K, D, H, W) bool. A label without a numbered object stays as it is.
    """
    axes = [
        (torch.arange(size, device=point.device) - point[:, axis, None]).square()
        for axis, size in enumerate(objects.shape[1:])
    ]
    distance = axes[0][:, :, None, None] + axes[1][:, None, :, None] + axes[2][:, None, None, :]  # (B, D, H, W)
    numbered = of_label & (objects > 0)[:, None]
    far = torch.where(numbered, distance[:, None], torch.iinfo(torch.int64).max).flatten(2)  # (B, K, V)
    number = objects.flatten(1).gather(1, far.argmin(2))  # (B, K)
    nearest = of_label & (objects[:, None] == number[:, :, None, None, None])
    has_any = numbered.flatten(2).any(2)[:, :, None, None, None]
    return torch.where(has_any, nearest, of_label)


def _with_others(
    clicked: Tensor, segmentation: Tensor, labels: Sequence[int], most: int, generator: torch.Generator | None
) -> Tensor:
    """(B, K) long: the clicked label and others in random order, those first that are present in some patch."""
    number = min(most, len(labels))
    if number == 1:
        return clicked[:, None]
    present = torch.stack([(segmentation == label).flatten(1).any(1) for label in labels], dim=1)  # (B, L)
    order = torch.rand(present.shape, generator=generator, device=present.device) + present
    order.scatter_(1, clicked[:, None], 3.0)
    return order.argsort(dim=1, descending=True)[:, :number]
