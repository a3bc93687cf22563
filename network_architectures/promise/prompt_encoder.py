"""The visual prompt encoder: points look up the deepest image feature and steer it (paper, section 2, after SEEM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.promise.image_encoder import MLP

GLOBAL_QUERIES = 10
HEADS = 8
LAYERS = 2


class Attention(nn.Module):
    """Multi-head attention between two sets of tokens, with an inner width of its own."""

    def __init__(self, dim: int, inner_dim: int, num_heads: int = HEADS) -> None:
        """``dim`` is the width of a token, ``inner_dim`` that of all heads together."""
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner_dim)
        self.k_proj = nn.Linear(dim, inner_dim)
        self.v_proj = nn.Linear(dim, inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, Nq, dim) queries attend to (B, Nk, dim) keys, which are the values too; returns (B, Nq, dim)."""
        q, k, v = (
            projection(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, c)
            for projection, tokens in ((self.q_proj, queries), (self.k_proj, keys), (self.v_proj, keys))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))  # (B, heads, Nq, c) to (B, Nq, heads c)


class PromptLayer(nn.Module):
    """Global queries gather what the points see, then every image token attends to the queries."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        """``dim`` is the width of a token, ``mlp_dim`` the hidden width of the queries' MLP."""
        super().__init__()
        self.global_query = nn.Parameter(0.1 * torch.randn(1, GLOBAL_QUERIES, dim))
        self.self_attn = Attention(dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = ReLUMLP(dim, mlp_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, dim // 2)

    def forward(self, image_tokens: Tensor, point_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) image tokens and (B, N, C) point tokens to the same shapes."""
        tokens = torch.cat([self.global_query.expand(len(image_tokens), -1, -1), point_tokens], dim=1)
        tokens = self.norm2(tokens + self.norm1(self.self_attn(tokens, tokens)))
        queries, point_tokens = tokens[:, :GLOBAL_QUERIES], tokens[:, GLOBAL_QUERIES:]
        queries = self.norm3(queries + self.mlp(queries))
        return self.norm4(image_tokens + self.cross_attn_image_to_token(image_tokens, queries)), point_tokens


class ReLUMLP(MLP):
    """The prompt encoder's perceptron: ReLU where the image encoder has GELU."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        return self.lin2(F.relu(self.lin1(tokens)))


class PromptTransformer(nn.Module):
    """Two layers; the tokens of the image are the output."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        """``dim`` is the width of a token, ``mlp_dim`` the hidden width of the queries' MLP."""
        super().__init__()
        self.layers = nn.ModuleList(PromptLayer(dim, mlp_dim) for _ in range(LAYERS))

    def forward(self, image_tokens: Tensor, point_tokens: Tensor) -> Tensor:
        """(B, T, C) image tokens and (B, N, C) point tokens to (B, T, C)."""
        *first_layers, last_layer = self.layers
        for layer in first_layers:
            image_tokens, point_tokens = layer(image_tokens, point_tokens)
        return last_layer(image_tokens, point_tokens)[0]


class PromptEncoder(nn.Module):
    """Points and the deepest image feature to a feature of the same shape that knows what is meant."""

    def __init__(self, channels: int = 256, mlp_dim: int = 2048) -> None:
        """``channels`` of the image feature, divisible by 16."""
        super().__init__()
        self.transformer = PromptTransformer(channels, mlp_dim)

    def forward(
        self, feature: Tensor, point_coords: Tensor, image_size: Sequence[int], meanings: Tensor | None = None
    ) -> Tensor:
        """Steer the deepest feature by points.

        Args:
            feature: (B, C, H, W, D) in token order (array axes 1, 2, 0).
            point_coords: (B, N, 3) voxel indices in array axis order (0, 1, 2).
            image_size: (D, H, W) voxels that the feature spans, in array axis order.
            meanings: (B, N, C), added to what each point looks up; None adds nothing.

        Returns:
            (B, C, H, W, D), channels last in memory.
        """
        point_tokens = look_up_points(feature, point_coords, image_size)
        if meanings is not None:
            point_tokens = point_tokens + meanings.to(point_tokens.dtype)
        image_tokens = feature.permute(0, 2, 3, 4, 1)  # (B, H, W, D, C)
        steered = self.transformer(image_tokens.flatten(1, 3), point_tokens)  # (B, H W D, C)
        return steered.view(image_tokens.shape).permute(0, 4, 1, 2, 3)  # (B, C, H, W, D)


def look_up_points(feature: Tensor, point_coords: Tensor, image_size: Sequence[int]) -> Tensor:
    """Look up the feature at the points, trilinearly.

    Args:
        feature: (B, C, H, W, D) in token order (array axes 1, 2, 0).
        point_coords: (B, N, 3) voxel indices in array axis order (0, 1, 2).
        image_size: (D, H, W) voxels that the feature spans.

    Returns:
        (B, N, C).
    """
    size = torch.as_tensor(image_size, dtype=feature.dtype, device=feature.device)
    d, h, w = ((point_coords.to(feature.dtype) + 0.5) * 2 / size - 1).unbind(-1)
    grid = torch.stack([d, w, h], dim=-1)[:, :, None, None]  # grid_sample wants the last axis first
    sampled = F.grid_sample(feature, grid, mode="bilinear", align_corners=False)  # (B, C, N, 1, 1)
    return sampled.flatten(2).transpose(1, 2)  # (B, N, C)
