"""The adapter that lets a frozen block of SAM see depth."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.depthwise import DepthwiseConv3d
from nnunetv2_promise.network_architectures.promise.cpu import add_relu


class Adapter(nn.Module):
    """Bottleneck with a depthwise 3D convolution and its own residual (paper, section 2)."""

    def __init__(self, embed_dim: int) -> None:
        """``embed_dim`` is the width E of a token; the bottleneck has half of it."""
        super().__init__()
        hidden = embed_dim // 2
        self.linear1 = nn.Linear(embed_dim, hidden)
        self.conv = DepthwiseConv3d(hidden, kernel_size=3)
        self.linear2 = nn.Linear(hidden, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, D, E) to the same shape."""
        hidden = F.relu(self.linear1(tokens)).permute(0, 4, 1, 2, 3)  # (B, E/2, H, W, D), channels last in memory
        hidden = F.relu(self.conv(hidden)).permute(0, 2, 3, 4, 1)  # (B, H, W, D, E/2)
        return add_relu(tokens, self.linear2(hidden))
