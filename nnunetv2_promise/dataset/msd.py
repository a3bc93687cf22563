"""Reading a Medical Segmentation Decathlon (MSD) folder: ``dataset.json`` and the files that it names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.folders import check_case_name

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
        test_images: Case identifier to files (see ``Case``) of the test images that exist.
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
    test_images: dict[str, tuple[Path, ...]]
    missing_test_images: tuple[Path, ...]
    digest: str
    credits: dict[str, str]


def read_msd_dataset(folder: Path | str) -> MsdDataset:
    """Read and check ``dataset.json`` of an MSD folder and that its training files exist.

    The list ``training`` is the source of truth; files that macOS leaves behind (``._*``) are ignored. Folders of
    nnU-Net v1 are of the same form, but name a file for each channel: ``CASE_0000.nii.gz`` where ``dataset.json`` lists
    ``CASE.nii.gz``, or this file as well.

    Raises:
        UserError: If the folder, ``dataset.json`` or a training file is missing or malformed.
    """
    folder = Path(folder).absolute()
    content = _read_dataset_json(folder)
    file = folder / "dataset.json"
    training = _training_cases(_entries(content, "training", file), folder)
    if not training:
        raise UserError(f"{file} lists no training case under 'training'; check that this is the MSD download.")
    test = [_path_in(folder, _test_image(entry, file), file) for entry in _entries(content, "test", file)]
    if any(case_name(case.images[0]) != case.name for case in training):
        test = [_without_channel(path) or path for path in test]
    test_images = {path: _image_files(path) for path in test}
    return MsdDataset(
        folder=folder,
        name=_dataset_name(folder, content),
        channel_names=_channel_names(content, file),
        labels=_labels(content, file),
        file_ending=_common_ending(training, file),
        training=training,
        test_images={case_name(path): images for path, images in test_images.items() if images},
        missing_test_images=tuple(path for path, images in test_images.items() if not images),
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


def _training_cases(entries: list[Any], folder: Path) -> tuple[Case, ...]:
    """The cases; entries that name several channels of one case become one."""
    file = folder / "dataset.json"
    cases: dict[str, Case] = {}
    listed: dict[str, set[str]] = {}
    for entry in entries:
        case = _training_case(entry, folder)
        known = cases.setdefault(case.name, case)
        images = listed.setdefault(case.name, set())
        if known != case or entry["image"] in images:
            raise UserError(f"{file} lists the training case {case.name} twice; remove one of the entries.")
        images.add(entry["image"])
        check_case_name(case.name, folder)
    return tuple(cases.values())


def _training_case(entry: Any, folder: Path) -> Case:
    file = folder / "dataset.json"
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
        raise UserError(f"{file} has a training entry without 'image' and 'label' ({entry!r}); correct the entry.")
    image = _path_in(folder, entry["image"], file)
    label = _path_in(folder, entry["label"], file)
    without_channel = _without_channel(image)
    if without_channel is not None and case_name(label) == case_name(without_channel):
        image = without_channel
    images = _image_files(image)
    for path, exists in ((image, bool(images)), (label, label.is_file())):
        if not exists:
            raise UserError(f"{path} is listed in dataset.json and does not exist; download or extract it again.")
    return Case(name=case_name(image), images=images, label=label)


def _without_channel(image: Path) -> Path | None:
    """``CASE.nii.gz`` for ``CASE_0000.nii.gz``; None for a name without the number of a channel."""
    name = case_name(image)
    match = re.fullmatch(r"(.+)_\d{4}", name)
    return image.with_name(match[1] + image.name[len(name) :]) if match else None


def _image_files(image: Path) -> tuple[Path, ...]:
    """The listed file, or nnU-Net's files for its channels; empty if neither exists."""
    if image.is_file():
        return (image,)
    name = case_name(image)
    ending = image.name[len(name) :]
    files: list[Path] = []
    while (file := image.with_name(f"{name}_{len(files):04d}{ending}")).is_file():
        files.append(file)
    return tuple(files)


def _test_image(entry: Any, file: Path) -> str:
    path = entry.get("image") if isinstance(entry, dict) else entry
    if not isinstance(path, str):
        raise UserError(f"{file} has a test entry that is not a path ({entry!r}); correct the entry.")
    return path


def _path_in(folder: Path, relative: str, file: Path) -> Path:
    # nnU-Net expands $NAME in the paths of its dataset.json; a real dollar sign would be mangled.
    if "$" in str(folder / relative):
        raise UserError(f"{file} names the path {folder / relative}, which has a $ in it; rename it without the $.")
    # Written on Windows; a backslash in a file's name is rarer still.
    return folder / relative.replace("\\", "/")


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
    if isinstance(declared, dict) and declared.get("background") in (0, "0"):
        declared = {str(value): name for name, value in declared.items()}  # as nnU-Net v2 writes them
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
