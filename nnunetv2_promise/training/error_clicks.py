"""Clicks on a mask's errors, drawn for training as nnInteractive's training draws them.

An error region is a 26-connected component of the voxels where mask and truth differ. One is chosen with a probability
proportional to its size, a voxel in it by a density that grows with its depth.
"""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import edt
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from nnunetv2_promise.planning.correction_settings import Density


class ErrorClicks(NamedTuple):
    """Clicks with signs, equally many for each patch.

    Attributes:
        point_coords: (B, N, 3) long, voxel indices in array axis order.
        point_labels: (B, N) long, 1 for a positive click and 0 for a negative one.
    """

    point_coords: Tensor
    point_labels: Tensor

    def then(self, newer: ErrorClicks) -> ErrorClicks:
        """These clicks and newer ones."""
        return ErrorClicks(*(torch.cat(pair, dim=1) for pair in zip(self, newer, strict=True)))


def click_probabilities(
    error: NDArray[np.bool_], voxel: tuple[int, ...], density: Density
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """How likely a click falls on each voxel of one error region.

    Args:
        error: (D, H, W) bool, where mask and truth differ.
        voxel: Any voxel of the region.
        density: ``"uniform"``, or ``"central"``: proportional to the eighth power of the distance (in voxels) to the
            nearest voxel outside of the region.

    Returns:
        The smallest box around the region, and the probabilities in it: 0 outside of the region, sum 1.
    """
    numbered = cc3d.connected_components(error, connectivity=26)  # five times as fast as scipy's on a patch of 128^3
    region = numbered == numbered[voxel]
    (box,) = ndimage.find_objects(region.view(np.uint8))
    weights = region[box].astype(float)
    if density == "central":
        # scipy's takes half a second where half of a patch of 128^3 is wrong, as it is when training begins.
        depth = edt.edt(np.ascontiguousarray(region[box]), black_border=True).astype(float)
        weights = np.square(np.square(np.square(depth / depth.max())))  # numpy's power takes seven times as long
    return box, weights / weights.sum()


def draw_error_click(
    error: NDArray[np.bool_], rng: np.random.Generator, *, density: Density
) -> tuple[int, int, int] | None:
    """Draw a voxel of an error region.

    Args:
        error: (D, H, W) bool, where mask and truth differ.
        rng: Source of randomness.
        density: See ``click_probabilities``.

    Returns:
        (z, y, x), or None where there is no error.
    """
    flat = np.flatnonzero(error)
    if not len(flat):
        return None
    # A voxel drawn uniformly lies in a region with a probability proportional to the region's size.
    drawn = tuple(int(place) for place in np.unravel_index(int(rng.choice(flat)), error.shape))
    if density == "central":
        box, probabilities = click_probabilities(error, drawn, density)
        chosen = int(rng.choice(probabilities.size, p=probabilities.ravel()))
        drawn = tuple(
            int(place) + edge.start
            for place, edge in zip(np.unravel_index(chosen, probabilities.shape), box, strict=True)
        )
    z, y, x = (int(index) for index in drawn)
    return z, y, x


def error_clicks(
    truth: Tensor,
    mask: Tensor,
    fallback: ErrorClicks,
    rng: np.random.Generator,
    *,
    density: Density,
    ignored: Tensor | None = None,
) -> ErrorClicks:
    """One click on an error of each patch.

    Args:
        truth: (B, 1, D, H, W), not 0 on the object.
        mask: (B, 1, D, H, W) bool, what was answered.
        fallback: One click for each patch, made where a mask is right.
        rng: Source of randomness.
        density: See ``click_probabilities``.
        ignored: (B, 1, D, H, W) bool, voxels that are never an error, or None.

    Returns:
        The clicks; positive where the object is.
    """
    inside = truth != 0
    wrong = inside != mask
    if ignored is not None:
        wrong &= ~ignored
    point_coords, point_labels = fallback.point_coords.clone(), fallback.point_labels.clone()
    for index, error in enumerate(wrong[:, 0].cpu().numpy()):
        click = draw_error_click(error, rng, density=density)
        if click is not None:
            point_coords[index, 0] = torch.as_tensor(click)
            point_labels[index, 0] = inside[(index, 0, *click)]
    return ErrorClicks(point_coords, point_labels)
