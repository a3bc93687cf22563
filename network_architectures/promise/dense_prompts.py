"""Clicks and the previous mask as maps, and what they add to the network's features.

The prompt encoder knows a click by what the image looks like there. To correct a mask the network must also know which
side of an edge was clicked, and what it answered before. PRISM (Li et al., MICCAI 2024) adds the previous logits to the
image embedding through strided convolutions; here the clicks' places come with them, and the decoder gets both at twice
the embedding's resolution as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLICK_SIGMA_VOXELS = 1.5
MAPS = 3
"""Positive clicks, negative clicks, previous mask."""
WIDTH = 16
"""Channels between the two convolutions of a path."""


class DensePrompts(nn.Module):
    """Two paths of two convolutions each; the last ones start at zero, so that at first nothing is added."""

    def __init__(self, *, deepest_channels: int, fused_channels: int) -> None:
        """Channels of the two features that the maps are added to."""
        super().__init__()
        self.to_deepest = nn.Sequential(
            nn.Conv3d(MAPS, WIDTH, kernel_size=3, stride=2, padding=1), nn.ReLU(), nn.Conv3d(WIDTH, deepest_channels, 1)
        )
        self.to_fused = nn.Sequential(
            nn.Conv3d(MAPS, WIDTH, kernel_size=3, padding=1), nn.ReLU(), nn.Conv3d(WIDTH, fused_channels, 3, padding=1)
        )
        self.start_without_effect()

    def start_without_effect(self) -> None:
        """Set the last convolutions to zero."""
        for path in (self.to_deepest, self.to_fused):
            nn.init.zeros_(path[-1].weight)
            nn.init.zeros_(path[-1].bias)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H/2, W/2, D/2) maps to additions for the deepest feature (H/4, ...) and the fused one (H/2, ...)."""
        return self.to_deepest(maps), self.to_fused(maps)


@torch.no_grad()
def dense_maps(
    point_coords: Tensor, point_labels: Tensor, previous_logits: Tensor | None, padded_size: Sequence[int]
) -> Tensor:
    """Prompts as maps at half the patch's resolution.

    Args:
        point_coords: (B, N, 3) voxel indices in array axis order.
        point_labels: (B, N), 1 for a positive click and 0 for a negative one.
        previous_logits: (B, 1, D, H, W) foreground against background of the previous mask, or None.
        padded_size: (D, H, W) of the patch with its padding, even.

    Returns:
        (B, 3, H/2, W/2, D/2): a Gaussian around each positive click, overlapping ones by their maximum; the same for
        negative clicks; the previous mask from -1 (surely background) to 1, 0 where there is none.
    """
    d, h, w = (
        _bell(point_coords[..., axis], size) for axis, size in enumerate(padded_size)
    )  # (B, N, D/2), (B, N, H/2), (B, N, W/2)
    positive = point_labels.to(d.dtype)[..., None]  # (B, N, 1)
    clicks = [torch.einsum("bnh,bnw,bnd->bnhwd", h, w, d * sign).amax(1) for sign in (positive, 1 - positive)]
    return torch.stack([*clicks, _previous_mask(previous_logits, clicks[0], padded_size)], dim=1)  # (B, 3, H, W, D) / 2


def _bell(coords: Tensor, size: int) -> Tensor:
    """(B, N) coordinates along an axis to (B, N, size / 2): a Gaussian at every second voxel face."""
    places = torch.arange(size // 2, device=coords.device) * 2 + 0.5  # in voxels of the patch
    return torch.exp(-0.5 * ((places - coords.float()[..., None]) / CLICK_SIGMA_VOXELS) ** 2)


def _previous_mask(previous_logits: Tensor | None, like: Tensor, padded_size: Sequence[int]) -> Tensor:
    if previous_logits is None:
        return torch.zeros_like(like)
    certainty = torch.tanh(previous_logits.float() / 2)  # twice the probability, minus one
    ends = [padded - size for padded, size in zip(padded_size, certainty.shape[2:], strict=True)]
    certainty = F.pad(certainty, (0, ends[2], 0, ends[1], 0, ends[0]), value=-1.0)
    return F.avg_pool3d(certainty, 2)[:, 0].permute(0, 2, 3, 1)  # (B, D, H, W) / 2 to (B, H, W, D) / 2
