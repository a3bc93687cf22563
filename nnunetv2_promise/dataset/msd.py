"""Reading a Medical Segmentation Decathlon (MSD) folder: ``dataset.json`` and the files that it names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json

# What nnU-Net's SimpleITK reader takes; prompts need the world coordinates that these formats store.
FILE_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")


@dataclass(frozen=True)
class Case:
    """One training case of a dataset.

    Attributes:
        name: The case identifier.
        images: One file per channel, or one 4D file with all of them.
        label: The label map.
    """

    name: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class MsdDataset:
    """What an MSD folder declares; every path is absolute, every training file exists.

    Attributes:
        folder: The folder.
        name: Short name for nnU-Net, such as ``Colon``.
        channel_names: Channel index to modality, as nnU-Net wants them.
        labels: Label name to value; background is 0.
        file_ending: Common ending of all files, with the dot.
        training: The training cases in the order of ``dataset.json``.
        test_images: The test images that exist.
        missing_test_images: Test images that ``dataset.json`` lists and that do not exist.
        digest: SHA-256 of ``dataset.json``, to notice a changed source.
        credits: Description, reference, licence and release, as far as given.
    """

    folder: Path
    name: str
    channel_names: dict[str, str]
    labels: dict[str, int]
    file_ending: str
    training: tuple[Case, ...]
    test_images: tuple[Path, ...]
    missing_test_images: tuple[Path, ...]
    digest: str
    credits: dict[str, str]


def read_msd_dataset(folder: Path | str) -> MsdDataset:
    """Read and check ``dataset.json`` of an MSD folder and that its training files exist.

    The list ``training`` is the source of truth; files that macOS leaves behind (``._*``) are ignored.

    Raises:
        UserError: If the folder, ``dataset.json`` or a training file is missing or malformed.
    """
    folder = Path(folder).absolute()
    content = _read_dataset_json(folder)
    file = folder / "dataset.json"
    training = tuple(_training_case(entry, folder) for entry in _entries(content, "training", file))
    if not training:
        raise UserError(f"{file} lists no training case under 'training'; check that this is the MSD download.")
    _check_unique(training, file)
    test = [_path_in(folder, _test_image(entry, file), file) for entry in _entries(content, "test", file)]
    return MsdDataset(
        folder=folder,
        name=_dataset_name(folder, content),
        channel_names=_channel_names(content, file),
        labels=_labels(content, file),
        file_ending=_common_ending(training, file),
        training=training,
        test_images=tuple(path for path in test if path.is_file()),
        missing_test_images=tuple(path for path in test if not path.is_file()),
        digest=hashlib.sha256(file.read_bytes()).hexdigest(),
        credits={key: str(content[key]) for key in _CREDITS if key in content},
    )


_CREDITS = ("description", "reference", "licence", "release")


def case_name(path: Path) -> str:
    """File name without its (known) ending."""
    for ending in FILE_ENDINGS:
        if path.name.endswith(ending):
            return path.name[: -len(ending)]
    return path.name.split(".")[0]


def _read_dataset_json(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise UserError(f"{folder} is a file; extract the MSD archive and name the extracted folder.")
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; name the extracted MSD folder that holds dataset.json.")
    file = folder / "dataset.json"
    if not file.is_file():
        raise UserError(f"{folder} holds no dataset.json; name the extracted MSD folder, such as Task10_Colon.")
    content = read_json(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object; download the dataset again.")
    if "training" not in content and "file_ending" in content:
        raise UserError(f"{file} is already in nnU-Net's form; put its folder into nnUNet_raw and give only -d.")
    return content


def _entries(content: dict[str, Any], key: str, file: Path) -> list[Any]:
    entries = content.get(key, [])
    if not isinstance(entries, list):
        raise UserError(f"{file} has no list under '{key}'; it must list the files of the MSD folder.")
    return [entry for entry in entries if not _is_macos_leftover(entry)]


def _is_macos_leftover(entry: Any) -> bool:
    path = entry.get("image") if isinstance(entry, dict) else entry
    return isinstance(path, str) and Path(path).name.startswith("._")


def _training_case(entry: Any, folder: Path) -> Case:
    file = folder / "dataset.json"
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
        raise UserError(f"{file} has a training entry without 'image' and 'label' ({entry!r}); mend the entry.")
    image = _path_in(folder, entry["image"], file)
    label = _path_in(folder, entry["label"], file)
    for path in (image, label):
        if not path.is_file():
            raise UserError(f"{path} is listed in dataset.json and does not exist; download or extract it again.")
    return Case(name=case_name(image), images=(image,), label=label)


def _test_image(entry: Any, file: Path) -> str:
    path = entry.get("image") if isinstance(entry, dict) else entry
    if not isinstance(path, str):
        raise UserError(f"{file} has a test entry that is no path ({entry!r}); mend the entry.")
    return path


def _path_in(folder: Path, relative: str, file: Path) -> Path:
    # nnU-Net expands $NAME in the paths of its dataset.json; a real dollar sign would be mangled.
    if "$" in str(folder / relative):
        raise UserError(f"{file} names the path {folder / relative}, which has a $ in it; rename it without the $.")
    return folder / relative


def _check_unique(training: tuple[Case, ...], file: Path) -> None:
    seen: set[str] = set()
    for case in training:
        if case.name in seen:
            raise UserError(f"{file} lists the training case {case.name} twice; remove one of the entries.")
        seen.add(case.name)


def _dataset_name(folder: Path, content: dict[str, Any]) -> str:
    match = re.fullmatch(r"Task\d+_(.+)", folder.name)
    name = match.group(1) if match else str(content.get("name") or folder.name)
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "MSD"


def _channel_names(content: dict[str, Any], file: Path) -> dict[str, str]:
    modality = content.get("modality", content.get("channel_names"))
    if not isinstance(modality, dict) or sorted(modality) != sorted(str(index) for index in range(len(modality))):
        raise UserError(f'{file} needs \'modality\' with the channels numbered from "0", such as {{"0": "CT"}}.')
    if not modality:
        raise UserError(f'{file} declares no channel under \'modality\'; add it, such as {{"0": "CT"}}.')
    return {key: str(modality[key]) for key in sorted(modality, key=int)}


def _labels(content: dict[str, Any], file: Path) -> dict[str, int]:
    declared = content.get("labels")
    if not isinstance(declared, dict) or not all(re.fullmatch(r"\d+", str(value)) for value in declared):
        raise UserError(
            f'{file} needs \'labels\' that map values to names, such as {{"0": "background", "1": "cancer"}}.'
        )
    names = {int(value): str(name) for value, name in declared.items()}
    if 0 not in names or len(names) < 2:
        raise UserError(f"{file} needs label 0 (background) and at least one more under 'labels'.")
    names[0] = "background"
    if len(set(names.values())) != len(names):
        raise UserError(f"{file} gives two label values the same name under 'labels'; make the names differ.")
    return {names[value]: value for value in sorted(names)}


def _common_ending(training: tuple[Case, ...], file: Path) -> str:
    paths = [path for case in training for path in (*case.images, case.label)]
    for ending in FILE_ENDINGS:
        if paths[0].name.endswith(ending):
            odd = next((path for path in paths if not path.name.endswith(ending)), None)
            if odd is not None:
                raise UserError(f"{odd} does not end in {ending} as the other files of {file} do; convert it.")
            return ending
    raise UserError(f"{paths[0]} has an unknown file ending; use one of {', '.join(FILE_ENDINGS)}.")
