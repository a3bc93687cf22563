"""What the network refuses, in one sentence each.

Shapes are always checked. Values (finite image, points inside) are checked outside training only: the check waits for
the device, and in training the sampler draws its points from the patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError

SMALLEST_PATCH = 16


def check_options(
    patch_size: Sequence[int],
    in_channels: int,
    adapters: int,
    upsampling: str,
    cnn_encoder: str | None,
    neck_channels: int,
    decoder_channels: int,
) -> None:
    """Refuse constructor options that have no meaning.

    Raises:
        UserError: Naming the option, its value and what it may be.
    """
    if len(patch_size) != 3 or min(patch_size) < SMALLEST_PATCH:
        raise UserError(f"patch_size is {tuple(patch_size)}; it needs three sizes of at least {SMALLEST_PATCH} voxels.")
    if in_channels < 1:
        raise UserError(f"in_channels is {in_channels}; an image has at least one channel.")
    if neck_channels < 16 or neck_channels % 16:
        raise UserError(f"neck_channels is {neck_channels}; use a multiple of 16.")
    if decoder_channels < 1:
        raise UserError(f"decoder_channels is {decoder_channels}; use at least 1.")
    choices: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "adapters": (adapters, (1, 2)),
        "upsampling": (upsampling, ("transposed", "trilinear")),
        "cnn_encoder": (cnn_encoder, ("concatenate", "residual", None)),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; use one of {', '.join(map(repr, allowed))}.")


def check_image(image: Tensor, channels: int, size: Sequence[int], *, check_values: bool) -> None:
    """Refuse an image that is not (B, channels, D, H, W) or, with ``check_values``, not finite.

    Raises:
        UserError: Saying what was given and what is needed.
    """
    if image.ndim != 5 or tuple(image.shape[1:]) != (channels, *size):
        raise UserError(
            f"image has shape {tuple(image.shape)}; the network needs (batch, {channels}, "
            f"{', '.join(map(str, size))}), crop or pad the image to its patch size."
        )
    if check_values and not torch.compiler.is_compiling() and not bool(torch.isfinite(image).all()):
        raise UserError("image holds NaN or infinite values; clean it before segmenting.")


def check_points(points: Tensor, batch: int, size: Sequence[int], *, check_values: bool) -> None:
    """Refuse points that are not (batch, N >= 1, 3) or, with ``check_values``, outside the patch.

    A voxel reaches half an index to either side of its centre, so a point lies within [-0.5, size - 0.5].

    Raises:
        UserError: Saying what was given and what is needed.
    """
    if points.ndim != 3 or points.shape[0] != batch or points.shape[1] < 1 or points.shape[2] != 3:
        raise UserError(
            f"points have shape {tuple(points.shape)}; the network needs ({batch}, at least 1, 3), "
            "voxel indices in array axis order."
        )
    if not check_values or torch.compiler.is_compiling():
        return
    upper = torch.as_tensor(size, device=points.device) - 0.5
    inside = ((points >= -0.5) & (points <= upper)).all(-1)
    if not bool(inside.all()):
        outside = points[~inside][0].tolist()
        raise UserError(f"point {outside} lies outside the patch of {tuple(size)} voxels; move the click or the patch.")
