"""MSD folders become nnU-Net datasets without copies; bad ones are named in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from generated_msd import edit_json, label_map, read_array, write_msd, write_volume
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunetv2_promise.dataset.existing import check_existing_dataset
from nnunetv2_promise.dataset.label_choice import choose_labels, merge_labels
from nnunetv2_promise.dataset.msd import read_msd_dataset
from nnunetv2_promise.dataset.msd_conversion import convert_msd
from nnunetv2_promise.errors import UserError


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# --- reading ---------------------------------------------------------------------------------------------------------


def test_read_msd_dataset_returns_what_json_declares(msd: Path) -> None:
    dataset = read_msd_dataset(msd)
    assert dataset.name == "Colon"
    assert dataset.labels == {"background": 0, "organ": 1, "cancer": 2}
    assert dataset.channel_names == {"0": "CT"}
    assert [case.name for case in dataset.training] == ["scan_000", "scan_001", "scan_002", "scan_003"]
    assert {name: [path.name for path in files] for name, files in dataset.test_images.items()} == {
        "scan_004": ["scan_004.nii.gz"]
    }


def test_read_msd_dataset_ignores_macos_leftovers(msd: Path) -> None:
    def add_leftovers(content: dict) -> None:
        content["training"].append({"image": "./imagesTr/._scan_000.nii.gz", "label": "./labelsTr/._scan_000.nii.gz"})
        content["test"].append("./imagesTs/._scan_004.nii.gz")

    edit_json(msd / "dataset.json", add_leftovers)
    (msd / "imagesTr" / "._scan_009.nii.gz").write_bytes(b"Mac OS X")
    dataset = read_msd_dataset(msd)
    assert len(dataset.training) == 4
    assert len(dataset.test_images) == 1
    assert dataset.missing_test_images == ()


def test_read_msd_dataset_takes_training_list_not_folder_content(msd: Path) -> None:
    shutil.copy(msd / "imagesTr" / "scan_000.nii.gz", msd / "imagesTr" / "extra.nii.gz")
    assert len(read_msd_dataset(msd).training) == 4


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [
        ("Task07_Pancreas", "x", "Pancreas"),
        ("download", "my set (1)", "my_set_1"),
        ("Task03_Liver_CT", "x", "Liver_CT"),
    ],
)
def test_dataset_name_comes_from_folder_or_json(tmp_path: Path, folder: str, name: str, expected: str) -> None:
    msd = write_msd(tmp_path / folder, cases=1, tests=0)
    edit_json(msd / "dataset.json", lambda content: content.update(name=name))
    assert read_msd_dataset(msd).name == expected


# --- labels ----------------------------------------------------------------------------------------------------------

DECLARED = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "Enhancing Tumour": 3}


@pytest.mark.parametrize(
    ("wanted", "labels", "values"),
    [
        (None, DECLARED, None),
        (["edema"], {"background": 0, "edema": 1}, (1,)),
        (["EDEMA"], {"background": 0, "edema": 1}, (1,)),
        (["3"], {"background": 0, "Enhancing Tumour": 1}, (3,)),
        (["tumour"], {"background": 0, "tumour": 1}, (2, 3)),
        (["3", "1"], {"background": 0, "Enhancing Tumour+edema": 1}, (1, 3)),
    ],
)
def test_choose_labels_by_name_number_and_tumour(
    wanted: list[str] | None, labels: dict[str, int], values: tuple[int, ...] | None
) -> None:
    choice = choose_labels(DECLARED, wanted, Path("dataset.json"))
    assert choice.labels == labels
    assert choice.source_values == values


def test_choose_labels_of_single_label_dataset_only_renames() -> None:
    choice = choose_labels({"background": 0, "colon cancer primaries": 1}, ["tumour"], Path("dataset.json"))
    assert choice.labels == {"background": 0, "tumour": 1}
    assert not choice.rewrites


def test_choose_labels_prefers_the_label_with_the_very_name() -> None:
    choice = choose_labels({"background": 0, "cancer": 1, "tumour": 2}, ["tumour"], Path("dataset.json"))
    assert choice.source_values == (2,)


def test_merge_labels_is_one_where_any_value_is() -> None:
    merged = merge_labels(np.array([0, 1, 2, 3, 2, 0]), (1, 3))
    assert merged.tolist() == [0, 1, 0, 1, 0, 0]
    assert merged.dtype == np.uint8


# --- converting ------------------------------------------------------------------------------------------------------


def test_convert_msd_points_at_the_original_files(nnunet_folders: Path, msd: Path) -> None:
    name = convert_msd(msd, 10)
    raw = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon"
    assert name == "Dataset010_Colon"
    assert files_below(raw) == ["dataset.json", "imagesTs/scan_004_0000.nii.gz"]
    found = get_filenames_of_train_images_and_targets(str(raw))
    assert list(found) == ["scan_000", "scan_001", "scan_002", "scan_003"]
    assert found["scan_002"] == {
        "images": [str(msd / "imagesTr" / "scan_002.nii.gz")],
        "label": str(msd / "labelsTr" / "scan_002.nii.gz"),
    }
    content = json.loads((raw / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "organ": 1, "cancer": 2}
    assert content["channel_names"] == {"0": "CT"}
    assert content["numTraining"] == 4
    assert content["file_ending"] == ".nii.gz"


def test_convert_msd_links_test_images_with_nnunet_names(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10)
    link = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon" / "imagesTs" / "scan_004_0000.nii.gz"
    assert link.is_symlink()
    assert np.array_equal(read_array(link), read_array(msd / "imagesTs" / "scan_004.nii.gz"))


def test_convert_msd_copies_test_images_where_links_are_impossible(
    nnunet_folders: Path, msd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, target: Path, target_is_directory: bool = False) -> None:
        raise OSError("links are not supported")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    convert_msd(msd, 10)
    copy = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon" / "imagesTs" / "scan_004_0000.nii.gz"
    assert not copy.is_symlink()
    assert copy.read_bytes() == (msd / "imagesTs" / "scan_004.nii.gz").read_bytes()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_convert_msd_merges_labels(nnunet_folders: Path, msd: Path, num_processes: int) -> None:
    convert_msd(msd, 10, labels=["cancer"], num_processes=num_processes)
    raw = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon"
    for index, entry in enumerate(get_filenames_of_train_images_and_targets(str(raw)).values()):
        assert np.array_equal(read_array(entry["label"]), label_map(index) == 2)
        label, image = sitk.ReadImage(entry["label"]), sitk.ReadImage(entry["images"][0])
        assert label.GetSpacing() == pytest.approx(image.GetSpacing())
        assert label.GetOrigin() == pytest.approx(image.GetOrigin())
        assert entry["images"][0].startswith(str(msd))
    assert json.loads((raw / "dataset.json").read_text())["labels"] == {"background": 0, "cancer": 1}


def test_convert_msd_counts_cases_without_label(
    nnunet_folders: Path, msd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    convert_msd(msd, 10, labels=["cancer"])
    assert "1 of 4 cases have none of the labels: scan_000." in caplog.text


def test_convert_msd_splits_4d_images(nnunet_folders: Path, tmp_path: Path) -> None:
    msd = write_msd(tmp_path / "Task05_Prostate", cases=2, tests=1, modality=("T2", "ADC"))
    convert_msd(msd, 5)
    raw = nnunet_folders / "nnUNet_raw" / "Dataset005_Prostate"
    entry = get_filenames_of_train_images_and_targets(str(raw))["scan_001"]
    source = read_array(msd / "imagesTr" / "scan_001.nii.gz")
    assert [Path(path).name for path in entry["images"]] == ["scan_001_0000.nii.gz", "scan_001_0001.nii.gz"]
    for channel, path in enumerate(entry["images"]):
        assert np.array_equal(read_array(path), source[channel])
        assert sitk.ReadImage(path).GetOrigin() == pytest.approx(sitk.ReadImage(entry["label"]).GetOrigin())
        assert sitk.ReadImage(path).GetPixelID() == sitk.sitkInt16
    assert "imagesTs/scan_002_0001.nii.gz" in files_below(raw)


def test_convert_msd_again_changes_nothing(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10, labels=["cancer"])
    raw = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon"
    before = {path: os.stat(raw / path, follow_symlinks=False).st_mtime_ns for path in files_below(raw)}
    assert convert_msd(msd, 10, labels=["2"]) == "Dataset010_Colon"
    assert {path: os.stat(raw / path, follow_symlinks=False).st_mtime_ns for path in files_below(raw)} == before


def test_convert_msd_after_killed_run_starts_afresh(nnunet_folders: Path, msd: Path) -> None:
    leftover = nnunet_folders / "nnUNet_raw" / ".partial_Dataset010_Colon" / "labelsTr" / "half.nii.gz"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    convert_msd(msd, 10)
    assert [path.name for path in (nnunet_folders / "nnUNet_raw").iterdir()] == ["Dataset010_Colon"]
    assert "labelsTr/half.nii.gz" not in files_below(nnunet_folders / "nnUNet_raw" / "Dataset010_Colon")


def test_convert_msd_that_fails_while_writing_leaves_nothing(nnunet_folders: Path, msd: Path) -> None:
    (msd / "imagesTs" / "scan_004.nii.gz").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"scan_004\.nii\.gz cannot be read"):
        convert_msd(msd, 10)
    assert list((nnunet_folders / "nnUNet_raw").iterdir()) == []


def test_convert_msd_without_test_images_warns(
    nnunet_folders: Path, msd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(msd / "imagesTs")
    convert_msd(msd, 10)
    assert "1 test images of" in caplog.text


def test_check_existing_dataset_accepts_what_we_make_and_plain_nnunet_folders(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10, labels=["cancer"])
    assert check_existing_dataset(10) == "Dataset010_Colon"
    plain = nnunet_folders / "nnUNet_raw" / "Dataset011_Plain"
    shutil.copytree(msd / "labelsTr", plain / "labelsTr")
    (plain / "imagesTr").mkdir()
    for path in (msd / "imagesTr").iterdir():
        shutil.copy(path, plain / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz"))
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "organ": 1, "core": 2},
        "numTraining": "4",
        "file_ending": ".nii.gz",
    }
    (plain / "dataset.json").write_text(json.dumps(content))
    assert check_existing_dataset(11) == "Dataset011_Plain"


# --- sources that change ----------------------------------------------------------------------------------------------


def correct_label(msd: Path, index: int) -> np.ndarray:
    corrected = np.zeros_like(label_map(index))
    corrected[3:6, 3:6, 3:6] = 2
    write_volume(corrected, msd / "labelsTr" / f"scan_{index:03d}.nii.gz")
    return corrected


def test_convert_msd_merges_a_corrected_label_again_and_no_other(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10, labels=["cancer"])
    labels = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon" / "labelsTr"
    before = {path.name: path.stat().st_mtime_ns for path in labels.iterdir()}
    corrected = correct_label(msd, 1)
    convert_msd(msd, 10, labels=["cancer"])
    np.testing.assert_array_equal(read_array(labels / "scan_001.nii.gz"), corrected == 2)
    after = {path.name: path.stat().st_mtime_ns for path in labels.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"scan_001.nii.gz"}
    convert_msd(msd, 10, labels=["cancer"])
    assert {path.name: path.stat().st_mtime_ns for path in labels.iterdir()} == after


def test_convert_msd_splits_a_replaced_4d_image_again(nnunet_folders: Path, tmp_path: Path) -> None:
    msd = write_msd(tmp_path / "Task05_Two", modality=("T2", "ADC"))
    convert_msd(msd, 5)
    replaced = np.stack([np.full(label_map(1).shape, value, np.int16) for value in (3, 4)])
    write_volume(replaced, msd / "imagesTr" / "scan_001.nii.gz")
    write_volume(replaced, msd / "imagesTs" / "scan_004.nii.gz")
    convert_msd(msd, 5)
    for split in ("imagesTr/scan_001", "imagesTs/scan_004"):
        images = nnunet_folders / "nnUNet_raw" / "Dataset005_Two" / split
        assert [np.unique(read_array(Path(f"{images}_000{c}.nii.gz"))).tolist() for c in (0, 1)] == [[3], [4]]
