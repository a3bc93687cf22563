"""Volumes in folders: which cases there are, and label maps read with their grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.images.nifti import check_nifti_complete

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl", ".tif", ".tiff")
"""Endings of 3D images that nnU-Net's readers and SimpleITK know; the longest comes first."""


def find_volumes(folder: Path | str, *, what: str) -> dict[str, Path]:
    """The volumes of a folder by name without ending, sorted; hidden files are left out.

    Args:
        folder: Where to look; not below it.
        what: Plural noun for the error sentence, such as ``"label maps"``.

    Raises:
        UserError: If the folder is missing, holds no volume, or holds the same name with two endings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"Folder {folder} does not exist; name the folder of the {what}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((e for e in ENDINGS if path.name.endswith(e)), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise UserError(f"{folder} has both {found[name].name} and {path.name}; keep one of the two.")
        found[name] = path
    if not found:
        raise UserError(f"{folder} has no {what} (files ending in {', '.join(ENDINGS)}); name another folder.")
    return found


def find_images(folder: Path | str) -> dict[str, Path]:
    """The first channel of each case of a folder.

    nnU-Net's names are ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, ...; where no file is named so, the names of the
    Medical Segmentation Decathlon, ``CASE.nii.gz``, are taken.

    Raises:
        UserError: As ``find_volumes``.
    """
    volumes = find_volumes(folder, what="images")
    first_channels = {name[:-5]: path for name, path in volumes.items() if name.endswith("_0000")}
    return first_channels or volumes


def require_cases(cases: Iterable[str], available: Iterable[str], *, folder: Path | str, what: str) -> None:
    """Check that every case has a file.

    Args:
        cases: The cases that are needed.
        available: The cases that have a file in ``folder``.
        folder: Where the files were sought.
        what: Noun for the error sentence, such as ``"label map"``.

    Raises:
        UserError: That names up to five of the missing cases.
    """
    missing = sorted(set(cases) - set(available))
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(f"{folder} has no {what} for {len(missing)} case(s): {listed}; add or name the right files.")


def read_label_map(path: Path | str) -> tuple[NDArray[np.int64], ImageGeometry]:
    """Read a label map.

    Returns:
        (D, H, W) integer array and its grid.

    Raises:
        UserError: If the file cannot be read, is not 3D, or has values that are no whole numbers.
    """
    array, geometry = read_volume(path)
    if not np.issubdtype(array.dtype, np.integer):
        whole = np.rint(array)
        if not np.array_equal(whole, array):
            raise UserError(f"Label map {path} has values that are no whole numbers; give a label map.")
        array = whole.astype(np.int64)
    return array, geometry


def read_volume(path: Path | str) -> tuple[NDArray, ImageGeometry]:
    """Read a 3D image with one channel.

    Returns:
        (D, H, W) array and its grid.

    Raises:
        UserError: If the file cannot be read, was cut off, or is not 3D.
    """
    import SimpleITK as sitk  # noqa: N813

    path = Path(path)
    geometry = ImageGeometry.from_file(path)
    if path.name.endswith((".nii", ".nii.gz")):
        check_nifti_complete(path)
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path))), geometry
    except RuntimeError as error:
        raise UserError(f"Image {path} has a header but its voxels cannot be read; replace the file.") from error
