"""Where a point of the user lies in an image: the only place where axes are swapped and worlds are changed.

Points of users are (x, y, z); arrays are (z, y, x), as SimpleITK gives them. An index is continuous: whole numbers are
centres of voxels. A point belongs to the voxel with the nearest centre, the higher index where two are equally near;
an image ends half a voxel beyond its outermost centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunetv2_promise.errors import UserError

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

BORDER_TOLERANCE_VOXELS = 1e-4
"""Slack at the border of the image; headers hold their numbers in single precision."""

_SQUARE_TOLERANCE = 2e-3  # a tenth of a degree
_ABSURD_RATIO = 50.0
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class ImageGeometry:
    """The grid of a 3D image, as ITK describes it; every tuple is in (x, y, z) order.

    Attributes:
        size_xyz: Number of voxels.
        spacing_mm: Distance between voxel centres.
        origin_lps_mm: World position of the centre of voxel (0, 0, 0): to the patient's left, posterior, superior.
        direction: 3 x 3, rows are world axes; column i is the unit vector along which index axis i grows.
    """

    size_xyz: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_lps_mm: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], ...]

    @classmethod
    def from_sitk(cls, header: sitk.Image | sitk.ImageFileReader, *, name: str = "in memory") -> ImageGeometry:
        """The grid of an image, or of a reader that has read the header; a fourth axis is left out.

        Args:
            header: Has three axes or more.
            name: What the error sentence calls the image.

        Raises:
            UserError: If the grid makes no sense.
        """
        dimensions = header.GetDimension()
        direction = np.reshape(header.GetDirection(), (dimensions, dimensions))[:3, :3]
        spacing, origin = header.GetSpacing()[:3], header.GetOrigin()[:3]
        if not np.isfinite([*spacing, *origin, *direction.ravel()]).all():
            raise UserError(f"Image {name} has NaN or infinite numbers in its geometry; correct its header.")
        if abs(np.linalg.det(direction)) < 1e-3 or min(spacing) <= 0:
            raise UserError(f"Image {name} has a degenerate grid (spacing or directions); correct its header.")
        if not is_orthogonal(direction):
            raise UserError(
                f"Image {name} is sheared (as with a tilted gantry): its axes are not at right angles; "
                "resample image and label map to a straight grid, as docs/how-to/troubleshooting.md shows."
            )
        return cls(
            size_xyz=header.GetSize()[:3],
            spacing_mm=spacing,
            origin_lps_mm=origin,
            direction=tuple((float(x), float(y), float(z)) for x, y, z in direction),
        )

    def apply_to(self, image: sitk.Image) -> None:
        """Give a 3D image in memory this grid."""
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_lps_mm)
        image.SetDirection([value for row in self.direction for value in row])

    @property
    def size_zyx(self) -> tuple[int, int, int]:
        """Shape of the image's array."""
        x, y, z = self.size_xyz
        return z, y, x

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Spacing in array axis order."""
        x, y, z = self.spacing_mm
        return z, y, x

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm))

    @property
    def _index_to_lps(self) -> NDArray[np.float64]:
        """3 x 3; applied to an (x, y, z) index gives mm from the origin."""
        return np.asarray(self.direction) * np.asarray(self.spacing_mm)

    def points_to_index_zyx(self, points_xyz: ArrayLike, coordinates: str) -> NDArray[np.float64]:
        """Continuous array indices of points.

        Args:
            points_xyz: (N, 3), (x, y, z) in ``coordinates``.
            coordinates: ``"voxel"``, ``"LPS"`` or ``"RAS"``.

        Returns:
            (N, 3) float64 in (z, y, x) order; may lie outside of the image, see ``check_inside``.

        Raises:
            ValueError: If ``coordinates`` is none of the three.
        """
        points = np.asarray(points_xyz, dtype=np.float64).reshape(-1, 3)
        if _is_world(coordinates):
            lps_mm = points * _RAS_TO_LPS if coordinates == "RAS" else points
            points = np.linalg.solve(self._index_to_lps, (lps_mm - self.origin_lps_mm).T).T
        return points[:, ::-1].copy()

    def index_zyx_to_points(self, index_zyx: ArrayLike, coordinates: str) -> NDArray[np.float64]:
        """Points at continuous array indices: the inverse of ``points_to_index_zyx``.

        Args:
            index_zyx: (N, 3) in (z, y, x) order.
            coordinates: ``"voxel"``, ``"LPS"`` or ``"RAS"``.

        Returns:
            (N, 3) float64, (x, y, z) in ``coordinates``.

        Raises:
            ValueError: If ``coordinates`` is none of the three.
        """
        points = np.asarray(index_zyx, dtype=np.float64).reshape(-1, 3)[:, ::-1]
        if not _is_world(coordinates):
            return points.copy()
        lps_mm = points @ self._index_to_lps.T + self.origin_lps_mm
        return lps_mm * _RAS_TO_LPS if coordinates == "RAS" else lps_mm

    def orientation_letters(self) -> tuple[tuple[str, str], ...]:
        """Patient side at the start and at the end of each index axis, in (x, y, z) order.

        An oblique axis gets the letter of the world axis that it is nearest to.

        Returns:
            Three pairs such as ``("R", "L")``: the axis runs from right to left.
        """
        import SimpleITK as sitk  # noqa: N813

        flat = [value for row in self.direction for value in row]
        ends = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(flat)
        opposite = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
        return tuple((opposite[letter], letter) for letter in ends)


def swap_ras_and_lps(points_xyz: ArrayLike) -> NDArray[np.float64]:
    """World points in RAS as LPS, and the other way round.

    Args:
        points_xyz: (N, 3) mm.

    Returns:
        (N, 3) float64 mm.
    """
    return np.asarray(points_xyz, dtype=np.float64).reshape(-1, 3) * _RAS_TO_LPS


def check_inside(index_zyx: ArrayLike, size_zyx: Sequence[int]) -> NDArray[np.intp]:
    """Which points lie outside of an image.

    Args:
        index_zyx: (N, 3) continuous indices in (z, y, x) order.
        size_zyx: Shape of the image's array.

    Returns:
        (M,) row numbers of the points outside, ascending; empty if every point is inside.
    """
    index = np.asarray(index_zyx, dtype=np.float64).reshape(-1, 3)
    slack = 0.5 + BORDER_TOLERANCE_VOXELS
    inside = (index >= -slack) & (index <= np.asarray(size_zyx) - 1 + slack)
    return np.flatnonzero(~inside.all(axis=1))


def nearest_voxel(index_zyx: ArrayLike, size_zyx: Sequence[int]) -> NDArray[np.int64]:
    """The voxels that points belong to.

    Args:
        index_zyx: (N, 3) continuous indices in (z, y, x) order.
        size_zyx: Shape of the image's array.

    Returns:
        (N, 3) int64 in (z, y, x) order, each within the array.

    Raises:
        ValueError: If a point lies outside of the image.
    """
    outside = check_inside(index_zyx, size_zyx)
    if outside.size:
        raise ValueError(f"Points {outside.tolist()} lie outside of the image of shape {tuple(size_zyx)}.")
    index = np.asarray(index_zyx, dtype=np.float64).reshape(-1, 3)
    return np.clip(np.floor(index + 0.5), 0, np.asarray(size_zyx) - 1).astype(np.int64)


def geometry_difference(first: ImageGeometry, second: ImageGeometry) -> str | None:
    """What differs between two grids, in words; None if voxels of the same index lie at the same place.

    Formats round differently, so corners may lie apart by a tenth of the shortest voxel edge.
    """
    if first.size_xyz != second.size_xyz:
        return f"size {first.size_xyz} and {second.size_xyz} voxels (x, y, z)"
    if not np.allclose(first.spacing_mm, second.spacing_mm, rtol=1e-3, atol=0):
        return f"spacing {_rounded(first.spacing_mm)} and {_rounded(second.spacing_mm)} mm (x, y, z)"
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in first.size_zyx), indexing="ij"), axis=-1).reshape(-1, 3)
    apart_mm = np.linalg.norm(
        first.index_zyx_to_points(corners, "LPS") - second.index_zyx_to_points(corners, "LPS"), axis=1
    )  # (8,), that of voxel (0, 0, 0) first
    tolerance_mm = 0.1 * min(first.spacing_mm)
    if apart_mm[0] > tolerance_mm:
        return f"origin {_rounded(first.origin_lps_mm)} and {_rounded(second.origin_lps_mm)} mm (x, y, z; LPS)"
    if apart_mm.max() > tolerance_mm:
        return f"direction (corners up to {apart_mm.max():.3g} mm apart)"
    return None


def is_orthogonal(direction: ArrayLike) -> bool:
    """Whether the unit vectors in the columns of a 3 x 3 matrix are at right angles, but for rounding in files."""
    columns = np.asarray(direction, dtype=np.float64)
    return bool(np.abs(columns.T @ columns - np.eye(3)).max() < _SQUARE_TOLERANCE)


def check_spacing(geometry: ImageGeometry, usual_zyx_mm: Sequence[float], *, name: str, usual: str) -> None:
    """Check that a spacing is of the order of magnitude that it should have.

    Args:
        geometry: Grid of the image.
        usual_zyx_mm: Spacing to compare with, such as the one that a model was trained at.
        name: The image, for the message.
        usual: What has the usual spacing, for the message, such as ``"the model was trained at"``.

    Raises:
        UserError: If an axis is more than 50 times finer or coarser, as when the unit is um or m.
    """
    ratios = np.asarray(geometry.spacing_zyx_mm) / np.asarray(usual_zyx_mm, dtype=np.float64)
    if ratios.max() > _ABSURD_RATIO or ratios.min() < 1 / _ABSURD_RATIO:
        given = " x ".join(f"{edge:.4g}" for edge in geometry.spacing_zyx_mm)
        expected = " x ".join(f"{edge:.4g}" for edge in usual_zyx_mm)
        raise UserError(
            f"Image {name} has a spacing of {given} mm (z, y, x) and {usual} {expected} mm; "
            "its unit may be wrong, correct the header."
        )


def _is_world(coordinates: str) -> bool:
    if coordinates not in ("voxel", "LPS", "RAS"):
        raise ValueError(f"coordinates is {coordinates!r}; it must be 'voxel', 'LPS' or 'RAS'.")
    return coordinates != "voxel"


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
