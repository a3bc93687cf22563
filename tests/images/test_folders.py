"""Which cases a folder holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import (
    check_case_name,
    find_cases,
    find_channels,
    find_images,
    find_volumes,
    require_cases,
)


def test_find_volumes_and_require_cases(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "notes.txt", ".c.nii.gz", "summary.json", "a.npz"):
        (tmp_path / name).touch()
    found = find_volumes(tmp_path, what="label maps")
    assert {name: path.name for name, path in found.items()} == {"a": "a.nrrd", "b": "b.nii.gz"}
    require_cases(["a"], found, folder=tmp_path, what="label map")


@pytest.mark.parametrize(
    ("missing", "listed"),
    [
        (1, "c0"),
        (5, "c0, c1, c2, c3, c4"),
        (6, "c0, c1, c2, c3, c4, ..."),
        (7, "c0, c1, c2, c3, c4, ..."),
    ],
)
def test_require_cases_names_up_to_five_of_the_missing_ones(missing: int, listed: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"no label map for {missing} case(s): {listed};")):
        require_cases([f"c{i}" for i in range(missing)], ["a", "b"], folder=tmp_path, what="label map")


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_require_cases_names_a_channel_number_in_label_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names the label map of case b 'b_0000'; .*rename it to 'b'"):
        require_cases(["a", "b"], ["a", "b_0000"], folder=tmp_path, what="label map")
    with pytest.raises(UserError, match=r"names the label map of case c 'c_0000'; .*rename it to 'c'\."):
        require_cases(["e", "d", "c"], ["d_0000", "c_0000"], folder=tmp_path, what="label map")


def test_find_images_takes_numbers_from_0000_on_for_cases_where_cases_are_named_so(tmp_path: Path) -> None:
    folder = touch(tmp_path / "images", "hippo_0000.nii.gz", "hippo_0001.nii.gz", "._hippo_0000.nii.gz")
    assert find_images(folder) == {"hippo": folder / "hippo_0000.nii.gz"}
    assert list(find_images(folder, cases=["hippo"])) == ["hippo"]
    assert list(find_images(folder, cases=["hippo_0000", "hippo_0001"])) == ["hippo_0000", "hippo_0001"]


def test_find_images_takes_one_channel_although_label_maps_carry_its_number(tmp_path: Path) -> None:
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "b_0000.nii.gz")
    assert list(find_images(folder, cases=["a_0000", "b_0000"])) == ["a", "b"]


def test_find_channels_takes_cases_that_have_a_first_channel(tmp_path: Path) -> None:
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "overview.nii.gz")
    assert find_channels(folder) == {"a": [folder / "a_0000.nii.gz", folder / "a_0001.nii.gz"]}


@pytest.mark.parametrize("case", ["a.nii", "a.NII.gz", "a.hdr", "a.img.gz", "1.2.nia"])
def test_find_cases_refuses_names_that_itk_changes(case: str, tmp_path: Path) -> None:
    folder = touch(tmp_path / "images", f"{case}_0000.nii.gz")
    with pytest.raises(UserError, match=re.escape(f"Case '{case}'") + ".* another name"):
        find_cases(folder, {"file_ending": ".nii.gz", "channel_names": {"0": "CT"}})


@pytest.mark.parametrize("case", ["a", "1.2.840.10008", "pat 7", "a.nrrd", "nii", "a_nii", "a_0001"])
def test_itk_keeps_the_names_that_we_accept(case: str, tmp_path: Path) -> None:
    check_case_name(case, tmp_path)
    sitk.WriteImage(sitk.Image(3, 4, 5, sitk.sitkUInt8), str(tmp_path / f"{case}.nii.gz"))
    assert [path.name for path in tmp_path.iterdir()] == [f"{case}.nii.gz"]


def test_find_cases_leaves_out_hidden_files(tmp_path: Path) -> None:
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", "._a_0000.nii.gz", "notes.txt")
    found = find_cases(folder, {"file_ending": ".nii.gz", "channel_names": {"0": "T1", "1": "T2"}})
    assert {case: [file.name for file in files] for case, files in found.items()} == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"]
    }


@pytest.mark.parametrize("channels", [("0000",), ("0001",), ("0000", "0002"), ("0000", "0001", "0002")])
def test_find_cases_refuses_a_case_with_other_channels_than_the_model_has(
    channels: tuple[str, ...], tmp_path: Path
) -> None:
    names = [f"b_{channel}.nii.gz" for channel in channels]
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", *names)
    expected = f"has the files {', '.join(names)}; the model needs b_0000.nii.gz, b_0001.nii.gz."
    with pytest.raises(UserError, match=f"Case 'b' in .* {re.escape(expected)}"):
        find_cases(folder, {"file_ending": ".nii.gz", "channel_names": {"0": "T1", "1": "T2"}})
