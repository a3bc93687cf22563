"""The prompt file: clicks by case, as JSON (``prompts.schema.json``), read, checked and written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import write_json
from nnunetv2_promise.prompts.parsing import check_content, read_strict_json

Coordinates = Literal["voxel", "LPS", "RAS"]
COORDINATES: tuple[str, ...] = get_args(Coordinates)
VERSION = 1
PROMPTS_VARIABLE = "nnUNet_prompts"
PROMPTS_NAME = "prompts.json"


@dataclass(frozen=True)
class Prompt:
    """The clicks on one object.

    Attributes:
        label: Name of a foreground label in ``dataset.json``, or its number; see ``resolve_label``.
        points: (x, y, z) each, in the coordinates that the prompt file declares; at least one.
    """

    label: str | int
    points: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class PromptFile:
    """A checked prompt file.

    Attributes:
        path: Where it was read from; error messages name it.
        coordinates: ``voxel`` (zero-based index of the image file), ``LPS`` or ``RAS`` (mm).
        cases: Case identifier -> objects to segment, in the order of the file; may be empty for a case.
    """

    path: Path
    coordinates: Coordinates
    cases: dict[str, tuple[Prompt, ...]]


def load_prompt_file(path: Path | str) -> PromptFile:
    """Read a prompt file and check it against the schema; labels and images are checked elsewhere.

    Raises:
        UserError: If the file is missing, is not JSON, names a case twice, or departs from the schema;
            the sentence names file, case, object and field (objects and points are counted from 1).
    """
    path = Path(path)
    content = read_strict_json(path)
    check_content(content, path)
    return _from_content(content, path)


def save_prompt_file(
    path: Path | str, cases: Mapping[str, Iterable[Prompt]], *, coordinates: Coordinates
) -> PromptFile:
    """Write a prompt file atomically; what is written passes ``load_prompt_file``.

    Args:
        path: File to write; its folder is made.
        cases: Case identifier -> objects.
        coordinates: What the points mean.

    Raises:
        UserError: If the content departs from the schema, before anything is written.
    """
    path = Path(path)
    content = {
        "version": VERSION,
        "coordinates": coordinates,
        "cases": {case: [_prompt_content(prompt) for prompt in prompts] for case, prompts in cases.items()},
    }
    check_content(content, path)
    write_json(content, path)
    return _from_content(content, path)


def prompt_file_for(input_folder: Path | str) -> Path:
    """The prompt file of an input folder: ``$nnUNet_prompts`` if set, else ``prompts.json`` in the folder.

    Raises:
        UserError: If that file does not exist.
    """
    named = os.environ.get(PROMPTS_VARIABLE)
    path = Path(named) if named else Path(input_folder) / PROMPTS_NAME
    if path.is_file():
        return path
    if named:
        raise UserError(f"The variable {PROMPTS_VARIABLE} names {path}, which is no file; correct or unset it.")
    raise UserError(
        f"{path} does not exist and the variable {PROMPTS_VARIABLE} is not set; "
        f"write the prompts to that file or set {PROMPTS_VARIABLE} to the path of a prompt file."
    )


def resolve_label(
    label: str | int, labels: Mapping[str, int | Sequence[int]], *, where: str = "The prompt file"
) -> int:
    """The value that a prompt's label has in segmentations.

    Args:
        label: Name or value, as in the prompt file.
        labels: ``labels`` of ``dataset.json``: name -> value, or a list of values (a region).
        where: Start of the error sentence, such as ``"prompts.json, case 'a', object 1"``.

    Returns:
        The value of a foreground label, 1 or more.

    Raises:
        UserError: If the label is unknown, is the background or the ignore label, or is a region of several
            values; the sentence lists the known labels.
    """
    known = foreground_labels(labels)
    value = known.get(label) if isinstance(label, str) else label
    if value is not None and value in known.values():
        return value
    listed = ", ".join(f"{name!r} ({number})" for name, number in known.items()) or "none"
    raise UserError(f"{where}: label {label!r} is no foreground label of the dataset; use one of: {listed}.")


def foreground_labels(labels: Mapping[str, int | Sequence[int]]) -> dict[str, int]:
    """The labels that a prompt may ask for: ``labels`` of ``dataset.json`` without background, ignore and regions.

    A region of exactly one value counts as that value.
    """
    foreground: dict[str, int] = {}
    for name, value in labels.items():
        values = [int(value)] if isinstance(value, int) else [int(v) for v in value]
        if name not in ("background", "ignore") and len(values) == 1 and values[0] > 0:
            foreground[name] = values[0]
    return foreground


def _from_content(content: dict[str, Any], path: Path) -> PromptFile:
    cases = {case: tuple(_to_prompt(item) for item in items) for case, items in content["cases"].items()}
    return PromptFile(path=path, coordinates=content["coordinates"], cases=cases)


def _to_prompt(item: dict[str, Any]) -> Prompt:
    label = item["label"] if isinstance(item["label"], str) else int(item["label"])
    return Prompt(label=label, points=tuple((float(x), float(y), float(z)) for x, y, z in item["points"]))


def _prompt_content(prompt: Prompt) -> dict[str, Any]:
    return {"label": prompt.label, "points": [[float(value) for value in point] for point in prompt.points]}
