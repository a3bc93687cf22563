"""Checking a dataset that is already in nnU-Net's form."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_promise.dataset.case_checks import check_cases
from nnunetv2_promise.dataset.environment import dataset_name_of, nnunet_folder
from nnunetv2_promise.dataset.msd import FILE_ENDINGS, Case
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.folders import check_case_name

_logger = logging.getLogger(__name__)

_REQUIRED_KEYS = ("channel_names", "labels", "numTraining", "file_ending")


def check_existing_dataset(dataset_id: int, *, num_processes: int = 1) -> str:
    """Check a dataset in ``nnUNet_raw`` as thoroughly as an MSD folder.

    Args:
        dataset_id: nnU-Net's number of the dataset.
        num_processes: Number of worker processes.

    Returns:
        The name of the dataset.

    Raises:
        UserError: If it does not exist or has a problem.
    """
    name = dataset_name_of(dataset_id)
    folder = nnunet_folder("nnUNet_raw") / name
    content = read_dataset_json(folder)
    values = set(content["labels"].values())
    if values - {0} != set(range(1, len(values - {0}) + 1)):
        raise UserError(f"{folder / 'dataset.json'} declares the label values {sorted(values)}; use 0, 1, 2, ...")
    reports = check_cases(
        _cases(folder, content),
        channels=len(content["channel_names"]),
        label_values=sorted(values),
        num_processes=num_processes,
    )
    empty = [report.name for report in reports if not set(report.label_values) - {0}]
    if len(empty) == len(reports):
        raise UserError(f"No training case of {folder} has foreground; check the label maps.")
    if empty:
        _logger.warning("%d of %d cases have no foreground: %s.", len(empty), len(reports), ", ".join(empty))
    return name


def read_dataset_json(folder: Path) -> dict[str, Any]:
    """``dataset.json`` of an nnU-Net dataset.

    Raises:
        UserError: If it is missing, lacks a key that nnU-Net needs, or has a file ending that prompts cannot serve.
    """
    file = folder / "dataset.json"
    content = read_json(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object; make it again.")
    if file.read_bytes().startswith(codecs.BOM_UTF8):
        raise UserError(f"{file} starts with a byte order mark, on which nnU-Net stops; save it as UTF-8 without BOM.")
    missing = [key for key in _REQUIRED_KEYS if key not in content]
    if missing and "training" in content:
        raise UserError(f"{file} is in MSD's form; give its folder with -i so that it is converted.")
    if missing:
        raise UserError(f"{file} lacks the key '{missing[0]}'; add it as nnU-Net's dataset format asks.")
    if content["file_ending"] not in FILE_ENDINGS:
        raise UserError(
            f"{file} declares the file ending {content['file_ending']}; prompts need one of {', '.join(FILE_ENDINGS)}."
        )
    _check_labels(content["labels"], file)
    return content


def refuse_regions(labels: Mapping[str, Any], file: Path) -> None:
    """Refuse region-based labels before anything is planned.

    Raises:
        UserError: If a label is a list of values.
    """
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise UserError(
            f"{file} declares regions ({', '.join(regions)}), which overlap, and a click selects one label; "
            "declare plain labels, one value for each."
        )


def _check_labels(labels: Any, file: Path) -> None:
    """Check that the labels are whole numbers by name, as both nnU-Net and prompts need them."""
    if isinstance(labels, dict) and labels and all(re.fullmatch(r"-?\d+", name) for name in labels):
        raise UserError(
            f"{file} maps values to names under 'labels', as nnU-Net v1 did; write names first, such as "
            '{"background": 0, "tumour": 1}.'
        )
    if not isinstance(labels, dict) or "background" not in labels:
        raise UserError(f"{file} needs 'labels' that map names to values, with background 0; correct it.")
    refuse_regions(labels, file)
    for name, value in labels.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"{file}: label '{name}' has the value {value!r}; write a whole number without quotes.")
    if labels["background"] != 0:
        raise UserError(f"{file} gives background the value {labels['background']}; it must be 0.")


def _cases(folder: Path, content: dict[str, Any]) -> list[Case]:
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    if "dataset" not in content and not (folder / "imagesTr").is_dir():
        raise UserError(f"{folder} holds no imagesTr; copy the training images there as nnU-Net asks.")
    _refuse_macos_leftovers(folder)
    dataset = get_filenames_of_train_images_and_targets(str(folder), content)
    cases = [
        Case(str(name), tuple(Path(image) for image in entry["images"]), Path(entry["label"]))
        for name, entry in dataset.items()
    ]
    if str(len(cases)) != str(content["numTraining"]) or not cases:
        raise UserError(
            f"{folder / 'dataset.json'} declares {content['numTraining']} training cases and {len(cases)} exist; "
            "correct numTraining or the files."
        )
    for case in cases:
        check_case_name(case.name, folder)
        numbered = case.label.with_name(f"{case.name}_0000{content['file_ending']}")
        if not case.label.is_file() and numbered.is_file():
            raise UserError(
                f"{numbered} should be named {case.label.name}; only images carry the number of a channel, rename it."
            )
        for path in (*case.images, case.label):
            if not path.is_file():
                raise UserError(f"{path} does not exist and case {case.name} needs it; restore the file.")
    return cases


def _refuse_macos_leftovers(folder: Path) -> None:
    """nnU-Net lists ``._*`` files as cases, and preprocessing is its own."""
    found = sorted(path for part in ("imagesTr", "labelsTr") for path in (folder / part).glob("._*"))
    if found:
        raise UserError(
            f"{found[0]} is one of {len(found)} files that macOS left beside the images and that nnU-Net takes for "
            f"cases; delete them: find {folder} -name '._*' -delete"
        )
