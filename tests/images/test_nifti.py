"""NIfTI headers that readers understand differently are refused in one sentence; the others give the same grid."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_headers import AFFINE, MOVED, REFUSED, UNDERSTOOD, nifti, write_nifti

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry, read_volume


@pytest.mark.parametrize("made", UNDERSTOOD.values(), ids=UNDERSTOOD.keys())
def test_nibabel_and_we_find_the_same_voxel_at_a_ras_point(made: nibabel.Nifti1Image | bytes, tmp_path: Path) -> None:
    path = write_nifti(made, tmp_path / "scan_0000.nii.gz")
    loaded = nibabel.load(path)
    array_zyx, geometry = read_volume(path)
    ras_mm = (loaded.affine @ [6, 5, 3, 1])[:3]
    index_zyx = geometry.points_to_index_zyx([ras_mm], "RAS")[0]
    np.testing.assert_allclose(index_zyx, [3, 5, 6], atol=1e-4)
    assert array_zyx[3, 5, 6] == pytest.approx(loaded.get_fdata()[6, 5, 3])


@pytest.mark.parametrize(("made", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_header_that_readers_understand_differently_is_refused(
    made: nibabel.Nifti1Image | bytes, expected: str, tmp_path: Path
) -> None:
    path = write_nifti(made, tmp_path / "scan_0000.nii.gz")
    with pytest.raises(UserError, match=expected) as caught:
        read_geometry(path)
    assert "scan_0000.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rounding_of_a_qform_is_no_difference(tmp_path: Path) -> None:
    """A tenth of a voxel at the far corner, not more."""
    for moved_mm, fine in ((0.09, True), (0.11, False)):
        moved = AFFINE.copy()
        moved[0, 3] += moved_mm
        path = write_nifti(nifti(sform=(moved, 2)), tmp_path / "scan_0000.nii.gz")
        if fine:
            read_geometry(path)
        else:
            with pytest.raises(UserError, match="two grids"):
                read_geometry(path)


def test_uncompressed_file_gets_the_same_verdict(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti(sform=(MOVED, 2)).to_bytes())
    with pytest.raises(UserError, match="two grids"):
        read_geometry(path)
    check_stored_voxels(path)
