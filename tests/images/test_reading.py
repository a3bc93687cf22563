"""Reading volumes: complete files are read, files that were cut off are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import (
    check_stored_voxels,
    read_channels_geometry,
    read_geometry,
    read_header,
    read_label_map,
    read_volume,
)

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


def test_check_stored_voxels_finds_one_flipped_bit(tmp_path: Path) -> None:
    """Neither ITK nor nibabel notices one in stored (not compressed) data: only gzip's checksum tells."""
    path = tmp_path / "image.nii.gz"
    write(tmp_path / "image.nii")
    content = bytearray(gzip.compress((tmp_path / "image.nii").read_bytes(), compresslevel=0))
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read .*CRC"):
        check_stored_voxels(path)


def test_read_header_of_a_4d_image_gives_the_grid_of_its_volumes(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    volume = sitk.GetImageFromArray(ARRAY)
    volume.SetSpacing((1, 2, 3))
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(path))
    header = read_header(path)
    assert (header.channels, header.is_4d, header.geometry.size_xyz) == (2, True, (17, 11, 6))
    assert header.geometry.spacing_mm == (1, 2, 3)
    check_stored_voxels(path)


def test_read_header_of_a_3d_image_counts_one_channel(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "image.nii.gz"))
    assert (header.channels, header.is_4d, header.pixel_id) == (1, False, sitk.sitkInt16)


def test_read_volume_takes_a_fourth_axis_of_length_one(tmp_path: Path) -> None:
    import nibabel

    path = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(ARRAY.transpose(2, 1, 0)[..., None], np.eye(4)), path)
    np.testing.assert_array_equal(read_volume(path)[0], ARRAY)


@pytest.mark.parametrize("endianness", ["<", ">"])
def test_read_volume_of_both_byte_orders(endianness: str, tmp_path: Path) -> None:
    import nibabel

    header = nibabel.Nifti1Header(endianness=endianness)
    path = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(ARRAY.transpose(2, 1, 0), np.eye(4), header), path)
    array, _ = read_volume(path)
    np.testing.assert_array_equal(array, ARRAY)
    assert array.dtype.isnative
    sitk.GetImageFromArray(array)


def test_check_stored_voxels_accepts_several_gzip_members(tmp_path: Path) -> None:
    path = write(tmp_path / "image.nii.gz")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    check_stored_voxels(path)


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
    with pytest.raises(UserError, match=r"the value [012]\.25, which is not a whole number"):
        read_label_map(write(tmp_path / "label.nii.gz", ARRAY + np.float32(0.25)))
    for odd in (0.25, 0.75):
        halves = np.zeros((3, 4, 5), np.float32)
        halves[1, 2, 3], halves[2, 0, 0] = odd, 0.5
        with pytest.raises(UserError, match=f"the value {odd}, which is not a whole number"):
            read_label_map(write(tmp_path / "label.nii.gz", halves))
    with pytest.raises(UserError, match="NaN or infinite"):
        read_label_map(write(tmp_path / "label.mha", np.full((3, 4, 5), np.nan, np.float32)))


def test_read_geometry_reads_only_the_header(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path))
    for length in (400, 348):
        path.write_bytes(path.read_bytes()[:length])
        assert read_geometry(path).size_xyz == (17, 11, 6)


def write_4d(path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(ARRAY), sitk.GetImageFromArray(ARRAY)]), str(path))


def write_2d(path: Path) -> None:
    sitk.WriteImage(sitk.Image(4, 5, sitk.sitkUInt8), str(path))


def write_vector(path: Path) -> None:
    sitk.WriteImage(sitk.Image((4, 5, 6), sitk.sitkVectorFloat32, 2), str(path))


def write_text(path: Path) -> None:
    path.write_text("no image")


def write_nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_4d, "has 4 dimensions"),
        (write_2d, "has 2 dimensions"),
        (write_vector, "2 value"),
        (write_text, "cannot be read"),
        (write_nothing, "does not exist"),
    ],
)
def test_read_geometry_bad_image_gives_one_sentence(write: object, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "scan_0000.nii.gz"
    write(path)
    with pytest.raises(UserError, match=expected) as caught:
        read_geometry(path)
    assert "scan_0000.nii.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_image_gives_the_last_line_of_what_itk_says(tmp_path: Path) -> None:
    path = tmp_path / "image.mha"
    write_text(path)
    with pytest.raises(UserError, match=r"image\.mha cannot be read \(sitk::ERROR: Unable to determine ImageIO"):
        read_geometry(path)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_read_geometry_refuses_a_sheared_grid(ending: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(ARRAY)
    image.SetDirection((1, 0.15, 0, 0, 1, 0, 0, 0, 1))
    path = tmp_path / f"image{ending}"
    sitk.WriteImage(image, str(path))
    with pytest.raises(UserError, match="sheared"):
        read_geometry(path)


@pytest.mark.parametrize("header", ["nan 1 1", "inf 1 1", "0 1 1"])
def test_read_geometry_refuses_spacing_that_makes_no_sense(header: str, tmp_path: Path) -> None:
    path = write(tmp_path / "image.mha")
    content = path.read_bytes()
    assert b"ElementSpacing = 1 1 1" in content
    path.write_bytes(content.replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = " + header.encode()))
    with pytest.raises(UserError, match=r"image\.mha (has|cannot be read)"):
        read_geometry(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"size": (17, 11, 5)}, r"size \(17, 11, 6\) and \(17, 11, 5\)"),
        ({"spacing": (1, 1, 2)}, "spacing"),
        ({"spacing": (1, 1, 1.0005)}, "spacing"),
        ({"origin": (0, 0, 3)}, "origin"),
        ({"direction": (0, 1, 0, -1, 0, 0, 0, 0, 1)}, "direction"),
    ],
)
def test_read_channels_geometry_compares_with_the_first(
    change: dict[str, tuple[float, ...]], expected: str | None, tmp_path: Path
) -> None:
    files = [write(tmp_path / "case_0000.mha"), tmp_path / "case_0001.mha"]
    second = sitk.Image(*change.get("size", (17, 11, 6)), sitk.sitkInt16)
    second.SetSpacing(change.get("spacing", (1, 1, 1)))
    second.SetOrigin(change.get("origin", (0, 0, 0)))
    second.SetDirection(change.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    sitk.WriteImage(second, str(files[1]))
    if expected is None:
        assert read_channels_geometry(files) == read_geometry(files[0])
    else:
        with pytest.raises(UserError, match=rf"case_0000\.mha and .*case_0001\.mha differ in {expected}"):
            read_channels_geometry(files)
