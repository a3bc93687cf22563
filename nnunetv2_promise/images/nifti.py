"""Whether a NIfTI file is complete: ITK reads one that was cut off and silently fills the rest with zeros."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

from nnunetv2_promise.errors import UserError

_CHUNK_BYTES = 1 << 24


def check_nifti_complete(path: Path) -> None:
    """Check that a ``.nii`` or ``.nii.gz`` file holds all the voxels that its header declares.

    The length that gzip stores at the end of a file is trusted where it fits; only else is the file decompressed.

    Raises:
        UserError: If voxels are missing or the header cannot be read.
    """
    needed_bytes = _needed_bytes(path)
    if not path.name.endswith(".gz"):
        complete = path.stat().st_size >= needed_bytes
    else:
        complete = _stored_length(path) == needed_bytes % 2**32 or _decompressed_bytes(path) >= needed_bytes
    if not complete:
        raise UserError(f"Image {path} cannot be read completely, since it was cut off or damaged; copy it again.")


def _needed_bytes(path: Path) -> int:
    import nibabel

    try:
        image = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise UserError(f"Image {path} cannot be read ({error}); replace the file.") from error
    if not isinstance(image, nibabel.Nifti1Pair) or not isinstance(image.dataobj, nibabel.arrayproxy.ArrayProxy):
        raise UserError(f"Image {path} is no NIfTI file although its name says so; rename or replace it.")
    return image.dataobj.offset + math.prod(image.shape) * image.header.get_data_dtype().itemsize


def _stored_length(path: Path) -> int:
    """Uncompressed length modulo 2**32 of the last gzip member."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def _decompressed_bytes(path: Path) -> int:
    """Number of bytes that can be decompressed before the end or a fault."""
    total = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                total += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return 0
    return total
