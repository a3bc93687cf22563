"""Reading image files and comparing their grids; every failure is one sentence."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.errors import UserError

# Two grids are equal if no voxel centre differs by more than this share of the smallest voxel edge.
_POSITION_TOLERANCE_VOXELS = 0.1
_SPACING_TOLERANCE = 1e-3
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.spatialimages.ImageDataError,
)


def read_header(path: Path) -> sitk.ImageFileReader:
    """Read size and geometry without the voxels.

    Raises:
        UserError: If the file cannot be read; the sentence names it.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return reader


def read_image(path: Path) -> sitk.Image:
    """Read an image.

    Raises:
        UserError: If the file cannot be read; the sentence names it.
    """
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, error) from error


def check_stored_voxels(path: Path) -> None:
    """Check that all voxels are there and finite.

    NIfTI files are read with nibabel here: ITK reads a truncated file and NaN voxels as zeros without a word.

    Raises:
        UserError: If the file is truncated or damaged, or has NaN or infinite voxels.
    """
    if path.name.endswith(".nii.gz"):
        try:
            image: Any = nibabel.load(path)
            voxels = image.dataobj.get_unscaled()
        except _DAMAGED as error:
            raise _unreadable(path, error) from error
    else:
        voxels = sitk.GetArrayFromImage(read_image(path))
    if np.issubdtype(voxels.dtype, np.floating) and not np.isfinite(voxels).all():
        raise UserError(f"{path} has NaN or infinite voxels; replace them with a sensible value.")


def grid_problem(image: sitk.ImageFileReader, reference: sitk.ImageFileReader) -> str | None:
    """How the 3D grid of ``image`` differs from that of ``reference``, whose fourth axis is ignored; None if equal."""
    size, reference_size = image.GetSize()[:3], reference.GetSize()[:3]
    if size != reference_size:
        return f"its size is {size} and that of the image is {reference_size} voxels (x, y, z)"
    spacing, reference_spacing = image.GetSpacing()[:3], reference.GetSpacing()[:3]
    if not np.allclose(spacing, reference_spacing, rtol=_SPACING_TOLERANCE, atol=0):
        return f"its spacing is {_rounded(spacing)} and that of the image is {_rounded(reference_spacing)} mm (x, y, z)"
    corners, reference_corners = _corners_mm(image), _corners_mm(reference)
    tolerance_mm = _POSITION_TOLERANCE_VOXELS * min(reference_spacing)
    if np.abs(corners[0] - reference_corners[0]).max() > tolerance_mm:
        return f"its origin is {_rounded(corners[0])} and that of the image is {_rounded(reference_corners[0])} mm"
    if np.abs(corners - reference_corners).max() > tolerance_mm:
        return "its direction matrix differs from that of the image"
    return None


def _corners_mm(image: sitk.ImageFileReader) -> np.ndarray:
    """(8, 3) world coordinates of the corner voxels' centres, the one of voxel 0 first."""
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(image.GetSize()[:3]) - 1)
    return np.array(image.GetOrigin()[:3]) + (corners * np.array(image.GetSpacing()[:3])) @ direction.T


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _unreadable(path: Path, error: Exception) -> UserError:
    lines = str(error).strip().splitlines()
    reason = lines[-1].strip() if lines else type(error).__name__
    return UserError(f"{path} cannot be read as an image ({reason}); replace the file.")
