"""Reading volumes: complete files are read, files that were cut off are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import find_volumes, read_label_map, read_volume, require_cases
from nnunetv2_promise.images.nifti import check_nifti_complete

ARRAY = np.random.default_rng(0).integers(0, 3, size=(6, 11, 17)).astype(np.int16)


def write(path: Path, array: np.ndarray = ARRAY) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("kept", [0.999, 0.7, 0.3])
def test_read_volume_refuses_a_file_that_was_cut_off(ending: str, kept: float, tmp_path: Path) -> None:
    path = write(tmp_path / f"image{ending}")
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_volume(path)
    assert path.name in str(caught.value)


def test_read_volume_refuses_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = write(tmp_path / "image.nii.gz")
    content = bytearray(gzip.decompress(path.read_bytes())[:-100])
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(UserError, match="cut off or damaged"):
        read_volume(path)


def test_check_nifti_complete_does_not_decompress_a_sound_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "image.nii.gz")
    monkeypatch.setattr("nnunetv2_promise.images.nifti._decompressed_bytes", pytest.fail)
    check_nifti_complete(path)


def test_check_nifti_complete_accepts_several_gzip_members(tmp_path: Path) -> None:
    path = write(tmp_path / "image.nii.gz")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    check_nifti_complete(path)


def test_read_volume_of_scaled_integers(tmp_path: Path) -> None:
    """Files of 16 bits with a slope are read as floating point; their length is that of 16 bits."""
    import nibabel

    path = tmp_path / "scaled.nii.gz"
    image = nibabel.Nifti1Image(ARRAY.transpose(2, 1, 0), np.diag([1.0, 1.0, 1.0, 1.0]))
    image.header.set_slope_inter(0.5, 3)
    nibabel.save(image, path)
    np.testing.assert_allclose(read_volume(path)[0], nibabel.load(path).get_fdata().transpose(2, 1, 0))


def test_read_label_map_takes_whole_numbers_stored_as_floats(tmp_path: Path) -> None:
    array, geometry = read_label_map(write(tmp_path / "label.nii.gz", ARRAY.astype(np.float32)))
    assert np.issubdtype(array.dtype, np.integer)
    np.testing.assert_array_equal(array, ARRAY)
    assert geometry.size_zyx == ARRAY.shape
    with pytest.raises(UserError, match="no whole numbers"):
        read_label_map(write(tmp_path / "label.nii.gz", ARRAY + np.float32(0.25)))
    with pytest.raises(UserError, match="no whole numbers"):
        read_label_map(write(tmp_path / "label.mha", np.full((3, 4, 5), np.nan, np.float32)))


def test_find_volumes_and_require_cases(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "notes.txt", ".c.nii.gz", "summary.json", "a.npz"):
        (tmp_path / name).touch()
    found = find_volumes(tmp_path, what="label maps")
    assert {name: path.name for name, path in found.items()} == {"a": "a.nrrd", "b": "b.nii.gz"}
    require_cases(["a"], found, folder=tmp_path, what="label map")
    with pytest.raises(UserError, match=r"no label map for 7 case\(s\): c0, c1, c2, c3, c4, \.\.\.;"):
        require_cases([f"c{i}" for i in range(7)], found, folder=tmp_path, what="label map")
