"""The parts that let ProMISe correct a mask: signs of clicks, the previous mask, and how good the answer is.

The prompt encoder knows a click by what the image looks like there. To correct a mask the network must also know which
side of an edge was clicked, and what it answered before. PRISM (Li et al., MICCAI 2024) gives points a learned sign and
adds the previous logits to the image embedding through strided convolutions; here the clicks' places come with them,
and the decoder gets both at twice the embedding's resolution as well. PRISM's head that predicts a mask's Dice is here,
too. All of it starts without effect on the first answer: a network with these parts gives that of the one without them.

Once there is an answer to correct, a click also speaks for itself: it raises or lowers the logit around it, from the
first step of training on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLICK_SIGMA_VOXELS = 1.5
CLICK_LOGIT = 8.0
"""What a click adds to the foreground's logit in its middle, before training."""
MAPS = 3
"""Positive clicks, negative clicks, previous mask."""
WIDTH = 16
"""Channels between the two convolutions of a path."""
REFINEMENTS = 2
"""How often the answer to a first click is handed back as the previous mask."""


class Corrections(nn.Module):
    """What a network that corrects has beside the plain one."""

    def __init__(self, *, deepest_channels: int, fused_channels: int) -> None:
        """Channels of the deepest image feature and of the decoder's fused one."""
        super().__init__()
        self.point_signs = nn.Parameter(torch.zeros(2, deepest_channels))
        self.to_deepest = nn.Sequential(
            nn.Conv3d(MAPS, WIDTH, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(WIDTH, deepest_channels, kernel_size=1),
        )
        self.to_fused = nn.Sequential(
            nn.Conv3d(MAPS, WIDTH, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv3d(WIDTH, fused_channels, kernel_size=3, padding=1),
        )
        self.click_weight = nn.Parameter(torch.ones(()))
        self.confidence = Confidence(fused_channels)
        for path in (self.to_deepest, self.to_fused):
            for parameter in path[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H/2, W/2, D/2) maps to what is added to the deepest feature (at H/4) and to the fused one (at H/2)."""
        return self.to_deepest(maps), self.to_fused(maps)

    def push(self, point_coords: Tensor, point_labels: Tensor, size: Sequence[int], *, corrects: bool) -> Tensor:
        """What clicks add to the foreground's logit: up around positive ones, down around negative ones.

        Args:
            point_coords: (B, N, 3) voxel indices in array axis order.
            point_labels: (B, N), 1 for a positive click and 0 for a negative one.
            size: (D, H, W) of the patch.
            corrects: Whether the clicks correct an answer; else nothing is added, and the weight's gradient is 0 (DDP
                needs one).

        Returns:
            (B, 1, D, H, W) float32.
        """
        if not corrects:
            return (0.0 * self.click_weight).expand(len(point_coords), 1, *size)
        voxels = [range(length) for length in size]
        up, down = (click_bells(point_coords, point_labels == sign, voxels) for sign in (1, 0))
        return CLICK_LOGIT * self.click_weight * (up - down)[:, None]


class Confidence(nn.Module):
    """Predicts the Dice of a mask from the features under it and from how certain it is.

    No gradient reaches the mask from here.
    """

    def __init__(self, channels: int) -> None:
        """``channels`` of the fused feature."""
        super().__init__()
        self.perceptron = nn.Sequential(nn.Linear(2 * channels + 2, channels), nn.ReLU(), nn.Linear(channels, 1))

    def forward(self, fused: Tensor, logits: Tensor) -> Tensor:
        """Predict.

        Args:
            fused: (B, channels, H/2, W/2, D/2), the decoder's fused feature.
            logits: (B, 2, H, W, D) of the mask.

        Returns:
            (B,) float32 in [0, 1].
        """
        with torch.autocast(fused.device.type, enabled=False):
            fused = fused.detach().float()
            probability = F.avg_pool3d(logits.detach().float().softmax(1)[:, 1:], 2)  # (B, 1, H/2, W/2, D/2)
            doubt = probability * (1 - probability)
            inside, at_edges = (_weighted_mean(fused, weights) for weights in (probability, doubt))  # (B, channels)
            certainty = torch.cat([_ratio(doubt, probability), probability.flatten(1).mean(1, keepdim=True)], dim=1)
            return torch.sigmoid(self.perceptron(torch.cat([inside, at_edges, certainty], dim=1)))[:, 0]


def _weighted_mean(feature: Tensor, weights: Tensor) -> Tensor:
    return (feature * weights).flatten(2).sum(2) / weights.flatten(2).sum(2).clamp(min=1e-3)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part.flatten(1).sum(1, keepdim=True) / whole.flatten(1).sum(1, keepdim=True).clamp(min=1e-3)


@torch.no_grad()
def foreground_logits(logits: Tensor) -> Tensor:
    """(B, 2, D, H, W) to (B, 1, D, H, W) float32: foreground against background, as the next answer gets it."""
    return logits.detach()[:, 1:].float() - logits.detach()[:, :1].float()


def refine_first(
    network: Any, encoded: Any, point_coords: Tensor, logits: Tensor, **prompt: Any
) -> tuple[Tensor, Tensor]:
    """Hand the answer to a first click back to the network as its previous mask, ``REFINEMENTS`` times.

    A click at the edge of a large object is answered with the part around it; shown that part, the network goes on to
    the object's border. Nothing is encoded again, and nothing is corrected: the clicks do not speak for themselves.

    Args:
        network: A ``ProMISe`` that corrects.
        encoded: What its ``encode`` returned.
        point_coords: (B, N, 3) voxel indices in array axis order.
        logits: (B, 2, D, H, W), its answer to these points.
        **prompt: What else its ``decode`` was given, with one label for each patch.

    Returns:
        (B, 2, D, H, W) logits, and the Dice (B,) that the network expects of its masks.
    """
    for _ in range(REFINEMENTS):
        previous = foreground_logits(logits)
        logits, expected_dice = network.decode_and_rate(
            encoded, point_coords, previous_logits=previous, refines=True, **prompt
        )
    return logits, expected_dice


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
        (B, 3, H/2, W/2, D/2) float32: a Gaussian around each positive click, overlapping ones by their maximum; the
        same for negative clicks; the previous answer's probability, 0 where there is none.
    """
    pairs = [torch.arange(0, size, 2) + 0.5 for size in padded_size]
    bells = [click_bells(point_coords, point_labels == sign, pairs) for sign in (1, 0)]
    clicks = [each.permute(0, 2, 3, 1) for each in bells]  # (B, H/2, W/2, D/2)
    previous = _previous_mask(previous_logits, padded_size)
    return torch.stack([*clicks, torch.zeros_like(clicks[0]) if previous is None else previous], dim=1)


@torch.no_grad()
def click_bells(point_coords: Tensor, chosen: Tensor, places: Sequence[Tensor | Sequence[int]]) -> Tensor:
    """Gaussians around clicks, overlapping ones by their maximum.

    Args:
        point_coords: (B, N, 3) voxel indices in array axis order.
        chosen: (B, N) bool, the clicks that get one.
        places: Of each array axis, the voxel indices at which the Gaussians are wanted.

    Returns:
        (B, D, H, W) float32, as many places in each axis.
    """
    d, h, w = (_bell(point_coords[..., axis], at) for axis, at in enumerate(places))  # (B, N, places) each
    bells = d.new_zeros(len(d), d.shape[2], h.shape[2], w.shape[2])
    for each in zip((d * chosen[..., None]).unbind(1), h.unbind(1), w.unbind(1), strict=True):
        # One by one: many clicks in a large patch would need many times its memory.
        bells = torch.maximum(bells, torch.einsum("bd,bh,bw->bdhw", *each))
    return bells


def _bell(coords: Tensor, places: Tensor | Sequence[int]) -> Tensor:
    """(B, N) coordinates along an axis to (B, N, places)."""
    at = torch.as_tensor(places, device=coords.device)
    return torch.exp(-0.5 * ((at - coords.float()[..., None]) / CLICK_SIGMA_VOXELS) ** 2)


def _previous_mask(previous_logits: Tensor | None, padded_size: Sequence[int]) -> Tensor | None:
    if previous_logits is None:
        return None
    # Background is 0, as before the first answer: a map from -1 to 1 would shift the features of the whole patch.
    probability = torch.sigmoid(previous_logits.float())
    d, h, w = (padded - size for padded, size in zip(padded_size, probability.shape[2:], strict=True))
    halved = F.avg_pool3d(F.pad(probability, (0, w, 0, h, 0, d)), 2)[:, 0]  # (B, D/2, H/2, W/2)
    return halved.permute(0, 2, 3, 1)  # (B, H/2, W/2, D/2)
