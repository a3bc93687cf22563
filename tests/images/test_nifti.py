"""NIfTI headers that readers understand differently are refused in one sentence; the others give the same grid."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry, read_volume

ARRAY_XYZ = np.random.default_rng(0).integers(-50, 50, size=(9, 8, 7)).astype(np.int16)
AFFINE = np.array([[-1.0, 0, 0, 10], [0, -1, 0, -5], [0, 0, 1.5, 30], [0, 0, 0, 1]])
MOVED = AFFINE + np.array([[0, 0, 0, 6], [0, 0, 0, -4], [0, 0, 0, 3], [0, 0, 0, 0]])
SHEARED = AFFINE @ np.array([[1, 0.15, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
TWICE = AFFINE @ np.diag([2.0, 2, 2, 1])
NAN = float("nan")


Form = tuple[np.ndarray, int]


def image(*, qform: Form = (AFFINE, 1), sform: Form = (AFFINE, 1)) -> nibabel.Nifti1Image:
    made = nibabel.Nifti1Image(ARRAY_XYZ, AFFINE)
    made.set_qform(*qform)
    made.set_sform(*sform)
    made.header["pixdim"][1:4] = (1, 1, 1.5)
    return made


def with_header(edit: Callable[[nibabel.Nifti1Header], object]) -> nibabel.Nifti1Image:
    made = image()
    edit(made.header)
    return made


def patched(*edits: tuple[int, str, float]) -> bytes:
    """A file with numbers of its header overwritten: pixdim at 80, codes at 252 and 254, slope at 112, sform at 280."""
    content = bytearray(image().to_bytes())
    for offset, kind, value in edits:
        struct.pack_into("<" + kind, content, offset, value)
    return bytes(content)


def write(made: nibabel.Nifti1Image | bytes, folder: Path) -> Path:
    path = folder / "scan_0000.nii.gz"
    path.write_bytes(gzip.compress(made if isinstance(made, bytes) else made.to_bytes()))
    return path


UNDERSTOOD = {
    "plain": image(),
    "both forms set, sform taken by both": image(sform=(MOVED, 1)),
    "qform of another code": image(qform=(AFFINE, 2), sform=(MOVED, 1)),
    "sform only": image(qform=(AFFINE, 0), sform=(MOVED, 1)),
    "qform only": image(sform=(AFFINE, 0)),
    "left-handed": image(qform=(AFFINE @ np.diag([-1, 1, 1, 1]), 1), sform=(AFFINE @ np.diag([-1, 1, 1, 1]), 1)),
    "scaled values": with_header(lambda header: header.set_slope_inter(2.0, -1024)),
    "slope 0 means none": patched((112, "f", 0.0)),
    "NaN slope means none": patched((112, "f", NAN), (116, "f", NAN)),
}


@pytest.mark.parametrize("made", UNDERSTOOD.values(), ids=UNDERSTOOD.keys())
def test_nibabel_and_we_find_the_same_voxel_at_a_ras_point(made: nibabel.Nifti1Image | bytes, tmp_path: Path) -> None:
    path = write(made, tmp_path)
    loaded = nibabel.load(path)
    array_zyx, geometry = read_volume(path)
    ras_mm = (loaded.affine @ [6, 5, 3, 1])[:3]
    index_zyx = geometry.points_to_index_zyx([ras_mm], "RAS")[0]
    np.testing.assert_allclose(index_zyx, [3, 5, 6], atol=1e-4)
    assert array_zyx[3, 5, 6] == pytest.approx(loaded.get_fdata()[6, 5, 3])


REFUSED = {
    "sform by another registration": (image(sform=(MOVED, 2)), r"two grids, up to 7\.81 mm apart: .*qform.* sform"),
    "sform of another scale": (image(sform=(TWICE, 1)), "two grids"),
    "sheared sform beside a straight qform": (image(sform=(SHEARED, 2)), "two grids"),
    "sheared sform alone": (image(qform=(AFFINE, 0), sform=(SHEARED, 1)), r"sheared .*resample_to_output"),
    "neither form": (image(qform=(AFFINE, 0), sform=(AFFINE, 0)), "says nothing of its position"),
    "metres": (with_header(lambda header: header.set_xyzt_units("meter", "sec")), "unit 'meter'"),
    "micrometres": (with_header(lambda header: header.set_xyzt_units("micron", "sec")), "unit 'micron'"),
    "voxel size 0 by qform": (patched((88, "f", 0.0), (254, "h", 0)), "voxel size 1 x 1 x 0 mm"),
    "voxel size 0 beside an sform": (patched((88, "f", 0.0)), "voxel size 1 x 1 x 0 mm"),
    "negative voxel size": (patched((80, "f", -1.0), (254, "h", 0)), "correct its header"),
    "NaN voxel size": (patched((88, "f", NAN), (254, "h", 0)), "voxel size 1 x 1 x nan mm"),
    "infinite voxel size": (patched((84, "f", float("inf"))), "voxel size 1 x inf x 1.5 mm"),
    "NaN origin by qform": (patched((268, "f", NAN), (254, "h", 0)), "NaN or infinite numbers"),
    "NaN origin by sform": (patched((292, "f", NAN)), "NaN or infinite numbers"),
    "sform of zeros": (patched(*[(280 + 4 * k, "f", 0.0) for k in range(12)], (252, "h", 0)), "degenerate grid"),
    "quaternion longer than 1": (patched((256, "f", 0.9), (260, "f", 0.9), (254, "h", 0)), "correct its header"),
    "intercept without slope": (patched((112, "f", 0.0), (116, "f", 7.0)), "intercept 7 with slope 0"),
    "NIfTI-2": (nibabel.Nifti2Image(ARRAY_XYZ, AFFINE), "save it as NIfTI-1"),
    "2D": (nibabel.Nifti1Image(ARRAY_XYZ[..., 0], AFFINE), "2 dimensions"),
    "5D": (nibabel.Nifti1Image(ARRAY_XYZ[..., None, None].repeat(3, 4), AFFINE), "5 dimensions"),
    "another format": (b"not an image" * 100, "not NIfTI although"),
    "shorter than a header": (image().to_bytes()[:200], "cannot be read"),
    "empty": (b"", "cannot be read"),
}


@pytest.mark.parametrize(("made", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_header_that_readers_understand_differently_is_refused(
    made: nibabel.Nifti1Image | bytes, expected: str, tmp_path: Path
) -> None:
    path = write(made, tmp_path)
    with pytest.raises(UserError, match=expected) as caught:
        read_geometry(path)
    assert "scan_0000.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rounding_of_a_qform_is_no_difference(tmp_path: Path) -> None:
    """A tenth of a voxel at the far corner, not more."""
    for moved_mm, fine in ((0.09, True), (0.11, False)):
        moved = AFFINE.copy()
        moved[0, 3] += moved_mm
        path = write(image(sform=(moved, 2)), tmp_path)
        if fine:
            read_geometry(path)
        else:
            with pytest.raises(UserError, match="two grids"):
                read_geometry(path)


def test_uncompressed_file_gets_the_same_verdict(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(image(sform=(MOVED, 2)).to_bytes())
    with pytest.raises(UserError, match="two grids"):
        read_geometry(path)
    check_stored_voxels(path)
