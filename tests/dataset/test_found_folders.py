"""Dataset folders as found in real life: taken where the meaning is clear, else one sentence says what was meant."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from commands import only_error
from generated_msd import edit_json, label_map, read_array, write_msd, write_volume

from nnunetv2_promise.cli.plan_and_preprocess import main
from nnunetv2_promise.dataset.existing import check_existing_dataset
from nnunetv2_promise.dataset.msd_conversion import convert_msd
from nnunetv2_promise.files import read_json


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


def rename(folder: Path, change: Callable[[str], str]) -> None:
    for path in list(folder.glob("*.nii.gz")):
        path.rename(path.with_name(change(path.name[: -len(".nii.gz")]) + ".nii.gz"))


def number_channels(msd: Path) -> None:
    rename(msd / "imagesTr", lambda name: f"{name}_0000")
    rename(msd / "imagesTs", lambda name: f"{name}_0000")


def number_channels_in_json(msd: Path) -> None:
    number_channels(msd)

    def edit(content: dict) -> None:
        for entry in content["training"]:
            entry["image"] = entry["image"].replace(".nii.gz", "_0000.nii.gz")
        content["test"] = [path.replace(".nii.gz", "_0000.nii.gz") for path in content["test"]]

    edit_json(msd / "dataset.json", edit)


def two_entries_for_two_channels(msd: Path) -> None:
    number_channels(msd)
    for part in ("imagesTr", "imagesTs"):
        for path in (msd / part).glob("*_0000.nii.gz"):
            shutil.copy(path, path.with_name(path.name.replace("_0000", "_0001")))

    def edit(content: dict) -> None:
        content["modality"] = {"0": "T1", "1": "T2"}
        content["training"] = [
            {"image": entry["image"].replace(".nii.gz", f"_{channel:04d}.nii.gz"), "label": entry["label"]}
            for entry in content["training"]
            for channel in (0, 1)
        ]

    edit_json(msd / "dataset.json", edit)


def windows_paths(msd: Path) -> None:
    def edit(content: dict) -> None:
        content["training"] = [
            {key: path.replace("/", "\\") for key, path in entry.items()} for entry in content["training"]
        ]

    edit_json(msd / "dataset.json", edit)


def byte_order_mark(msd: Path) -> None:
    file = msd / "dataset.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b",", b",\r\n"))


def float_labels(msd: Path) -> None:
    write_volume(label_map(1) * 0.99999999, msd / "labelsTr" / "scan_001.nii.gz")


def labels_of_nnunet(msd: Path) -> None:
    edit_json(msd / "dataset.json", lambda c: c.update(labels={"background": 0, "organ": 1, "cancer": 2}))


def labels_named_otherwise(msd: Path) -> None:
    rename(msd / "labelsTr", lambda name: f"{name}_seg")

    def edit(content: dict) -> None:
        for entry in content["training"]:
            entry["label"] = entry["label"].replace(".nii.gz", "_seg.nii.gz")

    edit_json(msd / "dataset.json", edit)


def fourth_axis_of_one(msd: Path) -> None:
    for path in (*(msd / "imagesTr").iterdir(), *(msd / "labelsTr").iterdir()):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine), path)


TAKEN = {
    "nnU-Net v1": number_channels,
    "json names the files of channels": number_channels_in_json,
    "json has an entry for each channel": two_entries_for_two_channels,
    "paths of Windows": windows_paths,
    "byte order mark": byte_order_mark,
    "labels of 0.99999999": float_labels,
    "labels in nnU-Net's form": labels_of_nnunet,
    "labels of other names": labels_named_otherwise,
    "fourth axis of length one": fourth_axis_of_one,
}


@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN.keys())
@pytest.mark.parametrize("labels", [None, ["cancer"]], ids=["as they are", "merged"])
def test_found_msd_folder_is_taken(change: Callable[[Path], None], labels: list[str] | None, folders: Path) -> None:
    msd = write_msd(folders / "Task10_Colon")
    change(msd)
    name = convert_msd(msd, 10, labels=labels)
    raw = folders / "nnUNet_raw" / name
    content = read_json(raw / "dataset.json")
    assert sorted(content["dataset"]) == [f"scan_{i:03d}" for i in range(4)]
    channels = len(content["channel_names"])
    assert all(len(entry["images"]) == channels for entry in content["dataset"].values())
    tests = sorted(path.name for path in (raw / "imagesTs").iterdir())
    assert tests == [f"scan_004_{channel:04d}.nii.gz" for channel in range(channels)]
    if labels:
        np.testing.assert_array_equal(read_array(raw / "labelsTr" / "scan_001.nii.gz"), label_map(1) == 2)
    check_existing_dataset(10)


def test_names_with_dots_and_numbers_are_cases_of_their_own(folders: Path) -> None:
    msd = write_msd(folders / "Task10_Colon", cases=5, tests=0)
    names = ["1.2.840.1", "case_0001", "case_0002", "case_0001_0000", "pat 7"]

    def edit(content: dict) -> None:
        for part in ("images", "labels"):
            for index, name in enumerate(names):
                (msd / f"{part}Tr" / f"scan_{index:03d}.nii.gz").rename(msd / f"{part}Tr" / f"{name}.nii.gz")
        content["training"] = [
            {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in names
        ]

    edit_json(msd / "dataset.json", edit)
    convert_msd(msd, 10)
    content = read_json(folders / "nnUNet_raw" / "Dataset010_Colon" / "dataset.json")
    assert sorted(content["dataset"]) == sorted(names)


def scaled_labels(msd: Path) -> None:
    """nibabel stores floats as 8 bits with a slope of 2/255: no whole numbers are left."""
    image = nibabel.Nifti1Image(label_map(1).T.astype(np.float32), np.diag([-0.8, -0.9, 2, 1]))
    image.set_data_dtype(np.uint8)
    nibabel.save(image, msd / "labelsTr" / "scan_001.nii.gz")
    shutil.copy(msd / "labelsTr" / "scan_001.nii.gz", msd / "imagesTr" / "scan_001.nii.gz")


def almost_one(msd: Path) -> None:
    write_volume(label_map(1) * 0.9999, msd / "labelsTr" / "scan_001.nii.gz")


def spm_coregistered(msd: Path) -> None:
    path = msd / "imagesTr" / "scan_001.nii.gz"
    image = nibabel.load(path)
    moved = image.affine.copy()
    moved[:3, 3] += (6, -4, 3)
    made = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
    made.set_qform(image.affine, 1)
    made.set_sform(moved, 2)
    nibabel.save(made, path)


def nifti_2(msd: Path) -> None:
    path = msd / "imagesTr" / "scan_001.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti2Image(np.asarray(image.dataobj), image.affine), path)


def colours(msd: Path) -> None:
    path = msd / "labelsTr" / "scan_001.nii.gz"
    image = nibabel.load(path)
    array = np.zeros(image.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)


def value_255(msd: Path) -> None:
    write_volume(((label_map(1) == 2) * 255).astype(np.uint8), msd / "labelsTr" / "scan_001.nii.gz")


def uncompressed(msd: Path) -> None:
    path = msd / "imagesTr" / "scan_001.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))


def name_that_itk_changes(msd: Path) -> None:
    (msd / "imagesTr" / "scan_001.nii.gz").rename(msd / "imagesTr" / "scan_001.nii.nii.gz")
    edit_json(msd / "dataset.json", lambda c: c["training"][1].update(image="imagesTr/scan_001.nii.nii.gz"))


def one_channel_of_two(msd: Path) -> None:
    number_channels(msd)
    edit_json(msd / "dataset.json", lambda c: c.update(modality={"0": "T1", "1": "T2"}))


def second_channel_elsewhere(msd: Path) -> None:
    two_entries_for_two_channels(msd)
    path = msd / "imagesTr" / "scan_001_0001.nii.gz"
    write_volume(read_array(path), path, origin=(0, 0, 0))


REFUSED = {
    "scaled labels": (scaled_labels, r"scan_001\.nii\.gz has the value 0\.996\d+, which is not a whole number"),
    "labels of 0.9999": (almost_one, r"the value 0\.9999, which is not a whole number"),
    "sform and qform": (spm_coregistered, r"scan_001\.nii\.gz names two grids, .*qform.*sform"),
    "NIfTI-2": (nifti_2, r"scan_001\.nii\.gz is NIfTI-2"),
    "RGB labels": (colours, r"scan_001\.nii\.gz has 3 dimensions and 3 value"),
    "label 255": (value_255, "has label 255, which dataset.json does not declare"),
    "not compressed": (uncompressed, r"scan_001\.nii\.gz cannot be read .*a gzipped file"),
    "name that ITK changes": (name_that_itk_changes, r"'scan_001\.nii' .* rename it, for example to 'scan_001_nii'"),
    "one channel of two": (one_channel_of_two, "has 1 channels and dataset.json declares 2"),
    "channels on two grids": (second_channel_elsewhere, r"scan_001_0001\.nii\.gz: origin"),
}


@pytest.mark.parametrize(("change", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_found_msd_folder_is_refused_in_one_sentence(
    change: Callable[[Path], None], expected: str, folders: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    msd = write_msd(folders / "Task10_Colon")
    change(msd)
    assert main(["-i", str(msd), "-d", "10", "-np", "1"]) == 2
    assert re.search(expected, only_error(capfd.readouterr().err))
    assert not list((folders / "nnUNet_raw").iterdir())


# --- datasets in nnUNet_raw -------------------------------------------------------------------------------------------


def write_dataset(raw: Path, **changes: object) -> Path:
    folder = raw / "Dataset011_Plain"
    for index in range(3):
        label = label_map(index)
        write_volume(label.astype(np.int16) * 50, folder / "imagesTr" / f"c_{index}_0000.nii.gz")
        write_volume(label, folder / "labelsTr" / f"c_{index}.nii.gz")
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1, "tumour": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps({**content, **changes}))
    return folder


def test_number_of_cases_as_text_is_taken_and_few_cases_are_named(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(folders / "nnUNet_raw", numTraining="3")
    check_existing_dataset(11)
    assert "3 training case(s), too few for nnU-Net's 5 folds: train fold 'all', or write a split" in caplog.text


def leave_macos_files(folder: Path) -> None:
    for part, name in (("imagesTr", "._c_0_0000.nii.gz"), ("labelsTr", "._c_0.nii.gz")):
        (folder / part / name).write_bytes(b"\0\5\26\7x")


def mark_order(folder: Path) -> None:
    file = folder / "dataset.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


def number_labels(folder: Path) -> None:
    rename(folder / "labelsTr", lambda name: f"{name}_0000")


def lose_a_label(folder: Path) -> None:
    (folder / "labelsTr" / "c_1.nii.gz").unlink()


def add_an_image(folder: Path) -> None:
    shutil.copy(folder / "imagesTr" / "c_0_0000.nii.gz", folder / "imagesTr" / "c_7_0000.nii.gz")


def set_labels(**labels: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "dataset.json", lambda content: content.update(labels=labels))


REFUSED_DATASETS = {
    "macOS": (leave_macos_files, r"\._c_0_0000\.nii\.gz is one of 2 files that macOS left .*find .* -delete"),
    "byte order mark": (mark_order, "byte order mark"),
    "labels with channel numbers": (number_labels, r"c_0_0000\.nii\.gz should be named c_0\.nii\.gz"),
    "label missing": (lose_a_label, r"c_1\.nii\.gz does not exist and case c_1 needs it"),
    "one image too many": (add_an_image, "declares 3 training cases and 4 exist"),
    "labels of nnU-Net v1": (set_labels(**{"0": "background", "1": "organ"}), "as nnU-Net v1 did"),
    "labels as text": (set_labels(background="0", organ="1"), "'background' has the value '0'; write a whole number"),
    "labels as floats": (set_labels(background=0, organ=1.0, tumour=2.0), "'organ' has the value 1.0"),
    "regions": (set_labels(background=0, whole=[1, 2], tumour=[2]), r"declares regions \(whole, tumour\)"),
    "background 1": (set_labels(background=1, organ=2), "it must be 0"),
    "no label at all": (set_labels(), "needs 'labels'"),
}


@pytest.mark.parametrize(("change", "expected"), REFUSED_DATASETS.values(), ids=REFUSED_DATASETS.keys())
def test_found_nnunet_dataset_is_refused_in_one_sentence(
    change: Callable[[Path], None], expected: str, folders: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change(write_dataset(folders / "nnUNet_raw"))
    assert main(["-d", "11", "-np", "1"]) == 2
    assert re.search(expected, only_error(capfd.readouterr().err))
    assert not list((folders / "nnUNet_preprocessed").iterdir())
