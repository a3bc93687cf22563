"""From a window and its clicks to a mask: one patch on the prompt, more where the object is larger than a patch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

MAX_PATCHES = 27
MAX_SEEDS = 10
BACKGROUND_LOGIT = -30.0

PatchNetwork = Callable[[Tensor, Tensor], Tensor]


def segment_window(network: PatchNetwork, image: Tensor, points: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Segment one object in a window.

    The first patch is centred in the window, as the window is on the prompt (paper, section 3.1). Clicks outside of it
    get patches of their own. Where the mask touches a patch face inside the window, a patch half a length further on is
    prompted with voxels of that mask. Overlapping patches are averaged. No patch covers the rest, which is background.

    Args:
        network: Takes (1, C, D, H, W) and (1, n, 3) clicks, gives (1, 2, D, H, W) logits.
        image: (C, D, H, W) float, at least as large as a patch.
        points: (n, 3) long, clicks in the window.
        patch_size: (D, H, W) of a patch.

    Returns:
        (D, H, W) float32: logit of foreground against background.
    """
    size = tuple(image.shape[1:])
    total = torch.zeros(size, dtype=torch.float32, device=image.device)
    count = torch.zeros_like(total)
    queue: deque[tuple[tuple[int, ...], Tensor]] = deque(_first_patches(points, size, patch_size))
    visited: set[tuple[int, ...]] = set()
    while queue and len(visited) < MAX_PATCHES:
        start, clicks = queue.popleft()
        if start in visited:
            continue
        visited.add(start)
        box = tuple(slice(begin, begin + length) for begin, length in zip(start, patch_size, strict=True))
        logits = network(image[(slice(None), *box)][None], clicks[None]).float()
        foreground = logits[0, 1] - logits[0, 0]
        total[box] += foreground
        count[box] += 1
        queue.extend(_neighbours(start, foreground > 0, size, patch_size))
    return torch.where(count > 0, total / count.clamp(min=1), total.new_tensor(BACKGROUND_LOGIT))


def _first_patches(
    points: Tensor, size: Sequence[int], patch_size: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """The central patch and its clicks; then one patch for each click that no patch holds yet."""
    start = tuple(length // 2 - patch // 2 for length, patch in zip(size, patch_size, strict=True))
    remaining = points
    while len(remaining):
        origin = remaining.new_tensor(start)
        inside = ((remaining >= origin) & (remaining < origin + remaining.new_tensor(list(patch_size)))).all(1)
        if inside.any():
            yield start, remaining[inside] - origin
            remaining = remaining[~inside]
        if len(remaining):
            start = tuple(
                min(max(int(voxel) - patch // 2, 0), length - patch)
                for voxel, patch, length in zip(remaining[0], patch_size, size, strict=True)
            )


def _neighbours(
    start: tuple[int, ...], mask: Tensor, size: Sequence[int], patch_size: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Patches next to the faces that the mask touches, with voxels of the mask as their clicks."""
    for axis in range(3):
        for face, step in ((0, -1), (patch_size[axis] - 1, 1)):
            if not mask.select(axis, face).any():
                continue
            moved = min(max(start[axis] + step * (patch_size[axis] // 2), 0), size[axis] - patch_size[axis])
            if moved == start[axis]:
                continue
            shift = moved - start[axis]
            shared = mask.narrow(axis, max(shift, 0), patch_size[axis] - abs(shift)).nonzero()
            shared = shared[torch.linspace(0, len(shared) - 1, min(len(shared), MAX_SEEDS)).long()]
            if shift < 0:
                shared[:, axis] -= shift
            yield (*start[:axis], moved, *start[axis + 1 :]), shared
