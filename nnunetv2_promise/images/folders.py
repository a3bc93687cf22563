"""Which cases a folder of images or label maps holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError

_CHANGED_BY_ITK = re.compile(r"\.(nii|nia|hdr|img)(\.gz)?$", re.IGNORECASE)
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl", ".tif", ".tiff")
"""Endings of 3D images that nnU-Net's readers and SimpleITK know; the longest comes first."""


def find_volumes(folder: Path | str, *, what: str) -> dict[str, Path]:
    """The volumes of a folder by name without ending, sorted; hidden files are left out.

    Args:
        folder: Where to look; not below it.
        what: Plural noun for the error sentence, such as ``"label maps"``.

    Raises:
        UserError: If the folder is missing, holds no volume, or holds the same name with two endings.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"Folder {folder} does not exist; name the folder of the {what}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((e for e in ENDINGS if path.name.endswith(e)), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise UserError(f"{folder} has both {found[name].name} and {path.name}; keep one of the two.")
        found[name] = path
    if not found:
        raise UserError(f"{folder} has no {what} (files ending in {', '.join(ENDINGS)}); name another folder.")
    return found


def find_images(folder: Path | str, *, cases: Iterable[str] = ()) -> dict[str, Path]:
    """The first channel of each case of a folder; see ``find_channels``."""
    return {case: files[0] for case, files in find_channels(folder, cases=cases).items()}


def find_channels(folder: Path | str, *, cases: Iterable[str] = ()) -> dict[str, list[Path]]:
    """The channels of each case of a folder that has a first one, sorted.

    nnU-Net's names are ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, ...; where no file is named so, the names of the
    Medical Segmentation Decathlon, ``CASE.nii.gz``, are taken.

    Args:
        folder: Where to look; not below it.
        cases: Names of cases, as far as known. They decide where images in the Decathlon's form are numbered from
            0000 on: ``hippo_0000`` and ``hippo_0001`` are two cases if there is a case ``hippo_0001``.

    Raises:
        UserError: As ``find_volumes``.
    """
    volumes = find_volumes(folder, what="images")
    channels: dict[str, list[Path]] = {}
    if not any(case in volumes and not case.endswith("_0000") for case in cases):
        for name, path in volumes.items():
            match = re.fullmatch(r"(.+)_\d{4}", name)
            if match and f"{match[1]}_0000" in volumes:
                channels.setdefault(match[1], []).append(path)
    return channels or {name: [path] for name, path in volumes.items()}


def find_cases(folder: Path, dataset_json: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Case -> one file for each channel, sorted by case.

    Args:
        folder: Holds ``CASE_0000.ending`` and so on.
        dataset_json: Gives the file ending and the number of channels.

    Raises:
        UserError: If the folder is missing or empty, or a case lacks a channel or has one too many.
    """
    if not folder.is_dir():
        raise UserError(f"-i {folder} is not a folder; name the folder with the images.")
    ending = dataset_json["file_ending"]
    pattern = re.compile(r"(.+)_(\d{4})" + re.escape(ending))
    cases: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        match = pattern.fullmatch(file.name)
        if match and not file.name.startswith("."):
            cases.setdefault(match[1], []).append(file)
    if not cases:
        raise UserError(f"-i {folder} holds no image named CASE_0000{ending}; rename the images or correct the folder.")
    channels = len(dataset_json["channel_names"])
    for case, files in cases.items():
        check_case_name(case, folder)
        expected = [f"{case}_{channel:04d}{ending}" for channel in range(channels)]
        if [file.name for file in files] != expected:
            raise UserError(
                f"Case '{case}' in {folder} has the files {', '.join(file.name for file in files)}; "
                f"the model needs {', '.join(expected)}."
            )
    return cases


def check_case_name(case: str, folder: Path | str) -> None:
    """Check that ITK writes a file of this name under this name.

    Args:
        case: Name of a case, without channel number and ending.
        folder: Where the case comes from, for the message.

    Raises:
        UserError: If ITK would take the end of the name as a file ending, as with ``scan.nii``.
    """
    if _CHANGED_BY_ITK.search(case):
        raise UserError(
            f"Case '{case}' in {folder} ends like a NIfTI file, and ITK would write its results under another name; "
            f"rename it, for example to '{case.replace('.', '_')}'."
        )


def require_cases(cases: Iterable[str], available: Iterable[str], *, folder: Path | str, what: str) -> None:
    """Check that every case has a file.

    Args:
        cases: The cases that are needed.
        available: The cases that have a file in ``folder``.
        folder: Where the files were sought.
        what: Noun for the error sentence, such as ``"label map"``.

    Raises:
        UserError: That names up to five of the missing cases.
    """
    available = set(available)
    missing = sorted(set(cases) - available)
    numbered = [case for case in missing if f"{case}_0000" in available]
    if numbered:
        raise UserError(
            f"{folder} names the {what} of case {numbered[0]} '{numbered[0]}_0000'; only images carry the number of a "
            f"channel, rename it to '{numbered[0]}'."
        )
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(f"{folder} has no {what} for {len(missing)} case(s): {listed}; add or name the right files.")
