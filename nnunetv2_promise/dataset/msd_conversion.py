"""Making an nnU-Net dataset from an MSD folder without copying its images."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.dataset.case_checks import CaseReport, check_cases
from nnunetv2_promise.dataset.environment import known_datasets, nnunet_folder
from nnunetv2_promise.dataset.label_choice import LabelChoice, choose_labels, merge_labels
from nnunetv2_promise.dataset.msd import Case, MsdDataset, read_msd_dataset
from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, file_stamp, read_json, write_json
from nnunetv2_promise.images.reading import read_header, read_image, read_label_map

_logger = logging.getLogger(__name__)

# Where we note in dataset.json what the dataset was made from; nnU-Net ignores the key.
ORIGIN_KEY = "promise"
_STAMPS_KEY = "source_files_sha256"


@dataclass(frozen=True)
class _CaseTask:
    case: Case
    folder: Path
    file_ending: str
    split: bool
    source_values: tuple[int, ...] | None


def convert_msd(
    source: Path | str, dataset_id: int, *, labels: Sequence[str] | None = None, num_processes: int = 1
) -> str:
    """Check an MSD folder and make ``nnUNet_raw/DatasetXXX_Name`` from it.

    The images stay where they are: nnU-Net's ``dataset`` key in ``dataset.json`` points at them. 4D images are split
    into one file per channel, labels are rewritten only if ``labels`` merges or drops some. Test images appear in
    ``imagesTs`` as links with nnU-Net's names. A second call with the same arguments takes again what was made from
    training files that have changed since, by size or time, and nothing else.

    Args:
        source: The extracted MSD folder.
        dataset_id: nnU-Net's number of the new dataset, 1 to 999.
        labels: Names or numbers of the labels to merge into one foreground label; None keeps all.
        num_processes: Number of worker processes.

    Returns:
        The name of the dataset.

    Raises:
        UserError: If the MSD folder has a problem, or the number is taken by another dataset.
    """
    raw = nnunet_folder("nnUNet_raw")
    msd = read_msd_dataset(source)
    choice = choose_labels(msd.labels, labels, msd.folder / "dataset.json")
    name = f"Dataset{dataset_id:03d}_{msd.name}"
    origin = _origin(msd, choice)
    exists = _is_made_already(name, dataset_id, origin)
    reports = check_cases(
        msd.training,
        channels=len(msd.channel_names),
        label_values=tuple(msd.labels.values()),
        num_processes=num_processes,
    )
    _count_cases_without_label(reports, msd, choice)
    if exists:
        _logger.info("%s exists already, made from the same source; using it.", raw / name)
        _write_changed_cases(raw / name, msd, choice, reports, num_processes)
        return name
    with _folder_in_the_making(raw / name) as folder:
        _fill(folder, msd, choice, reports, origin, num_processes)
    _logger.info("Made %s: %d training and %d test cases.", raw / name, len(msd.training), len(msd.test_images))
    return name


def _origin(msd: MsdDataset, choice: LabelChoice) -> dict[str, Any]:
    return {
        "source": os.path.realpath(msd.folder),
        "source_dataset_json_sha256": msd.digest,
        "labels": choice.labels,
        "merged_source_values": None if choice.source_values is None else list(choice.source_values),
    }


def _is_made_already(name: str, dataset_id: int, origin: dict[str, Any]) -> bool:
    others = [other for other in known_datasets(dataset_id) if other != name]
    if others:
        raise UserError(f"Dataset number {dataset_id:03d} is taken by {others[0]}; choose another with -d.")
    raw = nnunet_folder("nnUNet_raw") / name
    preprocessed = nnunet_folder("nnUNet_preprocessed") / name
    for folder in (raw, preprocessed):
        file = folder / "dataset.json"
        if not folder.is_dir() or (folder == preprocessed and not file.is_file()):
            continue
        content = read_json(file) if file.is_file() else None
        if not isinstance(content, dict) or _without_stamps(content.get(ORIGIN_KEY)) != origin:
            raise UserError(
                f"{folder} exists and was made from another source, other labels or an earlier version; "
                "remove it or choose another number with -d."
            )
    return raw.is_dir()


def _without_stamps(origin: Any) -> Any:
    return {key: value for key, value in origin.items() if key != _STAMPS_KEY} if isinstance(origin, dict) else origin


def _write_changed_cases(
    folder: Path, msd: MsdDataset, choice: LabelChoice, reports: Sequence[CaseReport], num_processes: int
) -> None:
    """Write those cases again that were made from files that have been replaced or corrected since."""
    content = read_json(folder / "dataset.json")
    stamps = _stamps(msd)
    known = content[ORIGIN_KEY].get(_STAMPS_KEY, {})
    changed = [name for name, stamp in stamps.items() if known.get(name) != stamp]
    if not changed:
        return
    tasks = [task for task in _tasks(folder, msd, choice, reports) if task.case.name in changed]
    entries = _write_cases(tasks, num_processes)
    for name, images in msd.test_images.items():
        if _test_key(name) in changed:
            _link_test_image(name, images, folder / "imagesTs", msd)
    content["dataset"].update({task.case.name: entry for task, entry in zip(tasks, entries, strict=True)})
    content[ORIGIN_KEY][_STAMPS_KEY] = stamps
    write_json(content, folder / "dataset.json")
    _logger.info("%d case(s) of %s have changed and are taken again: %s.", len(changed), msd.folder, ", ".join(changed))


def _stamps(msd: MsdDataset) -> dict[str, str]:
    training = {case.name: file_stamp(*case.images, case.label) for case in msd.training}
    return training | {_test_key(name): file_stamp(*images) for name, images in msd.test_images.items()}


def _test_key(name: str) -> str:
    return f"imagesTs/{name}"


def _tasks(folder: Path, msd: MsdDataset, choice: LabelChoice, reports: Sequence[CaseReport]) -> list[_CaseTask]:
    return [
        _CaseTask(case, folder, msd.file_ending, report.is_4d, choice.source_values)
        for case, report in zip(msd.training, reports, strict=True)
    ]


def _write_cases(tasks: Sequence[_CaseTask], num_processes: int) -> list[dict[str, Any]]:
    if any(task.split or task.source_values is not None for task in tasks):
        return map_cases(_write_case, tasks, num_processes=num_processes, description="Writing cases")
    return [_write_case(task) for task in tasks]


def _count_cases_without_label(reports: Sequence[CaseReport], msd: MsdDataset, choice: LabelChoice) -> None:
    wanted = choice.source_values or tuple(value for value in msd.labels.values() if value != 0)
    empty = [report.name for report in reports if not set(report.label_values) & set(wanted)]
    if len(empty) == len(reports):
        raise UserError(f"No training case of {msd.folder} has the chosen label; choose another with --labels.")
    if empty:
        _logger.warning("%d of %d cases have none of the labels: %s.", len(empty), len(reports), ", ".join(empty))


@contextmanager
def _folder_in_the_making(target: Path) -> Iterator[Path]:
    """A folder that becomes ``target`` on success and is removed on failure; leftovers of a killed run are removed."""
    temporary = target.parent / f".partial_{target.name}"
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(
    folder: Path,
    msd: MsdDataset,
    choice: LabelChoice,
    reports: Sequence[CaseReport],
    origin: dict[str, Any],
    num_processes: int,
) -> None:
    stamps = _stamps(msd)
    tasks = _tasks(folder, msd, choice, reports)
    entries = _write_cases(tasks, num_processes)
    for name, images in msd.test_images.items():
        _link_test_image(name, images, folder / "imagesTs", msd)
    if msd.missing_test_images:
        _logger.warning("%d test images of %s do not exist and are left out.", len(msd.missing_test_images), msd.folder)
    content = {
        "name": msd.name,
        **msd.credits,
        "channel_names": msd.channel_names,
        "labels": choice.labels,
        "numTraining": len(msd.training),
        "file_ending": msd.file_ending,
        ORIGIN_KEY: {**origin, _STAMPS_KEY: stamps},
        "dataset": {task.case.name: entry for task, entry in zip(tasks, entries, strict=True)},
    }
    write_json(content, folder / "dataset.json")


def _write_case(task: _CaseTask) -> dict[str, Any]:
    """Write what cannot stay in the MSD folder; the entry of the case for nnU-Net's ``dataset`` key."""
    images = [str(image) for image in task.case.images]
    label = str(task.case.label)
    if task.split:
        channels = split_channels(task.case.images[0], task.folder / "imagesTr", task.case.name, task.file_ending)
        images = [f"imagesTr/{path.name}" for path in channels]
    if task.source_values is not None:
        label = f"labelsTr/{task.case.name}{task.file_ending}"
        _write_merged_label(task.case.label, task.folder / label, task.source_values)
    return {"images": images, "label": label}


