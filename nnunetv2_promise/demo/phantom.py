"""One generated abdominal CT scan: body, organs, vessels, spine, gas, texture, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nnunetv2_promise.demo.lesions import Grid, place_lesions

AIR_HU, FAT_HU, TISSUE_HU, BONE_HU, GAS_HU = -1000.0, -95.0, 95.0, 420.0, -750.0
LESIONS_PER_SCAN = (3, 5)


@dataclass(frozen=True)
class Scan:
    """A generated scan.

    Attributes:
        image: int16 CT, HU.
        lesions: uint8 on the same grid: 0 background, 1..n every lesion.
        chosen: One of the lesions at random, 1..n: the one that a user might want.
    """

    image: sitk.Image
    lesions: sitk.Image
    chosen: int


def make_scan(rng: np.random.Generator, *, oblique: bool) -> Scan:
    """Generate one scan of about 96 mm per axis at anisotropic spacing.

    All lesions of a scan are drawn from one distribution, and one of them is chosen at random: nothing but a click
    tells which it is.

    Args:
        rng: Draws everything.
        oblique: Whether the scan's axes are rotated against the patient's.
    """
    in_plane_mm = float(rng.uniform(0.8, 1.2))
    spacing_mm = (float(rng.uniform(1.5, 3.0)), in_plane_mm, in_plane_mm)
    shape = tuple(round(float(rng.uniform(86, 106)) / s) for s in spacing_mm)
    grid = Grid((shape[0], shape[1], shape[2]), spacing_mm)
    body_hu, allowed = _body(grid, rng)
    lesions = place_lesions(grid, allowed, int(rng.integers(LESIONS_PER_SCAN[0], LESIONS_PER_SCAN[1] + 1)), rng)
    chosen = int(rng.integers(1, lesions.max() + 1))
    image_hu = _acquire(_paint_lesions(body_hu, lesions, rng), grid, rng)
    image, lesion_map = _with_geometry([image_hu, lesions], grid, oblique, rng)
    return Scan(image, lesion_map, chosen)


def _body(grid: Grid, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """HU without lesions, and where lesions may be (well inside soft tissue)."""
    z, y, x = grid.coordinates_mm()
    half = [n * s / 2 for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
    wall = rng.uniform(0.86, 0.94) - 0.02 * grid.smooth_noise(rng, 12)
    body = (y / half[1]) ** 2 + (x / half[2]) ** 2 < wall**2
    inside_mm = ndimage.distance_transform_edt(body, sampling=grid.spacing_mm)
    hu = np.where(body, FAT_HU, AIR_HU).astype(np.float32)
    soft = inside_mm > rng.uniform(4, 7)
    hu[soft] = (TISSUE_HU + 8 * grid.smooth_noise(rng, 8) + 6 * grid.smooth_noise(rng, 2))[soft]
    for organ_hu in rng.uniform(65, 150, 4):
        organ = _blob(grid, rng, rng.uniform(14, 26), 0.7) & soft
        hu[organ] += organ_hu - TISSUE_HU
    hu[_vessels(grid, rng) & soft] += 70
    gas = _blob(grid, rng, rng.uniform(5, 9), 0.6) & soft
    hu[gas] = GAS_HU
    spine = ((y - 0.62 * half[1]) ** 2 + (x - rng.uniform(-3, 3)) ** 2 < rng.uniform(8, 11) ** 2) & body
    hu[spine] = BONE_HU + 80 * grid.smooth_noise(rng, 1.5)[spine]
    edge_mm = ndimage.distance_transform_edt(soft & ~gas & ~spine, sampling=grid.spacing_mm)
    border_mm = np.minimum.reduce([h - np.abs(a) for h, a in zip(half, (z, y, x), strict=True)])
    return hu, (edge_mm > 2) & (border_mm > 4)


def _blob(grid: Grid, rng: np.random.Generator, radius_mm: float, spread: float) -> np.ndarray:
    """An uneven ellipsoid somewhere in the field."""
    half = np.array([n * s / 2 for n, s in zip(grid.shape, grid.spacing_mm, strict=True)])
    centre = rng.uniform(-spread, spread, 3) * half
    radii = radius_mm * rng.uniform(0.7, 1.4, 3)
    offset = (grid.coordinates_mm() - centre[:, None, None, None]) / radii[:, None, None, None]
    return np.linalg.norm(offset, axis=0) < 1 + 0.1 * grid.smooth_noise(rng, 5)


def _vessels(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """A few straight vessels of 3 to 6 mm."""
    points = grid.coordinates_mm()
    vessels = np.zeros(grid.shape, dtype=bool)
    for _ in range(3):
        through = rng.uniform(-25, 25, 3)
        along = rng.standard_normal(3)
        along /= np.linalg.norm(along)
        offset = points - through[:, None, None, None]
        across = offset - np.tensordot(along, offset, axes=1) * along[:, None, None, None]
        vessels |= np.linalg.norm(across, axis=0) < rng.uniform(1.5, 3)
    return vessels


def _paint_lesions(hu: np.ndarray, lesions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken the lesions; the lesions of one scan share their mean up to a few HU."""
    hu = hu.copy()
    scan_hu = rng.uniform(5, 35)
    for index in range(1, int(lesions.max()) + 1):
        inside = lesions == index
        texture = 0.5 * (hu[inside] - TISSUE_HU).clip(-20, 20)
        hu[inside] = scan_hu + rng.uniform(-5, 5) + texture
    return hu


def _acquire(hu: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Blur by the scanner's resolution and add correlated noise."""
    blurred = ndimage.gaussian_filter(hu, [0.6 / s for s in grid.spacing_mm])
    noisy = blurred + rng.uniform(9, 14) * grid.smooth_noise(rng, 0.6)
    return np.rint(noisy).clip(-1024, 3071).astype(np.int16)


def _with_geometry(
    arrays_zyx: list[np.ndarray], grid: Grid, oblique: bool, rng: np.random.Generator
) -> list[sitk.Image]:
    """Images on one grid; some have x and y running against the patient's axes, oblique ones are rotated too."""
    flipped = rng.random() < 0.5
    direction = np.diag([-1.0, -1.0, 1.0]) if flipped else np.eye(3)
    if oblique:
        direction = Rotation.from_euler("xyz", rng.uniform(-20, 20, 3), degrees=True).as_matrix() @ direction
    origin = rng.uniform(-200, 200, 3)
    images = []
    for array in arrays_zyx:
        # The body lies on its back either way: array rows run to the back unless the axes run against the patient's.
        image = sitk.GetImageFromArray(array[:, ::-1, ::-1] if flipped else array)
        image.SetSpacing(grid.spacing_mm[::-1])
        image.SetDirection(direction.ravel().tolist())
        image.SetOrigin(origin.tolist())
        images.append(image)
    return images
