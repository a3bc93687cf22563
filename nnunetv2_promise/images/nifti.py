"""Headers of NIfTI files that readers understand differently, or not at all.

A NIfTI header may name its grid twice: by the sform, which nibabel, FSLeyes and others take where it is set, and by the
qform, which ITK often takes. Where the two disagree, clicks and masks would lie beside the image without a word.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry, is_orthogonal

NIFTI_ENDINGS = (".nii", ".nii.gz")
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_TOLERANCE_VOXELS = 0.1  # as between two grids: qforms hold rotations as single precision quaternions


def read_nifti_header(path: Path) -> nibabel.Nifti1Header:
    """Read a NIfTI-1 header and check that its numbers name a grid that ITK can represent.

    Raises:
        UserError: If it is not a NIfTI-1 file, numbers are not finite or zero, the unit is not mm, the voxel values
            have an intercept without a slope, or the axes are not at right angles.
    """
    header = _header(path)
    pixdim = header["pixdim"][1 : 1 + min(int(header["dim"][0]), 3)]
    if not np.isfinite(pixdim).all() or (pixdim == 0).any():
        raise UserError(f"Image {path} declares the voxel size {_listed(pixdim)}; correct its header (pixdim).")
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise UserError(
            f"Image {path} declares the unit '{unit}', which ITK converts to mm and other readers do not; "
            "convert its geometry to mm and set the unit to mm."
        )
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 and intercept != 0:
        raise UserError(
            f"Image {path} declares the intercept {intercept:g} with slope 0, which readers understand differently; "
            "write slope 1, or intercept 0."
        )
    affine = _affine(header, path)
    if not np.isfinite(affine).all():
        raise UserError(f"Image {path} has NaN or infinite numbers in its qform or sform; correct its header.")
    edges = affine[:3, :3]
    if abs(np.linalg.det(edges)) < 1e-12:
        raise UserError(f"Image {path} has a degenerate grid (qform or sform); correct its header.")
    if not is_orthogonal(edges / np.linalg.norm(edges, axis=0)):
        raise UserError(_sheared(header, path))
    return header


def check_one_grid(header: nibabel.Nifti1Header, geometry: ImageGeometry, path: Path) -> None:
    """Check that nibabel and ITK understand a header alike.

    Args:
        header: The header.
        geometry: The grid as ITK understands it.
        path: The file, for the message.

    Raises:
        UserError: If corner voxels lie more than a tenth of a voxel apart; the sentence names both forms.
    """
    corners_zyx = np.stack(np.meshgrid(*((0, n - 1) for n in geometry.size_zyx), indexing="ij"), axis=-1).reshape(-1, 3)
    by_itk = geometry.index_zyx_to_points(corners_zyx, "RAS")
    affine = _affine(header, path)
    by_nibabel = corners_zyx[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
    apart_mm = float(np.linalg.norm(by_itk - by_nibabel, axis=1).max())
    if apart_mm <= _TOLERANCE_VOXELS * min(geometry.spacing_mm):
        return
    codes = f"qform code {int(header['qform_code'])}, sform code {int(header['sform_code'])}"
    if header["qform_code"] == 0 and header["sform_code"] == 0:
        raise UserError(
            f"Image {path} says nothing of its position ({codes}), and readers guess it differently, up to "
            f"{apart_mm:.3g} mm apart; write a qform and an sform, with nibabel by image.set_qform and image.set_sform."
        )
    raise UserError(
        f"Image {path} names two grids, up to {apart_mm:.3g} mm apart: ITK takes its qform and nibabel its sform "
        f"({codes}); find out which one is right and write it to both, with nibabel by image.set_qform and "
        "image.set_sform."
    )


def _sheared(header: nibabel.Nifti1Header, path: Path) -> str:
    """What a user can do about an sform whose axes are not at right angles; a qform cannot be so."""
    resample = (
        "resample image and label map (order=0) to a straight grid with "
        "nibabel.processing.resample_to_output(image, image.header.get_zooms()[:3]), see docs/how-to/troubleshooting.md"
    )
    if header["qform_code"] == 0:
        return (
            f"Image {path} is sheared (as with a tilted gantry): its axes are not at right angles, which ITK cannot "
            f"represent; {resample}."
        )
    return (
        f"Image {path} is sheared by its sform (as with a tilted gantry, or after a registration) and straight by its "
        "qform; if the qform is right, write it to both with nibabel by image.set_sform(image.get_qform()), else "
        f"{resample}."
    )


def _header(path: Path) -> nibabel.Nifti1Header:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"Image {path} cannot be read ({error}); it was cut off or damaged, copy or replace it."
        ) from error
    length = nibabel.Nifti1Header.template_dtype.itemsize
    if len(start) < length:
        raise UserError(f"Image {path} cannot be read (it ends within its header); copy or replace it.")
    if nibabel.Nifti2Header.may_contain_header(start):
        raise UserError(f"Image {path} is NIfTI-2, which ITK does not read; save it as NIfTI-1.")
    if not nibabel.Nifti1Header.may_contain_header(start[:length]):
        raise UserError(
            f"Image {path} cannot be read (it is not NIfTI although its name says so); rename or replace it."
        )
    return nibabel.Nifti1Header(start[:length], check=False)


def _affine(header: nibabel.Nifti1Header, path: Path) -> NDArray[np.float64]:
    """(4, 4), voxel (x, y, z) to RAS, as nibabel understands the header."""
    try:
        return np.asarray(header.get_best_affine(), dtype=np.float64)
    except (ValueError, nibabel.spatialimages.HeaderDataError) as error:
        raise UserError(f"Image {path} has a qform that is not a rotation ({error}); correct its header.") from error


def _listed(values: NDArray) -> str:
    return " x ".join(f"{value:g}" for value in values.tolist()) + " mm"
