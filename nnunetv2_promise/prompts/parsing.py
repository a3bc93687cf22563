"""Strict JSON for prompt files, and sentences for what is wrong in one."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_promise.errors import UserError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

SCHEMA_NAME = "prompts.schema.json"
_EXPECTED = {
    "version": "1",
    "coordinates": "'voxel', 'LPS' or 'RAS'",
    "cases": "an object that maps each case identifier to a list of objects",
    "case": "a list of objects, each with a label and points",
    "object": 'an object like {"label": "tumour", "points": [[x, y, z]]}',
    "label": "the name of a label (text) or its number (an integer, at least 1)",
    "points": "a list of at least one point [x, y, z]",
    "point": "three numbers [x, y, z]",
    "coordinate": "a finite number",
    "file": 'an object with the keys "version", "coordinates" and "cases"',
}


def read_strict_json(path: Path) -> Any:
    """Read JSON in which no key stands twice in the same object.

    Raises:
        UserError: If the file is missing, is not JSON, or repeats a key; the sentence names it.
    """

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise UserError(f"{path} has the key {key!r} twice in one object; keep one of the two.")
            content[key] = value
        return content

    if path.is_dir():
        raise UserError(f"{path} is a folder where a prompt file is needed; name the JSON file.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=refuse_duplicates)
    except FileNotFoundError as error:
        raise UserError(f"Prompt file {path} does not exist; check the path.") from error
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"Prompt file {path} is not valid JSON ({error}); mend or recreate the file.") from error


def check_content(content: Any, path: Path) -> None:
    """Check the content of a prompt file against the schema and for numbers that are not finite.

    Raises:
        UserError: With the first fault in the file.
    """
    if isinstance(content, dict) and isinstance(content.get("version"), int) and content["version"] != 1:
        raise UserError(
            f"Prompt file {path} has version {content['version']}, but this software reads version 1; "
            "write the file in version 1 or update the software."
        )
    error = next(_validator().iter_errors(content), None)
    if error is not None:
        raise UserError(f"{_location(path, list(error.absolute_path))}: {_fault(error)}.")
    for case, objects in content["cases"].items():
        for number, item in enumerate(objects):
            _check_finite(item["points"], path, ["cases", case, number, "points"])


def _check_finite(points: Sequence[Sequence[float]], path: Path, place: list[Any]) -> None:
    for number, point in enumerate(points):
        for value in point:
            try:
                finite = math.isfinite(value)
            except OverflowError:
                finite = False
            if not finite:
                raise UserError(
                    f"{_location(path, [*place, number])}: every coordinate must be a finite number, but "
                    f"{_short(point)} is given; write the place of the click."
                )


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    text = resources.files("nnunetv2_promise.prompts").joinpath(SCHEMA_NAME).read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _location(path: Path, place: list[Any]) -> str:
    """Where in the file: ``Prompt file p.json, case 'a', object 1, field 'points', point 2``."""
    words = [f"Prompt file {path}"]
    if place[:1] == ["cases"] and len(place) > 1:
        words.append(f"case {place[1]!r}")
        words += [f"object {place[2] + 1}"] if len(place) > 2 else []
        words += [f"field {place[3]!r}"] if len(place) > 3 else []
        words += [f"point {place[4] + 1}"] if len(place) > 4 else []
    elif place:
        words.append(f"field {place[0]!r}")
    return ", ".join(words)


def _kind(place: list[Any]) -> str:
    """What stands at a place of the file; a key of ``_EXPECTED``."""
    if not place:
        return "file"
    if place[0] != "cases":
        return str(place[0])
    kinds = ("cases", "case", "object", str(place[3]) if len(place) > 3 else "", "point", "coordinate")
    return kinds[len(place) - 1]


def _fault(error: ValidationError) -> str:
    kind = _kind(list(error.absolute_path))
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"the key {missing!r} is missing; it must be {_EXPECTED[missing]}"
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        return f"the key {unknown!r} is unknown; only {', '.join(map(repr, known))} may stand here"
    if error.validator == "minLength" and kind == "cases":
        return "a case identifier is empty; name the case"
    return f"{_short(error.instance)} is given, but it must be {_EXPECTED[kind]}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
