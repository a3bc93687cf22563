"""Damaged MSD folders and conversions that make no sense: each ends in one sentence, and nothing is written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import only_error
from generated_msd import edit_json, label_map, write_volume
from test_msd import files_below

from nnunetv2_promise.cli.plan_and_preprocess import main
from nnunetv2_promise.dataset.existing import check_existing_dataset
from nnunetv2_promise.dataset.msd_conversion import convert_msd
from nnunetv2_promise.errors import UserError


def damage_json(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda msd: edit_json(msd / "dataset.json", edit)


def damage_label(change: Callable[[np.ndarray], np.ndarray], **geometry: tuple[float, ...]) -> Callable[[Path], None]:
    return lambda msd: write_volume(change(label_map(1)), msd / "labelsTr" / "scan_001.nii.gz", **geometry)


def damage_image(array: np.ndarray) -> Callable[[Path], None]:
    return lambda msd: write_volume(array, msd / "imagesTr" / "scan_001.nii.gz")


def with_nan() -> np.ndarray:
    image = np.zeros(label_map(1).shape, dtype=np.float32)
    image[3, 4, 5] = np.nan
    return image


def truncate(msd: Path) -> None:
    file = msd / "imagesTr" / "scan_001.nii.gz"
    file.write_bytes(file.read_bytes()[:500])


TURNED = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


TILTED = (1.0, 0.0, 0.0, 0.0, 0.98, -0.198997, 0.0, 0.198997, 0.98)


SAME = label_map(1)


BAD_FOLDERS = {
    "no dataset.json": (lambda msd: (msd / "dataset.json").unlink(), "holds no dataset.json"),
    "broken dataset.json": (lambda msd: (msd / "dataset.json").write_text("{"), "dataset.json is not valid JSON"),
    "json list": (lambda msd: (msd / "dataset.json").write_text("[]"), "holds no JSON object"),
    "no training": (damage_json(lambda c: c.update(training=[])), "lists no training case"),
    "training no list": (damage_json(lambda c: c.update(training={"a": 1})), "no list under 'training'"),
    "entry without label": (damage_json(lambda c: c["training"][0].pop("label")), "without 'image' and 'label'"),
    "case twice": (damage_json(lambda c: c["training"].append(c["training"][0])), "scan_000 twice"),
    "no labels": (damage_json(lambda c: c.pop("labels")), "needs 'labels'"),
    "labels the other way round": (damage_json(lambda c: c.update(labels={"liver": 1})), "map values to names"),
    "background only": (damage_json(lambda c: c.update(labels={"0": "background"})), "at least one more"),
    "two labels of one name": (
        damage_json(lambda c: c.update(labels={"0": "background", "1": "x", "2": "x"})),
        "the same name",
    ),
    "gap in label values": (
        damage_json(lambda c: c["labels"].update({"4": "far"})),
        r"label values \[1, 2, 4\].* without gaps",
    ),
    "no modality": (damage_json(lambda c: c.pop("modality")), "needs 'modality'"),
    "modality from 1": (damage_json(lambda c: c.update(modality={"1": "CT"})), "numbered from"),
    "unknown ending": (
        damage_json(lambda c: c["training"][0].update(image="dataset.json")),
        "unknown file ending",
    ),
    "nnU-Net form": (
        damage_json(lambda c: (c.pop("training"), c.update(file_ending=".nii.gz"))),
        "already in nnU-Net's form",
    ),
    "image missing": (lambda msd: (msd / "imagesTr" / "scan_002.nii.gz").unlink(), r"scan_002\.nii\.gz is listed"),
    "label missing": (lambda msd: (msd / "labelsTr" / "scan_002.nii.gz").unlink(), r"labelsTr.scan_002\.nii\.gz is"),
    "image truncated": (truncate, r"imagesTr.scan_001\.nii\.gz cannot be read"),
    "image no image": (lambda msd: (msd / "imagesTr" / "scan_001.nii.gz").write_text("x"), "cannot be read"),
    "image NaN": (damage_image(with_nan()), r"scan_001\.nii\.gz has NaN"),
    "too many channels": (damage_image(np.zeros((2, *SAME.shape), np.int16)), "2 channels and dataset.json declares 1"),
    "too few channels": (damage_json(lambda c: c["modality"].update({"1": "PET"})), "1 channels.*declares 2"),
    "image 2D": (damage_image(np.zeros((16, 20), np.int16)), "2 dimensions and 1 value"),
    "size differs": (damage_label(lambda a: a[:-1]), r"scan_001.nii.gz: size \(20, 16, 11\) and"),
    "spacing differs": (damage_label(lambda a: a, spacing=(0.8, 0.9, 2.5)), "scan_001.nii.gz: spacing"),
    "origin differs": (damage_label(lambda a: a, origin=(10.0, -20.0, 31.0)), "scan_001.nii.gz: origin"),
    "direction differs": (damage_label(lambda a: a, direction=TILTED), "scan_001.nii.gz: direction"),
    "undeclared label": (damage_label(lambda a: np.where(a == 2, 5, a)), "has label 5, which"),
    "negative label": (damage_label(lambda a: a.astype(np.int16) - 1), "has label -1"),
    "fractional label": (damage_label(lambda a: a.astype(np.float32) / 2), "value 0.5, which is not a whole"),
    "NaN label": (damage_label(lambda a: np.where(a == 2, np.nan, a)), "has NaN"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_bad_msd_folder_is_named_in_one_sentence_and_leaves_nothing(
    nnunet_folders: Path,
    msd: Path,
    damage: Callable[[Path], object],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    damage(msd)
    assert main(["-i", str(msd), "-d", "10", "-np", "1"]) == 2
    assert re.search(message, only_error(capfd.readouterr().err))
    assert files_below(nnunet_folders / "nnUNet_raw") == []


def test_bad_msd_folder_counts_further_problems(nnunet_folders: Path, msd: Path) -> None:
    for index in (0, 2, 3):
        write_volume(label_map(index) + 7, msd / "labelsTr" / f"scan_{index:03d}.nii.gz")
    with pytest.raises(UserError, match=r"scan_000\.nii\.gz has label 7.*2 more cases have problems"):
        convert_msd(msd, 10)


def test_geometry_within_tolerance_is_accepted(nnunet_folders: Path, msd: Path) -> None:
    damage_label(lambda a: a, spacing=(0.8, 0.90001, 2.0), origin=(10.001, -20.0, 30.0))(msd)
    convert_msd(msd, 10)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["kidney"], r"no foreground label 'kidney'; .*organ \(1\), cancer \(2\)"),
        (["0"], "no foreground label '0'"),
        (["background"], "no foreground label 'background'"),
        (["3"], "no foreground label '3'"),
    ],
)
def test_convert_msd_unknown_label_lists_the_known(
    nnunet_folders: Path, msd: Path, wanted: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        convert_msd(msd, 10, labels=wanted)


def test_convert_msd_label_in_no_case_is_an_error(nnunet_folders: Path, msd: Path) -> None:
    edit_json(msd / "dataset.json", lambda content: content["labels"].update({"3": "vessel"}))
    with pytest.raises(UserError, match="has the chosen label"):
        convert_msd(msd, 10, labels=["vessel"])


def test_convert_msd_number_of_another_dataset_is_an_error(nnunet_folders: Path, msd: Path) -> None:
    (nnunet_folders / "nnUNet_preprocessed" / "Dataset010_Other").mkdir(parents=True)
    with pytest.raises(UserError, match="number 010 is taken by Dataset010_Other"):
        convert_msd(msd, 10)


def test_convert_msd_with_other_labels_is_an_error(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10, labels=["cancer"])
    with pytest.raises(UserError, match="other labels"):
        convert_msd(msd, 10, labels=["organ"])


def test_convert_msd_with_changed_source_is_an_error(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10)
    edit_json(msd / "dataset.json", lambda content: content["training"].pop())
    with pytest.raises(UserError, match="earlier version"):
        convert_msd(msd, 10)


def test_convert_msd_with_preprocessed_data_of_other_labels_is_an_error(nnunet_folders: Path, msd: Path) -> None:
    convert_msd(msd, 10, labels=["cancer"])
    raw = nnunet_folders / "nnUNet_raw" / "Dataset010_Colon"
    preprocessed = nnunet_folders / "nnUNet_preprocessed" / "Dataset010_Colon"
    preprocessed.mkdir(parents=True)
    shutil.move(raw / "dataset.json", preprocessed / "dataset.json")
    shutil.rmtree(raw)
    with pytest.raises(UserError, match=r"nnUNet_preprocessed.Dataset010_Colon exists and was made from"):
        convert_msd(msd, 10)


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
def test_convert_msd_without_environment_variable_is_an_error(
    nnunet_folders: Path, msd: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(variable)
    with pytest.raises(UserError, match=f"environment variable {variable} is not set"):
        convert_msd(msd, 10)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("channel_names"), "lacks the key 'channel_names'"),
        (lambda c: c.update(file_ending=".png"), r"file ending \.png"),
        (lambda c: c["labels"].pop("background"), "with background 0"),
        (lambda c: c.update(numTraining=9), "declares 9 training cases and 4 exist"),
        (lambda c: c["dataset"]["scan_000"].update(label="gone.nii.gz"), r"gone\.nii\.gz does not exist"),
        (lambda c: c["labels"].update(far=7), r"label values \[0, 1, 2, 7\]"),
    ],
)
def test_check_existing_dataset_bad_json_is_an_error(
    nnunet_folders: Path, msd: Path, edit: Callable[[dict], object], message: str
) -> None:
    convert_msd(msd, 10)
    edit_json(nnunet_folders / "nnUNet_raw" / "Dataset010_Colon" / "dataset.json", edit)
    with pytest.raises(UserError, match=message):
        check_existing_dataset(10)


def test_check_existing_dataset_unknown_number_is_an_error(nnunet_folders: Path) -> None:
    with pytest.raises(UserError, match="No dataset 010"):
        check_existing_dataset(10)
