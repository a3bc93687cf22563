"""The one reader of image files: headers, voxels and label maps.

Planning, checking, prediction and evaluation all ask here whether a file is sound, so that their verdicts agree.
Every failure is one sentence that names the file.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry, geometry_difference
from nnunetv2_promise.images.nifti import NIFTI_ENDINGS, check_one_grid, read_nifti_header

_DAMAGED = (
    nibabel.wrapstruct.WrapStructError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.spatialimages.ImageDataError,
)


@dataclass(frozen=True)
class Header:
    """What an image file says about itself.

    Attributes:
        geometry: Its grid; a fourth axis is left out.
        channels: Length of the fourth axis, along which the Decathlon stacks channels; 1 for a 3D image.
        is_4d: Whether there is a fourth axis.
        pixel_id: SimpleITK's number of the voxel type.
    """

    geometry: ImageGeometry
    channels: int
    is_4d: bool
    pixel_id: int


def read_header(path: Path | str) -> Header:
    """Read the header of a 3D or 4D image; no voxel is read.

    Raises:
        UserError: If the file is missing, cannot be read, is not a 3D or 4D image with one value per voxel, or has a
            grid that makes no sense or that readers understand differently.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Image {path} does not exist; check the path.")
    nifti = read_nifti_header(path) if path.name.endswith(NIFTI_ENDINGS) else None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    dimensions, components = reader.GetDimension(), reader.GetNumberOfComponents()
    if dimensions not in (3, 4) or components != 1:
        raise UserError(
            f"Image {path} has {dimensions} dimensions and {components} value(s) per voxel; "
            "give a 3D image with one value per voxel, one file for each channel."
        )
    geometry = ImageGeometry.from_sitk(reader, name=str(path))
    if nifti is not None:
        check_one_grid(nifti, geometry, path)
    return Header(
        geometry=geometry,
        channels=reader.GetSize()[3] if dimensions == 4 else 1,
        is_4d=dimensions == 4,
        pixel_id=reader.GetPixelID(),
    )


def read_geometry(path: Path | str) -> ImageGeometry:
    """Read the grid of a 3D image from its header; no voxel is read.

    Raises:
        UserError: As ``read_header``, and if the image is 4D.
    """
    header = read_header(path)
    if header.is_4d:
        raise UserError(f"Image {path} has 4 dimensions; give a 3D image, one file for each channel.")
    return header.geometry


def read_channels_geometry(files: Sequence[Path | str]) -> ImageGeometry:
    """The grid that all channels of a case share, from their headers.

    Args:
        files: One 3D image for each channel.

    Raises:
        UserError: As ``read_geometry``, and if a channel is on another grid than the first.
    """
    first = read_geometry(files[0])
    for file in files[1:]:
        grid = read_geometry(file)
        difference = geometry_difference(first, grid)
        # nnU-Net stops at differences of spacing that other comparisons let pass as rounding.
        if difference is None and not np.allclose(first.spacing_mm, grid.spacing_mm):
            difference = f"spacing {first.spacing_mm} and {grid.spacing_mm} mm (x, y, z)"
        if difference is not None:
            raise UserError(
                f"Channels {files[0]} and {file} differ in {difference}; resample the second to the grid of the first."
            )
    return first


def read_volume(path: Path | str) -> tuple[NDArray, ImageGeometry]:
    """Read a 3D image with one channel.

    Returns:
        (D, H, W) array and its grid.

    Raises:
        UserError: As ``read_geometry`` and ``check_stored_voxels``.
    """
    geometry = read_geometry(path)
    return _stored_voxels(Path(path)).reshape(geometry.size_zyx), geometry


def read_label_map(path: Path | str) -> tuple[NDArray[np.integer], ImageGeometry]:
    """Read a label map.

    Values stored as floating point numbers must be whole in single precision, in which nnU-Net reads them: it takes
    0.99999999 as 1 and cuts 0.9999 down to 0.

    Returns:
        (D, H, W) integer array and its grid.

    Raises:
        UserError: As ``read_volume``, and if there are values that are not whole numbers.
    """
    array, geometry = read_volume(path)
    if np.issubdtype(array.dtype, np.integer):
        return array, geometry
    whole = np.rint(array)
    odd = array[whole != array.astype(np.float32)]
    if odd.size:
        raise UserError(f"Label map {path} has the value {odd[0]:.7g}, which is not a whole number; write integers.")
    return whole.astype(np.int64), geometry


def read_image(path: Path | str) -> sitk.Image:
    """Read an image as SimpleITK holds it, to write it again in another form.

    Raises:
        UserError: If the file cannot be read; see ``check_stored_voxels`` for what SimpleITK does not notice.
    """
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(Path(path), error) from error


def check_stored_voxels(path: Path | str) -> None:
    """Check that all voxels of a 3D or 4D image are there, undamaged and finite.

    Raises:
        UserError: If the file was cut off or damaged, or has NaN or infinite voxels.
    """
    _stored_voxels(Path(path))


def _stored_voxels(path: Path) -> NDArray:
    """The voxels with the file's axes reversed: (z, y, x), or (channel, z, y, x)."""
    voxels = _nifti_voxels(path) if path.name.endswith(NIFTI_ENDINGS) else sitk.GetArrayFromImage(read_image(path))
    if np.issubdtype(voxels.dtype, np.floating) and not np.isfinite(voxels).all():
        raise UserError(f"Image {path} has NaN or infinite voxels; replace them with a sensible value.")
    return voxels


def _nifti_voxels(path: Path) -> NDArray:
    """Voxels of a NIfTI file, read without ITK, which fills what was cut off with zeros and turns NaN into zeros.

    The file is decompressed to its very end, since only there gzip's checksum tells damage.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        voxels = np.asanyarray(nibabel.Nifti1Image.from_bytes(content).dataobj).T
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def _unreadable(path: Path, error: Exception) -> UserError:
    lines = str(error).strip().splitlines()
    reason = lines[-1].strip() if lines else type(error).__name__
    return UserError(f"Image {path} cannot be read ({reason}); it was cut off or damaged, copy or replace it.")
