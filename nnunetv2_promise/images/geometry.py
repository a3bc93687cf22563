"""Where a point of the user lies in an image: the only place where axes are swapped and worlds are changed.

Points of users are (x, y, z); arrays are (z, y, x), as SimpleITK gives them. An index is continuous: whole numbers are
centres of voxels. A point belongs to the voxel with the nearest centre, the higher index where two are equally near;
an image ends half a voxel beyond its outermost centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunetv2_promise.errors import UserError

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

BORDER_TOLERANCE_VOXELS = 1e-4
"""Slack at the border of the image; headers hold their numbers in single precision."""

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
    def from_file(cls, path: Path | str) -> ImageGeometry:
        """Read the geometry from the header of an image; no voxel is read.

        Raises:
            UserError: If the file is missing, is no readable image, or is not a 3D image with one channel.
        """
        import SimpleITK as sitk  # noqa: N813

        path = Path(path)
        if not path.is_file():
            raise UserError(f"Image {path} does not exist; check the path.")
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"Image {path} cannot be read ({reason}); replace the file.") from error
        return cls._from_header(reader, channels=reader.GetNumberOfComponents(), name=str(path))

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> ImageGeometry:
        """The geometry of an image in memory.

        Raises:
            UserError: If it is not a 3D image with one channel.
        """
        return cls._from_header(image, channels=image.GetNumberOfComponentsPerPixel(), name="in memory")

    @classmethod
    def _from_header(cls, header: sitk.Image | sitk.ImageFileReader, *, channels: int, name: str) -> ImageGeometry:
        dimensions = header.GetDimension()
        if dimensions != 3 or channels != 1:
            raise UserError(
                f"Image {name} has {dimensions} dimensions and {channels} channel(s); "
                "give a 3D image with one channel, one file for each channel."
            )
        direction = np.reshape(header.GetDirection(), (3, 3))
        if abs(np.linalg.det(direction)) < 1e-3 or min(header.GetSpacing()) <= 0:
            raise UserError(f"Image {name} has a degenerate grid (spacing or directions); mend its header.")
        return cls(
            size_xyz=header.GetSize(),
            spacing_mm=header.GetSpacing(),
            origin_lps_mm=header.GetOrigin(),
            direction=tuple((float(x), float(y), float(z)) for x, y, z in direction),
        )

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

    Corners may lie a tenth of a voxel apart, since formats round differently.
    """
    if first.size_xyz != second.size_xyz:
        return f"size {first.size_xyz} and {second.size_xyz} voxels (x, y, z)"
    if not np.allclose(first.spacing_mm, second.spacing_mm, rtol=1e-3):
        return f"spacing {_rounded(first.spacing_mm)} and {_rounded(second.spacing_mm)} mm (x, y, z)"
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in first.size_zyx), indexing="ij"), axis=-1).reshape(-1, 3)
    apart_mm = first.index_zyx_to_points(corners, "LPS") - second.index_zyx_to_points(corners, "LPS")
    worst_mm = float(np.linalg.norm(apart_mm, axis=1).max())
    if worst_mm > 0.1 * min(first.spacing_mm):
        return f"origin or direction (corners up to {worst_mm:.3g} mm apart)"
    return None


def _is_world(coordinates: str) -> bool:
    if coordinates not in ("voxel", "LPS", "RAS"):
        raise ValueError(f"coordinates is {coordinates!r}; it must be 'voxel', 'LPS' or 'RAS'.")
    return coordinates != "voxel"


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
