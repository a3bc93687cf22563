"""The parts of nnFormer; tokens are (B, D, H, W, E) throughout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from nnunetv2_promise.network_architectures.compared.nnformer_windows import Volumes


class ToTokens(nn.Module):
    """A convolution over tokens."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D, H, W, E) to (B, D', H', W', E')."""
        return self.convolution(tokens.movedim(-1, 1)).movedim(1, -1)


def embedding(in_channels: int, width: int, token_voxels: Sequence[int] = (4, 4, 4)) -> nn.Sequential:
    """Four 3^3 convolutions, of which the first and third have strides (paper, "The embedding layer").

    Takes (B, D, H, W, in_channels) and gives one token for each block of ``token_voxels``: the first convolution has
    half of it as its stride, the third what is left.
    """
    half = width // 2
    d, h, w = (max(1, voxels // 2) for voxels in token_voxels)
    first = (d, h, w)
    third = (token_voxels[0] // d, token_voxels[1] // h, token_voxels[2] // w)
    once = (1, 1, 1)
    steps = [(in_channels, half, first), (half, half, once), (half, width, third), (width, width, once)]
    layers: list[nn.Module] = []
    for source, target, stride in steps:
        layers += [ToTokens(nn.Conv3d(source, target, 3, stride=stride, padding=1)), nn.GELU(), nn.LayerNorm(target)]
    del layers[-2]  # the last convolution is normalised only
    return nn.Sequential(*layers)


def reduction(width: int) -> nn.Sequential:
    """Norm and a 3^3 convolution with stride 2: half the grid, twice the width."""
    return nn.Sequential(nn.LayerNorm(width), ToTokens(nn.Conv3d(width, 2 * width, 3, stride=2, padding=1)))


def expansion(width: int) -> nn.Sequential:
    """Norm and a 2^3 transposed convolution with stride 2: twice the grid, half the width."""
    return nn.Sequential(nn.LayerNorm(width), ToTokens(nn.ConvTranspose3d(width, width // 2, 2, stride=2)))


class VolumeAttention(nn.Module):
    """Multi-head attention within volumes, with a learned bias for relative positions.

    Args:
        width: Width of the tokens.
        heads: Number of heads.
        volumes: The volumes.
        cross: Take the queries as they are, and project keys and values from a second input (skip attention).
    """

    def __init__(self, width: int, heads: int, volumes: Volumes, *, cross: bool) -> None:
        super().__init__()
        self.heads = heads
        self.volumes = volumes
        self.project_in = nn.Linear(width, (2 if cross else 3) * width)
        self.project_out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.empty((2 * volumes.window - 1) ** 3, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, tokens: Tensor, queries: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            tokens: (B, D, H, W, E), from which keys and values are made; and queries, if none are given.
            queries: (B, D, H, W, E) with skip attention.

        Returns:
            (B, D, H, W, E).
        """
        parts = [*self.project_in(self.volumes.partition(tokens)).chunk(2 if queries is not None else 3, dim=-1)]
        if queries is not None:
            parts = [self.volumes.partition(queries), *parts]
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in parts
        )  # (B, cubes, heads, N, c)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self._scores().to(query.dtype))
        return self.volumes.merge(self.project_out(attended.transpose(-2, -3).flatten(-2)))

    def _scores(self) -> Tensor:
        """(heads, N, N) or (cubes, heads, N, N) added to the scores."""
        bias = self.bias[self.volumes.places].permute(2, 0, 1)  # (heads, N, N)
        if self.volumes.allowed is None:
            return bias
        return bias[None].masked_fill(~self.volumes.allowed[:, None], float("-inf"))


class Block(nn.Module):
    """Attention and a perceptron, each with norm and residual.

    With skip attention (``cross``) the upsampled features of the decoder are the queries and carry the residual; the
    skip connection gives keys and values (paper, "The skip attention").
    """

    def __init__(self, width: int, heads: int, volumes: Volumes, *, drop_path: float, cross: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = VolumeAttention(width, heads, volumes, cross=cross)
        self.norm2 = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, D, H, W, E), and the skip connection of the same shape with skip attention; to the same shape."""
        queries = self.norm1(tokens)
        attended = self.attention(queries) if skip is None else self.attention(self.norm1(skip), queries)
        tokens = tokens + self.drop_path(attended)
        return tokens + self.drop_path(self.perceptron(self.norm2(tokens)))


class Stage(nn.Module):
    """Blocks of one grid; every second one has shifted volumes.

    Args:
        width: Width of the tokens.
        grid: (D, H, W) in tokens.
        heads: Number of heads.
        window: Edge of the volumes in tokens.
        drop_path: Probability of leaving out a branch in training, for each block.
        skip_attention: Whether the first block attends to a skip connection.
    """

    def __init__(
        self,
        *,
        width: int,
        grid: Sequence[int],
        heads: int,
        window: int,
        drop_path: Sequence[float],
        skip_attention: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                Volumes(grid=grid, window=window, shifted=index % 2 == 1),
                drop_path=rate,
                cross=skip_attention and index == 0,
            )
            for index, rate in enumerate(drop_path)
        )

    def forward(self, tokens: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, D, H, W, E) to the same shape."""
        first, *others = self.blocks
        tokens = first(tokens, skip)
        for block in others:
            tokens = block(tokens)
        return tokens
