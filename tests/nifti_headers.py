"""NIfTI headers as they are found: those that all readers understand alike, and those that are refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

ARRAY_XYZ = np.random.default_rng(0).integers(-50, 50, size=(9, 8, 7)).astype(np.int16)
AFFINE = np.array([[-1.0, 0, 0, 10], [0, -1, 0, -5], [0, 0, 1.5, 30], [0, 0, 0, 1]])
MOVED = AFFINE + np.array([[0, 0, 0, 6], [0, 0, 0, -4], [0, 0, 0, 3], [0, 0, 0, 0]])
SHEARED = AFFINE @ np.array([[1, 0.15, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
TWICE = AFFINE @ np.diag([2.0, 2, 2, 1])
NAN = float("nan")


Form = tuple[np.ndarray, int]


def nifti(*, qform: Form = (AFFINE, 1), sform: Form = (AFFINE, 1)) -> nibabel.Nifti1Image:
    """An image of 9 x 8 x 7 voxels with these forms."""
    made = nibabel.Nifti1Image(ARRAY_XYZ, AFFINE)
    made.set_qform(*qform)
    made.set_sform(*sform)
    made.header["pixdim"][1:4] = (1, 1, 1.5)
    return made


def with_header(edit: Callable[[nibabel.Nifti1Header], object]) -> nibabel.Nifti1Image:
    """The same, its header edited."""
    made = nifti()
    edit(made.header)
    return made


def patched(*edits: tuple[int, str, float]) -> bytes:
    """A file with numbers of its header overwritten: pixdim at 80, codes at 252 and 254, slope at 112, sform at 280."""
    content = bytearray(nifti().to_bytes())
    for offset, kind, value in edits:
        struct.pack_into("<" + kind, content, offset, value)
    return bytes(content)


def write_nifti(made: nibabel.Nifti1Image | bytes, path: Path) -> Path:
    """Write an image, or bytes that stand for one, compressed."""
    path.write_bytes(gzip.compress(made if isinstance(made, bytes) else made.to_bytes()))
    return path


UNDERSTOOD = {
    "plain": nifti(),
    "both forms set, sform taken by both": nifti(sform=(MOVED, 1)),
    "qform of another code": nifti(qform=(AFFINE, 2), sform=(MOVED, 1)),
    "sform only": nifti(qform=(AFFINE, 0), sform=(MOVED, 1)),
    "qform only": nifti(sform=(AFFINE, 0)),
    "left-handed": nifti(qform=(AFFINE @ np.diag([-1, 1, 1, 1]), 1), sform=(AFFINE @ np.diag([-1, 1, 1, 1]), 1)),
    "scaled values": with_header(lambda header: header.set_slope_inter(2.0, -1024)),
    "slope 0 means none": patched((112, "f", 0.0)),
    "NaN slope means none": patched((112, "f", NAN), (116, "f", NAN)),
}


REFUSED = {
    "sform by another registration": (nifti(sform=(MOVED, 2)), r"two grids, up to 7\.81 mm apart: .*qform.* sform"),
    "sform of another scale": (nifti(sform=(TWICE, 1)), "two grids"),
    "sheared sform beside a straight qform": (nifti(sform=(SHEARED, 2)), r"straight by its qform; .*set_sform"),
    "sheared sform alone": (nifti(qform=(AFFINE, 0), sform=(SHEARED, 1)), r"sheared .*resample_to_output"),
    "neither form": (nifti(qform=(AFFINE, 0), sform=(AFFINE, 0)), "says nothing of its position"),
    "metres": (with_header(lambda header: header.set_xyzt_units("meter", "sec")), "unit 'meter'"),
    "micrometres": (with_header(lambda header: header.set_xyzt_units("micron", "sec")), "unit 'micron'"),
    "voxel size 0 by qform": (patched((88, "f", 0.0), (254, "h", 0)), "voxel size 1 x 1 x 0 mm"),
    "voxel size 0 beside an sform": (patched((88, "f", 0.0)), "voxel size 1 x 1 x 0 mm"),
    "negative voxel size": (patched((80, "f", -1.0), (254, "h", 0)), "qform that is not a rotation"),
    "negative voxel size beside an sform": (patched((80, "f", -1.0)), r"degenerate grid \(spacing"),
    "NaN voxel size": (patched((88, "f", NAN), (254, "h", 0)), "voxel size 1 x 1 x nan mm"),
    "infinite voxel size": (patched((84, "f", float("inf"))), "voxel size 1 x inf x 1.5 mm"),
    "NaN origin by qform": (patched((268, "f", NAN), (254, "h", 0)), "NaN or infinite numbers"),
    "NaN origin by sform": (patched((292, "f", NAN)), "NaN or infinite numbers"),
    "sform of zeros": (patched(*[(280 + 4 * k, "f", 0.0) for k in range(12)], (252, "h", 0)), "degenerate grid"),
    "quaternion longer than 1": (patched((256, "f", 0.9), (260, "f", 0.9), (254, "h", 0)), "correct its header"),
    "intercept without slope": (patched((112, "f", 0.0), (116, "f", 7.0)), "intercept 7 with slope 0"),
    "negative intercept without slope": (patched((112, "f", 0.0), (116, "f", -1024.0)), "intercept -1024 with slope 0"),
    "NIfTI-2": (nibabel.Nifti2Image(ARRAY_XYZ, AFFINE), "save it as NIfTI-1"),
    "2D": (nibabel.Nifti1Image(ARRAY_XYZ[..., 0], AFFINE), "2 dimensions"),
    "5D": (nibabel.Nifti1Image(ARRAY_XYZ[..., None, None].repeat(3, 4), AFFINE), "5 dimensions"),
    "another format": (b"not an image" * 100, "not NIfTI although"),
    "shorter than a header": (nifti().to_bytes()[:347], "ends within its header"),
    "empty": (b"", "ends within its header"),
}
