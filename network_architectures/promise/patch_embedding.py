"""From voxels to tokens: upsampling x4, SAM's patch embedding and the slice embedding as one linear map.

Four linear steps in a row are one: upsampling the patch x4, repeating its channel three times, SAM's 16 x 16
convolution over slices and the depthwise convolution along the slices. Together they are one kernel of 6 x 6 x 6 native
voxels with stride 4 on the patch, replicate-padded by one voxel. The factor that SAM's weights make stays frozen; the
factor of the slice embedding stays differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

UPSAMPLING = 4
"""The patch is upsampled by this factor per axis before SAM's embedding sees it."""
SAM_PATCH = 16
"""Edge of SAM's patch, in upsampled voxels."""
TOKEN_VOXELS = SAM_PATCH // UPSAMPLING
"""Edge of one token, in voxels of the patch."""
REACH = TOKEN_VOXELS + 2
"""Voxels that one token sees per axis: its own and one neighbour on either side."""


def interpolation_weights(device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights by which a token's upsampled voxels depend on its native ones.

    Returns:
        (16, 6): trilinear upsampling x4 with align_corners=False, along one axis.
    """
    # Multiples of 1/8, which float32 holds exactly; Apple's GPUs have no float64.
    source = (torch.arange(SAM_PATCH, dtype=torch.float32) + 0.5) / UPSAMPLING + 0.5
    distance = (source[:, None] - torch.arange(REACH, dtype=torch.float32)).abs()
    return (1 - distance).clamp(min=0).to(device=device, dtype=dtype)


def fused_kernel(
    patch_weight: Tensor, patch_bias: Tensor, slice_weight: Tensor, slice_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Merge SAM's patch embedding and the slice embedding into one kernel on native voxels.

    Args:
        patch_weight: (E, 3, 16, 16) of SAM; its last two axes are array axes 1 and 2 of the patch.
        patch_bias: (E,) of SAM.
        slice_weight: (E, 1, 1, 1, 16), depthwise along array axis 0.
        slice_bias: (E,).

    Returns:
        Kernel (E, 6, 6, 6) over axes (1, 2, 0) of the patch, and bias (E,).
    """
    weights = interpolation_weights(patch_weight.device, patch_weight.dtype)
    in_plane = torch.einsum("ui,ouv,vj->oij", weights, patch_weight.sum(1), weights)
    along_slices = slice_weight.flatten(1) @ weights  # (E, 16) @ (16, 6)
    kernel = in_plane[..., None] * along_slices[:, None, None, :]
    return kernel, patch_bias * slice_weight.flatten(1).sum(1) + slice_bias


def embed_patches(image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Apply the fused kernel.

    Args:
        image: (B, 1, H, W, D) in token order (array axes 1, 2, 0), sizes multiples of 4.
        kernel: (E, 6, 6, 6) of :func:`fused_kernel`.
        bias: (E,).

    Returns:
        (B, H/4, W/4, D/4, E) tokens.
    """
    padded = F.pad(image, (1,) * 6, mode="replicate")[:, 0]
    for axis in (1, 2, 3):
        padded = padded.unfold(axis, REACH, TOKEN_VOXELS)
    return F.linear(padded.flatten(4), kernel.flatten(1), bias)  # (B, H/4, W/4, D/4, 216) with (E, 216)
