"""The cases of an image folder in nnU-Net's naming."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError


def find_cases(folder: Path, dataset_json: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Case -> one file for each channel, sorted by case.

    Args:
        folder: Holds ``CASE_0000.ending`` and so on.
        dataset_json: Gives the file ending and the number of channels.

    Raises:
        UserError: If the folder is missing or empty, or a case lacks a channel or has one too many.
    """
    if not folder.is_dir():
        raise UserError(f"-i {folder} is no folder; name the folder with the images.")
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
        expected = [f"{case}_{channel:04d}{ending}" for channel in range(channels)]
        if [file.name for file in files] != expected:
            raise UserError(
                f"Case '{case}' in {folder} has the files {', '.join(file.name for file in files)}; "
                f"the model needs {', '.join(expected)}."
            )
    return cases
