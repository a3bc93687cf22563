"""Strict JSON for prompt files, and sentences for what is wrong in one."""

from __future__ import annotations

import functools
import json
import math
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_promise.errors import UserError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

SCHEMA_NAME = "prompts.schema.json"
VERSIONS = (1, 2)
POINT_LISTS = ("points", "negative_points")
_OF_VERSION_2 = ("negative_points", "order", "box", "scribbles", "previous_mask")
_STAND_IN = [[0, 0, 0]]
_EXPECTED = {
    "version": "1 or 2",
    "coordinates": "'voxel', 'LPS' or 'RAS'",
    "cases": "an object that maps each case identifier to a list of objects",
    "case": "a list of objects, each with a label and points",
    "object": 'an object like {"label": "tumour", "points": [[x, y, z]]}',
    "label": "the name of a label (text) or its number (an integer, at least 1)",
    "points": "a list of at least one point [x, y, z]",
    "negative_points": "a list of points [x, y, z]",
    "order": "a text of + and -, one for each click",
    "box": "six numbers [x0, y0, z0, x1, y1, z1]: two opposite corners",
    "scribbles": "a list of scribbles, each a list of points [x, y, z]",
    "scribble": "a list of at least one point [x, y, z]",
    "previous_mask": "the name of an image file (text)",
    "point": "three numbers [x, y, z], with decimal points",
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
    except UnicodeDecodeError as error:
        raise UserError(f"Prompt file {path} is not valid JSON, which is text in UTF-8; save it in UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"Prompt file {path} is not valid JSON ({error}); fix or recreate the file.") from error


def check_content(content: Any, path: Path) -> None:
    """Check the content of a prompt file against the schema, for numbers that are not finite, and for its order.

    Raises:
        UserError: With the first fault in the file.
    """
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, (int, float)) and not isinstance(version, bool) and version not in VERSIONS:
        raise UserError(
            f"Prompt file {path} has version {version}, but this software reads versions 1 and 2; "
            "write the file in one of them or update the software."
        )
    error = next(_validator().iter_errors(_abridged(content)), None)
    if error is not None:
        raise UserError(f"{_location(path, list(error.absolute_path))}: {_fault(error)}.")
    for case, objects in content["cases"].items():
        for number, item in enumerate(objects):
            _check_finite(item, path, ["cases", case, number])
            _check_order(item, path, ["cases", case, number])


def _abridged(content: Any) -> Any:
    """The content with one point in place of each list of plain points, as files hold them by the ten thousand.

    The schema judges what is left in full, at a tenth of the time.
    """
    cases = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(cases, dict):
        return content
    return content | {
        "cases": {
            case: [_abridged_object(item) for item in items] if isinstance(items, list) else items
            for case, items in cases.items()
        }
    }


def _abridged_object(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    return item | {key: _STAND_IN for key in POINT_LISTS if _are_plain_points(item.get(key))}


def _are_plain_points(value: Any) -> bool:
    return (
        type(value) is list
        and bool(value)
        and all(type(p) is list and len(p) == 3 and all(type(c) in (float, int) for c in p) for p in value)
    )


def _check_finite(item: dict[str, Any], path: Path, place: list[Any]) -> None:
    """Check every coordinate of an object."""
    lists: list[tuple[list[Any], list[list[Any]]]] = [([key], item.get(key, [])) for key in POINT_LISTS]
    lists += [(["scribbles", row], scribble) for row, scribble in enumerate(item.get("scribbles", []))]
    for field, points in lists:
        for number, point in enumerate(points):
            if not all(map(_is_finite, point)):
                raise UserError(
                    f"{_location(path, [*place, *field, number])}: every coordinate must be a finite number, but "
                    f"{_short(point)} is given; write the place of the click."
                )
    if not all(map(_is_finite, item.get("box", []))):
        raise UserError(
            f"{_location(path, [*place, 'box'])}: every coordinate must be a finite number, but "
            f"{_short(item['box'])} is given; write the corners."
        )


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _check_order(item: dict[str, Any], path: Path, place: list[Any]) -> None:
    """Check that the order names each click once."""
    order = item.get("order")
    if order is None:
        return
    counts = tuple(len(item.get(key, [])) for key in POINT_LISTS)
    if (order.count("+"), order.count("-")) != counts:
        raise UserError(
            f"{_location(path, [*place, 'order'])}: {_short(order)} is given, but the object has {counts[0]} points "
            f"and {counts[1]} negative_points; write one + for each of the former and one - for each of the latter."
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
        kinds = {"scribbles": ("scribble", "point"), "box": ("number",)}.get(str(place[3]) if len(place) > 3 else "")
        words += [f"{kind} {row + 1}" for kind, row in zip(kinds or ("point",), place[4:], strict=False)]
    elif place:
        words.append(f"field {place[0]!r}")
    return ", ".join(words)


def _kind(place: list[Any]) -> str:
    """What stands at a place of the file; a key of ``_EXPECTED``."""
    if not place:
        return "file"
    if place[0] != "cases":
        return str(place[0])
    field = str(place[3]) if len(place) > 3 else ""
    below = {"scribbles": ("scribble", "point", "coordinate"), "box": ("coordinate",)}
    kinds = ("cases", "case", "object", field, *below.get(field, ("point", "coordinate")))
    return kinds[len(place) - 1]


def _fault(error: ValidationError) -> str:
    kind = _kind(list(error.absolute_path))
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"the key {missing!r} is missing; it must be {_EXPECTED[missing]}"
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        if kind == "object" and unknown in _OF_VERSION_2:
            return f'the key {unknown!r} belongs to version 2; write "version": 2'
        return f"the key {unknown!r} is unknown; only {', '.join(map(repr, known))} may stand here"
    if error.validator == "anyOf":
        return "nothing says where the object is; give points, negative_points, a box or scribbles"
    if error.validator == "minLength" and kind == "cases":
        return "a case identifier is empty; name the case"
    return f"{_short(error.instance)} is given, but it must be {_EXPECTED[kind]}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
