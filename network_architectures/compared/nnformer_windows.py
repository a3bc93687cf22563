"""The volumes in which nnFormer's tokens attend to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.promise.window_attention import cut_windows, join_windows

PADDING = 8
"""Label of tokens beyond the grid; the labels below it tell the sides of the three seams of the shift apart."""


class Volumes(nn.Module):
    """Cubes of one token grid, shifted by half a cube or not.

    Axes that one cube covers are not shifted: there the attention is global. A grid that is not a multiple of the cube
    is padded at its end. Tokens attend only to tokens of their own kind: of the grid, and from the same side of the
    seams that the cyclic shift makes.

    Attributes:
        places: (N, N) int64, row of the table of relative positions for each pair of the N tokens of a cube.
        allowed: (cubes, N, N) bool, who may attend to whom; None if all may.
    """

    places: Tensor
    allowed: Tensor | None

    def __init__(self, *, grid: Sequence[int], window: int, shifted: bool) -> None:
        """``grid`` is (D, H, W) in tokens, ``window`` the edge of the cube in tokens."""
        super().__init__()
        self.grid = tuple(grid)
        self.window = window
        self.counts = tuple(-(-length // window) for length in self.grid)
        self.shift = tuple(window // 2 if shifted and length > window else 0 for length in self.grid)
        with torch.device("cpu"):  # the mask's values are looked at, also where parameters are made elsewhere
            self.register_buffer("places", relative_places(window), persistent=False)
            self.register_buffer("allowed", self._allowed(), persistent=False)

    def _allowed(self) -> Tensor | None:
        label = torch.zeros(tuple(count * self.window for count in self.counts), dtype=torch.long)
        outside = torch.zeros_like(label, dtype=torch.bool)
        for axis, (length, shift) in enumerate(zip(self.grid, self.shift, strict=True)):
            padded = self.counts[axis] * self.window
            place = torch.arange(padded)
            shape = [padded if other == axis else 1 for other in range(3)]
            # Before the shift, the first tokens of the grid: they come to stand behind the last ones.
            label = label + (1 << axis) * (place < shift).reshape(shape)  # (D, H, W), padded
            outside = outside | (place >= length).reshape(shape)
        label = label.masked_fill(outside, PADDING)
        cubes = cut_windows(label[None, ..., None].roll([-s for s in self.shift], (1, 2, 3)), (self.window,) * 3)[
            ..., 0
        ]
        allowed = cubes[:, :, None] == cubes[:, None, :]
        return None if bool(allowed.all()) else allowed

    def partition(self, tokens: Tensor) -> Tensor:
        """(B, D, H, W, E) tokens to (B, cubes, N, E)."""
        d, h, w = (count * self.window - size for count, size in zip(self.counts, self.grid, strict=True))
        tokens = F.pad(tokens, (0, 0, 0, w, 0, h, 0, d)).roll([-s for s in self.shift], (1, 2, 3))
        return cut_windows(tokens, (self.window,) * 3).unflatten(0, (len(tokens), -1))  # (B, cubes, N, E)

    def merge(self, cubes: Tensor) -> Tensor:
        """(B, cubes, N, E) back to (B, D, H, W, E); undoes :meth:`partition`."""
        tokens = join_windows(cubes.flatten(0, 1), (self.window,) * 3, self.counts)  # (B, *padded, E)
        tokens = tokens.roll(self.shift, (1, 2, 3))
        return tokens[:, : self.grid[0], : self.grid[1], : self.grid[2]]


def relative_places(window: int) -> Tensor:
    """(N, N) rows of a table with one entry for each offset of two tokens in a cube; offsets run from 1 - window."""
    axis = torch.arange(window)
    tokens = torch.cartesian_prod(axis, axis, axis)
    offset = tokens[:, None] - tokens[None] + window - 1
    edge = 2 * window - 1
    return (offset[..., 0] * edge + offset[..., 1]) * edge + offset[..., 2]
