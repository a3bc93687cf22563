"""From a window and its clicks to a mask: one patch on the prompt, more where the object is larger than a patch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_PATCHES = 27
MAX_SEEDS = 10
BACKGROUND_LOGIT = -30.0

PatchNetwork = Callable[[Tensor, Tensor], Tensor]
PatchAnswer = Callable[[tuple[int, ...], Tensor], Tensor]


class _Step(NamedTuple):
    """A patch to look at, the clicks in it, and the voxels that it is for; None if it is for its clicks."""

    start: tuple[int, ...]
    clicks: Tensor
    behind: tuple[Tensor, ...] | None = None


def segment_window(network: PatchNetwork, image: Tensor, points: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Segment one object in a window.

    Args:
        network: Takes (1, C, D, H, W) and (1, n, 3) clicks, gives (1, 2, D, H, W) logits.
        image: (C, D, H, W) float, at least as large as a patch.
        points: (n, 3) long, clicks in the window.
        patch_size: (D, H, W) of a patch.

    Returns:
        (D, H, W) float32, see ``grow``.
    """

    def answer(start: tuple[int, ...], clicks: Tensor) -> Tensor:
        return network(image[(slice(None), *patch_box(start, patch_size))][None], clicks[None])[0]

    return grow(answer, points, tuple(image.shape[1:]), patch_size)


def grow(answer: PatchAnswer, points: Tensor, size: Sequence[int], patch_size: Sequence[int]) -> Tensor:
    """Segment one object patch by patch.

    The first patch is centred in the window, as the window is on the prompt (paper, section 3.1). Clicks outside of it
    get patches of their own. Where the mask touches a patch face inside the window and no patch has looked behind it, a
    patch half a length further on is prompted with voxels of that mask. Overlapping patches are averaged.

    Args:
        answer: Takes the first voxel of a patch and (n, 3) clicks in it, gives (2, *patch_size) logits.
        points: (n, 3) long, clicks in the window.
        size: (D, H, W) of the window.
        patch_size: (D, H, W) of a patch.

    Returns:
        (D, H, W) float32: logit of foreground against background, NaN where no patch looked.
    """
    total = torch.zeros(tuple(size), dtype=torch.float32, device=points.device)
    count = torch.zeros_like(total)
    queue: deque[_Step] = deque(_first_patches(points, size, patch_size))
    visited: set[tuple[int, ...]] = set()
    while queue and len(visited) < MAX_PATCHES:
        step = queue.popleft()
        if step.start in visited or (step.behind is not None and count[step.behind].all()):
            continue
        visited.add(step.start)
        logits = answer(step.start, step.clicks).float()
        foreground = logits[1] - logits[0]
        box = patch_box(step.start, patch_size)
        total[box] += foreground
        count[box] += 1
        queue.extend(_neighbours(step.start, foreground > 0, size, patch_size))
    return total / count  # 0 / 0 is NaN


def patch_box(start: Sequence[int], patch_size: Sequence[int]) -> tuple[slice, ...]:
    """The voxels of a patch in its window."""
    return tuple(slice(begin, begin + length) for begin, length in zip(start, patch_size, strict=True))


def _first_patches(points: Tensor, size: Sequence[int], patch_size: Sequence[int]) -> Iterator[_Step]:
    """The central patch and its clicks; then one patch for each click that no patch holds yet.

    Clicks of a window that was moved inside the scan may lie far from its middle; then no patch is central.
    """
    start = tuple(length // 2 - patch // 2 for length, patch in zip(size, patch_size, strict=True))
    remaining = points
    middle = (points.amin(0) + points.amax(0)) / 2
    off_centre = (middle - middle.new_tensor([length // 2 for length in size])).abs()
    if (off_centre > middle.new_tensor(list(patch_size)) / 4).any():
        start = _around(points[0], size, patch_size)
    while len(remaining):
        origin = remaining.new_tensor(start)
        inside = ((remaining >= origin) & (remaining < origin + remaining.new_tensor(list(patch_size)))).all(1)
        if inside.any():
            yield _Step(start, remaining[inside] - origin)
            remaining = remaining[~inside]
        if len(remaining):
            start = _around(remaining[0], size, patch_size)


def _around(point: Tensor, size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """The patch with a point in its middle, moved into the window."""
    return tuple(
        min(max(int(voxel) - patch // 2, 0), length - patch)
        for voxel, patch, length in zip(point, patch_size, size, strict=True)
    )


def _neighbours(
    start: tuple[int, ...], mask: Tensor, size: Sequence[int], patch_size: Sequence[int]
) -> Iterator[_Step]:
    """Patches next to the faces that the mask touches, with voxels of the mask as their clicks."""
    for axis in range(3):
        for face, step in ((0, -1), (patch_size[axis] - 1, 1)):
            touching = mask.select(axis, face)
            if not touching.any():
                continue
            moved = min(max(start[axis] + step * (patch_size[axis] // 2), 0), size[axis] - patch_size[axis])
            if moved == start[axis]:
                continue
            shift = moved - start[axis]
            shared = mask.narrow(axis, max(shift, 0), patch_size[axis] - abs(shift)).nonzero()
            shared = shared[torch.linspace(0, len(shared) - 1, min(len(shared), MAX_SEEDS)).long()]
            if shift < 0:
                shared[:, axis] -= shift
            behind = touching.nonzero() + mask.new_tensor(
                [n for i, n in enumerate(start) if i != axis], dtype=torch.long
            )
            plane = torch.full_like(behind[:, :1], start[axis] + face + step)
            voxels = torch.cat([behind[:, :axis], plane, behind[:, axis:]], dim=1)
            yield _Step((*start[:axis], moved, *start[axis + 1 :]), shared, tuple(voxels.T))
