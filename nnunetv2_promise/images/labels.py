"""The labels that a ``dataset.json`` declares, in nnU-Net's form and in that of the Medical Segmentation Decathlon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json

Labels = dict[str, int | tuple[int, ...]]


def find_dataset_json(*folders: Path | str, named: Path | str | None = None) -> Path | None:
    """The ``dataset.json`` that belongs to some folders of volumes.

    Args:
        *folders: For each of them, in turn, the folder itself and the one above are looked at.
        named: A file that the user named; wins.

    Returns:
        The file; None if there is none. A named file is returned whether or not it exists.
    """
    if named is not None:
        return Path(named)
    places = [place / "dataset.json" for folder in folders for place in (Path(folder), Path(folder).absolute().parent)]
    return next((place for place in places if place.is_file()), None)


def require_dataset_json(*folders: Path | str, named: Path | str | None = None) -> Path:
    """As ``find_dataset_json``, but the file must be there.

    Raises:
        UserError: If there is none.
    """
    path = find_dataset_json(*folders, named=named)
    if path is None:
        listed = " or ".join(str(folder) for folder in folders)
        raise UserError(f"No dataset.json in or above {listed}; name it with --dataset_json.")
    return path


def read_labels(path: Path | str) -> Labels:
    """Read the labels of a ``dataset.json``.

    Args:
        path: The file; ``labels`` maps names to values (nnU-Net) or values to names (Decathlon).

    Returns:
        Name -> value, or a tuple of values for a region, in the order of the file.

    Raises:
        UserError: If the file is missing, is not JSON, or has no usable ``labels``.
    """
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise UserError(f"{path} has no 'labels' that map names to values; fix the file or name another one.")
    decathlon = all(isinstance(value, str) and not value.lstrip("-").isdigit() for value in labels.values())
    pairs = [(value, key) for key, value in labels.items()] if decathlon else list(labels.items())
    return {str(name): _value(value, name, path) for name, value in pairs}


def scored_labels(declared: Labels) -> Labels:
    """The labels and regions that are segmented: all but background and ignore."""
    return {name: value for name, value in declared.items() if name not in ("background", "ignore") and value != 0}


def _value(value: Any, name: str, path: Path | str) -> int | tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    try:
        numbers = tuple(int(str(number)) for number in values)
    except ValueError as error:
        raise UserError(f"{path}: label {name!r} has the value {value!r}; it must be a whole number.") from error
    return numbers if isinstance(value, list) else numbers[0]
