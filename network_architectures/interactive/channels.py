"""nnInteractive's interaction channels: what its engine hands a network beside the image (version 2.6).

Seven channels: the previous mask, then pairs (positive, negative) of boxes and lassos, points, and scribbles. The
newest interaction has the value 1 in its middle; each newer one multiplies all older ones, but not the mask, by
``DECAY``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 7
PREVIOUS_MASK = 0
POSITIVE_POINTS = 3
NEGATIVE_POINTS = 4
POINT_RADIUS = 4
DECAY = 0.98


def empty_channels(batch_size: int, size: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """(B, 7, D, H, W) float32 zeros: no mask yet, and no interaction."""
    return torch.zeros(batch_size, CHANNELS, *size, device=device)


@cache
def point_ball(radius: int = POINT_RADIUS) -> Tensor:
    """The shape of a click: a ball whose values are its Euclidean distance transform, scaled to 1 in the middle.

    Returns:
        (2 radius + 1,) * 3 float32. Like the engine's, the distances know nothing outside of this cube.
    """
    steps = torch.arange(-radius, radius + 1)
    inside = torch.cartesian_prod(steps, steps, steps).square().sum(1).view((len(steps),) * 3) <= radius**2  # (D, H, W)
    distances = torch.from_numpy(distance_transform_edt(inside.numpy()))
    return (distances / distances.max()).float()


@cache
def zoomed_ball(zoom: float, radius: int = POINT_RADIUS) -> Tensor:
    """The shape of a click in a patch that the engine has shrunk by ``zoom`` (its AutoZoom).

    The engine first dilates points with the odd cube next to ``2 zoom - 1``, then averages over areas. It does so on
    the grid of the patch; here the click's middle is the middle of a shrunk voxel.

    Args:
        zoom: At least 1; 1 is the ball itself.
        radius: Of the ball, in voxels before shrinking.

    Returns:
        Odd cube, float32.
    """
    ball = point_ball(radius)
    if zoom == 1:
        return ball
    dilation = _nearest_odd(2 * zoom - 1)
    reach = radius + dilation // 2
    shrunk = 2 * int(reach / zoom + 0.5) + 1
    margin = int((shrunk * zoom - len(ball)) / 2 + 1)
    grown = F.max_pool3d(F.pad(ball, [margin] * 6)[None], dilation, stride=1, padding=dilation // 2)
    return _central_areas(grown, shrunk, zoom)[0]


def click(channels: Tensor, point: Sequence[int], *, positive: bool, ball: Tensor | None = None) -> None:
    """Write one more click into the channels of one patch, in place; older interactions fade.

    Args:
        channels: (7, D, H, W) float.
        point: Voxel (z, y, x); may lie outside of the patch.
        positive: Whether the object is there.
        ball: Odd cube, the click's shape; ``point_ball()`` if None.
    """
    channels[PREVIOUS_MASK + 1 :] *= DECAY
    shape = point_ball() if ball is None else ball
    here, there = [], []
    for place, length, limit in zip(point, shape.shape, channels.shape[1:], strict=True):
        start = int(place) - length // 2
        low, high = max(start, 0), min(start + length, limit)
        if low >= high:
            return
        here.append(slice(low, high))
        there.append(slice(low - start, high - start))
    view = channels[POSITIVE_POINTS if positive else NEGATIVE_POINTS][tuple(here)]
    torch.maximum(view, shape[tuple(there)].to(view), out=view)


def first_positive_points(channels: Tensor) -> Tensor:
    """The oldest positive click of each patch: the faintest of the peaks in its channel.

    Args:
        channels: (B, 7, D, H, W).

    Returns:
        (B,) long, index into the patch's voxels in raster order; -1 where a patch has no positive click.
    """
    clicks = channels[:, POSITIVE_POINTS : POSITIVE_POINTS + 1]
    brightest = clicks.flatten(1).amax(1).view(-1, 1, 1, 1, 1)
    # A ball that the patch's border cuts has a faint false peak there; a click half as bright is 34 clicks old.
    peaks = (clicks == F.max_pool3d(clicks, 3, stride=1, padding=1)) & (clicks > brightest / 2)
    faintest = torch.where(peaks, clicks, torch.inf).flatten(1).argmin(1)
    return torch.where(brightest.view(-1) > 0, faintest, -1)


def _nearest_odd(value: float) -> int:
    return 2 * int(value // 2) + 1


def _central_areas(volume: Tensor, count: int, edge: float) -> Tensor:
    """Means over a cube of ``count`` areas per axis, each ``edge`` voxels wide, in the volume's middle."""
    length = volume.shape[-1]
    places = torch.arange(length, dtype=torch.float64)
    starts = length / 2 + (torch.arange(count, dtype=torch.float64) - count / 2) * edge
    # How much of each voxel an area covers: count, length.
    covered = (torch.minimum(places + 1, starts[:, None] + edge) - torch.maximum(places, starts[:, None])).clamp(min=0)
    weights = (covered / edge).to(volume)
    return torch.einsum("ai,bj,ck,nijk->nabc", weights, weights, weights, volume)
