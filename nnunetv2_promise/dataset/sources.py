"""Whether preprocessed data were made from the files that the dataset has now."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import file_stamp, read_json, write_json

_KEY = "files_sha256"


def stamp_of_dataset(raw: Path) -> str:
    """A digest of all training images and label maps of a folder in ``nnUNet_raw``, which changes when one changes."""
    cases = get_filenames_of_train_images_and_targets(str(raw))
    return file_stamp(*(path for name in sorted(cases) for path in (*cases[name]["images"], cases[name]["label"])))


def note_sources(preprocessed: Path, data_identifier: str, stamp: str) -> None:
    """Note what a folder of preprocessed cases was made from.

    Args:
        preprocessed: The dataset's folder in ``nnUNet_preprocessed``.
        data_identifier: The folder of the cases in it.
        stamp: What ``stamp_of_dataset`` said before preprocessing began.
    """
    write_json({_KEY: stamp}, _note(preprocessed, data_identifier))


def forget_sources(preprocessed: Path, data_identifier: str) -> None:
    """Take back the note of a folder of preprocessed cases, since the folder is removed."""
    _note(preprocessed, data_identifier).unlink(missing_ok=True)


def require_same_sources(preprocessed: Path, data_identifier: str) -> None:
    """Check that no image or label map changed since it was preprocessed.

    Without ``nnUNet_raw``, which training does not need, and for data that stock nnU-Net preprocessed, nothing is known
    and nothing is checked.

    Raises:
        UserError: If one changed.
    """
    note = _note(preprocessed, data_identifier)
    raw = Path(os.environ.get("nnUNet_raw", "")) / preprocessed.name
    if not note.is_file() or not (raw / "dataset.json").is_file():
        return
    try:
        same = read_json(note).get(_KEY) == stamp_of_dataset(raw)
    except FileNotFoundError:
        same = False
    if not same:
        raise UserError(
            f"Images or label maps of {raw} changed after {preprocessed / data_identifier} was made of them; call "
            "nnUNetv2_promise_plan_and_preprocess again, with the options of the first time."
        )


def _note(preprocessed: Path, data_identifier: str) -> Path:
    return preprocessed / f"{data_identifier}_made_from.json"