def split_channels(image_file: Path, folder: Path, name: str, file_ending: str) -> list[Path]:
    """Write each channel of a 4D image as ``{name}_0000``, ``{name}_0001``, ... and return the paths.

    Geometry and voxel type are kept.
    """
    image = read_image(image_file)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for channel in range(image.GetSize()[3]):
        volume = sitk.Extract(
            image,
            [*image.GetSize()[:3], 0],
            [0, 0, 0, channel],
            sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX,
        )
        paths.append(folder / f"{name}_{channel:04d}{file_ending}")
        with atomic_path(paths[-1]) as temporary:
            sitk.WriteImage(volume, str(temporary), True)
    return paths


def _write_merged_label(source: Path, target: Path, source_values: tuple[int, ...]) -> None:
    label_zyx, geometry = read_label_map(source)
    merged = sitk.GetImageFromArray(merge_labels(label_zyx, source_values))
    geometry.apply_to(merged)
    with atomic_path(target) as temporary:
        sitk.WriteImage(merged, str(temporary), True)


def _link_test_image(name: str, images: Sequence[Path], folder: Path, msd: MsdDataset) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    headers = [read_header(image) for image in images]
    channels = sum(header.channels for header in headers)
    if channels != len(msd.channel_names):
        raise UserError(
            f"{images[0]} has {channels} channels and dataset.json declares {len(msd.channel_names)}; "
            "correct one of them."
        )
    if headers[0].is_4d:
        split_channels(images[0], folder, name, msd.file_ending)
        return
    for channel, image in enumerate(images):
        _link_or_copy(image, folder / f"{name}_{channel:04d}{msd.file_ending}")


def _link_or_copy(image: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(image)
    except OSError:  # some file systems know no links
        shutil.copyfile(image, target)
