"""Predicting a window in all of its mirror images, as nnU-Net does with its tiles; clicks are mirrored along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations

import torch
from torch import Tensor

Segment = Callable[[Tensor, Tensor], Tensor]


def mean_over_mirrors(segment: Segment, image: Tensor, points: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean logit over all combinations of mirrored axes.

    Args:
        segment: Takes (C, D, H, W) and (n, 3) clicks, gives (D, H, W) logits, NaN where it did not look.
        image: (C, D, H, W) window.
        points: (n, 3) long, clicks in it.
        axes: Array axes (0, 1, 2) that may be mirrored; none gives ``segment``'s own answer.

    Returns:
        (D, H, W) logits; where only some mirror images were looked at, their mean.
    """
    answers = []
    for mirrored in mirrors(axes):
        logit = segment(mirror(image, mirrored), mirror_points(points, image.shape[1:], mirrored))
        answers.append(mirror(logit, mirrored))
    return torch.stack(answers).nanmean(0)


def mirrors(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every combination of the axes, the empty one first."""
    return chain.from_iterable(combinations(axes, number) for number in range(len(axes) + 1))


def mirror(volume: Tensor, axes: Sequence[int]) -> Tensor:
    """(..., D, H, W) mirrored along array axes."""
    return volume.flip([axis - 3 for axis in axes])


def mirror_points(points: Tensor, size: Sequence[int], axes: Sequence[int]) -> Tensor:
    """(n, 3) voxels of a (D, H, W) volume, mirrored along array axes."""
    mirrored = points.clone()
    for axis in axes:
        mirrored[:, axis] = size[axis] - 1 - mirrored[:, axis]
    return mirrored
