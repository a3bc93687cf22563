"""Irregular lesions and their places in a generated scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

DIAMETER_MM = (8.0, 24.0)
GAP_MM = 6.0
FEWEST_VOXELS = 60
TRIES = 400


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a scan, axes (z, y, x).

    Attributes:
        shape: Voxels per axis.
        spacing_mm: Voxel size per axis.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def coordinates_mm(self) -> np.ndarray:
        """Voxel centres relative to the centre of the field: (3, z, y, x) float32, axes (z, y, x)."""
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.shape, self.spacing_mm, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)

    def smooth_noise(self, rng: np.random.Generator, sigma_mm: float) -> np.ndarray:
        """Gaussian noise with a correlation length of ``sigma_mm``, scaled to unit standard deviation."""
        noise = rng.standard_normal(self.shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(noise, [sigma_mm / s for s in self.spacing_mm])
        return noise / noise.std()


def lesion_shape(points_mm: np.ndarray, noise: np.ndarray, diameter_mm: float, rng: np.random.Generator) -> np.ndarray:
    """One lesion around the origin: a union of ellipsoids with an uneven surface.

    Args:
        points_mm: (3, ...) positions relative to the lesion's centre.
        noise: (...) smooth noise of unit standard deviation that roughens the surface.
        diameter_mm: About the largest extent.
        rng: Draws the ellipsoids.

    Returns:
        (...) bool.
    """
    radius = diameter_mm / 2
    depth = np.full(points_mm.shape[1:], -np.inf, dtype=np.float32)
    for _ in range(rng.integers(2, 5)):
        offset = rng.uniform(-0.35, 0.35, 3) * radius
        semi_axes = rng.uniform(0.6, 0.9, 3) * radius
        rotation = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        scaled = np.tensordot(rotation / semi_axes[:, None], points_mm - offset[:, None, None, None], axes=1)
        depth = np.maximum(depth, 1 - np.linalg.norm(scaled, axis=0))
    parts, count = ndimage.label(depth + 0.1 * noise > 0)
    if count == 0:
        return parts > 0
    sizes = np.bincount(parts.ravel())
    return ndimage.binary_fill_holes(parts == 1 + np.argmax(sizes[1:]))


def place_lesions(grid: Grid, allowed: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Put ``count`` lesions into a scan, all drawn alike and each at least ``GAP_MM`` from the others.

    Args:
        grid: The scan's grid.
        allowed: (z, y, x) bool, where lesion voxels may be.
        count: How many to place. After ``TRIES`` attempts the scan keeps those that fitted.
        rng: Draws places, sizes and shapes.

    Returns:
        (z, y, x) uint8, 0 background, 1..n the lesions in the order of placing.
    """
    lesions = np.zeros(grid.shape, dtype=np.uint8)
    noise = grid.smooth_noise(rng, 2.5)
    free = allowed.copy()
    placed = 0
    for _ in range(TRIES):
        if placed == count:
            break
        box, mask = _draw_lesion(grid, free, noise, rng)
        if mask.sum() < FEWEST_VOXELS or not free[box][mask].all():
            continue
        placed += 1
        lesions[box][mask] = placed
        distance_mm = ndimage.distance_transform_edt(lesions == 0, sampling=grid.spacing_mm)
        free = allowed & (distance_mm > GAP_MM)
    return lesions


def _draw_lesion(
    grid: Grid, free: np.ndarray, noise: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[slice, ...], np.ndarray]:
    """A lesion around a random free voxel: its box in the scan and its mask in that box."""
    diameter_mm = rng.uniform(*DIAMETER_MM)
    centre = np.unravel_index(rng.choice(np.flatnonzero(free)), grid.shape)
    reach = [int(np.ceil(diameter_mm / s)) for s in grid.spacing_mm]
    box = tuple(slice(max(c - r, 0), c + r + 1) for c, r in zip(centre, reach, strict=True))
    axes = [
        (np.arange(part.start, min(part.stop, n)) - c) * s
        for part, n, c, s in zip(box, grid.shape, centre, grid.spacing_mm, strict=True)
    ]
    points_mm = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    return box, lesion_shape(points_mm, noise[box], diameter_mm, rng)
