"""NIfTI headers that readers understand differently are refused in one sentence; the others give the same grid."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import nibabel.processing
import numpy as np
import pytest
from nifti_headers import AFFINE, ARRAY_XYZ, MOVED, REFUSED, SHEARED, TWICE, UNDERSTOOD, nifti, with_header, write_nifti
from scipy.spatial.transform import Rotation

from nnunetv2_promise.dataset.case_checks import check_case
from nnunetv2_promise.dataset.msd import Case
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import (
    check_stored_voxels,
    read_channels_geometry,
    read_geometry,
    read_header,
    read_label_map,
    read_volume,
)
from nnunetv2_promise.inference.case_prompts import grid_of_case

OBLIQUE = nibabel.affines.from_matvec(Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()) @ AFFINE
ALSO_UNDERSTOOD = UNDERSTOOD | {
    "oblique": nifti(qform=(OBLIQUE, 1), sform=(OBLIQUE, 1)),
    "voxels of 10 um": nibabel.Nifti1Image(ARRAY_XYZ, AFFINE @ np.diag([0.01, 0.01, 0.01, 1])),
    "negative slope": with_header(lambda header: header.set_slope_inter(-2.0, 100)),
}


@pytest.mark.parametrize("made", ALSO_UNDERSTOOD.values(), ids=ALSO_UNDERSTOOD.keys())
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


def moved(apart_mm: float, axis: int, still: int | None) -> np.ndarray:
    """The grid of 9 x 8 x 7 voxels moved along an axis, or stretched so that all but one end of it moves."""
    change = np.eye(4)
    apart = apart_mm / (1, 1, 1.5)[axis]  # in voxels
    if still is None:
        change[axis, 3] = apart
    else:
        change[axis, axis] += apart / (ARRAY_XYZ.shape[axis] - 1)
        change[axis, 3] = -still * (change[axis, axis] - 1)
    return AFFINE @ change


@pytest.mark.parametrize(("axis", "still"), [(0, None), (2, None), (0, 0), (0, 8), (1, 0), (1, 7), (2, 0), (2, 6)])
def test_rounding_of_a_qform_is_no_difference(axis: int, still: int | None, tmp_path: Path) -> None:
    """A tenth of the shortest voxel edge at any corner, not more."""
    for apart_mm, fine in ((0.099, True), (0.101, False)):
        path = write_nifti(nifti(sform=(moved(apart_mm, axis, still), 2)), tmp_path / "scan_0000.nii.gz")
        if fine:
            read_geometry(path)
        else:
            with pytest.raises(UserError, match="two grids"):
                read_geometry(path)


@pytest.mark.parametrize(("apart_mm", "fine"), [(0.19, True), (0.21, False)])
def test_tolerance_is_in_the_shortest_edge(apart_mm: float, fine: bool, tmp_path: Path) -> None:
    """Of voxels of 2 x 2 x 3 mm."""
    moved_grid = TWICE.copy()
    moved_grid[1, 3] += apart_mm
    image = nibabel.Nifti1Image(ARRAY_XYZ, TWICE)
    image.set_qform(TWICE, 1)
    image.set_sform(moved_grid, 2)
    path = write_nifti(image, tmp_path / "scan_0000.nii.gz")
    if fine:
        read_geometry(path)
    else:
        with pytest.raises(UserError, match=r"two grids, up to 0\.21 mm apart"):
            read_geometry(path)


def size_of_axis(axis: int, size_mm: float, image: nibabel.Nifti1Image) -> bytes:
    content = bytearray(image.to_bytes())
    struct.pack_into("<f", content, 80 + 4 * axis, size_mm)
    return bytes(content)


def test_size_along_an_axis_that_is_not_of_space_may_be_0(tmp_path: Path) -> None:
    """As writers leave the time between volumes, and the third axis of a slice."""
    series = nibabel.Nifti1Image(ARRAY_XYZ[..., None].repeat(2, 3), AFFINE)
    header = read_header(write_nifti(size_of_axis(3, 0.0, series), tmp_path / "scan.nii.gz"))
    assert (header.channels, header.geometry.spacing_mm) == (2, (1.0, 1.0, 1.5))
    one_slice = nibabel.Nifti1Image(ARRAY_XYZ[..., 0], AFFINE)
    with pytest.raises(UserError, match="has 2 dimensions"):
        read_header(write_nifti(size_of_axis(2, 0.0, one_slice), tmp_path / "scan.nii.gz"))


def test_uncompressed_file_gets_the_same_verdict(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(nifti(sform=(MOVED, 2)).to_bytes())
    with pytest.raises(UserError, match="two grids"):
        read_geometry(path)
    check_stored_voxels(path)


def test_the_advice_for_a_sheared_image_gives_one_that_is_accepted_and_shows_the_same_place(tmp_path: Path) -> None:
    array_xyz = np.zeros((20, 24, 16), np.float32)
    array_xyz[8:12, 10:14, 6:10] = 100
    sheared = nibabel.Nifti1Image(array_xyz, SHEARED)
    sheared.set_qform(AFFINE, 0)
    nibabel.save(sheared, tmp_path / "sheared.nii.gz")
    with pytest.raises(UserError, match="sheared"):
        read_geometry(tmp_path / "sheared.nii.gz")
    loaded = nibabel.load(tmp_path / "sheared.nii.gz")
    straight = nibabel.processing.resample_to_output(loaded, loaded.header.get_zooms()[:3], order=1)
    nibabel.save(straight, tmp_path / "straight.nii.gz")
    array_zyx, geometry = read_volume(tmp_path / "straight.nii.gz")
    middle = nibabel.affines.apply_affine(SHEARED, [[9.5, 11.5, 7.5]])
    found = geometry.index_zyx_to_points([np.argwhere(array_zyx > 50).mean(0)], "RAS")
    np.testing.assert_allclose(found, middle, atol=0.3)


def problem_at_planning(file: Path) -> None:
    problem = check_case(Case("a", (file,), file), channels=1, label_values=(0,)).problem
    raise UserError(problem or "none")


READERS: dict[str, Callable[[Path], object]] = {
    "planning": problem_at_planning,
    "checking": lambda file: read_channels_geometry([file]),
    "prediction": lambda file: grid_of_case([file], None, None),
    "evaluation": read_label_map,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_a_sheared_image_gets_the_same_sentence_everywhere(reader: Callable[[Path], object], tmp_path: Path) -> None:
    file = write_nifti(nifti(qform=(AFFINE, 0), sform=(SHEARED, 1)), tmp_path / "scan_0000.nii.gz")
    with pytest.raises(UserError, match=r"sheared .* resample image and label map \(order=0\) to a straight grid"):
        reader(file)
