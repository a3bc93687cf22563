"""The prompt file: clicks by case, as JSON (``prompts.schema.json``), read, checked and written."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import write_json
from nnunetv2_promise.prompts.parsing import check_content, read_strict_json

Point = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float]

Coordinates = Literal["voxel", "LPS", "RAS"]
COORDINATES: tuple[str, ...] = get_args(Coordinates)
PROMPTS_VARIABLE = "nnUNet_prompts"
PROMPTS_NAME = "prompts.json"


@dataclass(frozen=True)
class Click:
    """One click.

    Attributes:
        point: (x, y, z), in the coordinates that the prompt file declares.
        positive: True on the object, False on what does not belong to it.
    """

    point: Point
    positive: bool


@dataclass(frozen=True)
class Prompt:
    """What a user showed of one object; at least one of points, negative points, box and scribbles is there.

    Every point is (x, y, z), in the coordinates that the prompt file declares.

    Attributes:
        label: Name of a foreground label in ``dataset.json``, or its number; see ``resolve_label``.
        points: Clicks on the object.
        negative_points: Clicks on what does not belong to it.
        order: In which order the clicks were made: one ``+`` for each of ``points``, one ``-`` for each of
            ``negative_points``. Empty: the points come first. See ``clicks``.
        box: (x0, y0, z0, x1, y1, z1), two opposite corners of a box along the image's voxel axes; both belong to it.
        scribbles: Lines drawn on the object, as the points that they run through.
        previous_mask: File with the mask to correct, relative to the prompt file's folder.
    """

    label: str | int
    points: tuple[Point, ...] = ()
    negative_points: tuple[Point, ...] = ()
    order: str = ""
    box: Box | None = None
    scribbles: tuple[tuple[Point, ...], ...] = ()
    previous_mask: str | None = None

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Positive and negative clicks in the order in which they were made."""
        positive, negative = iter(self.points), iter(self.negative_points)
        order = self.order or self._usual_order
        return tuple(Click(next(positive), True) if sign == "+" else Click(next(negative), False) for sign in order)

    @property
    def _usual_order(self) -> str:
        return "+" * len(self.points) + "-" * len(self.negative_points)

    def with_click(self, point: Point, *, positive: bool) -> Prompt:
        """The same prompt with one more click, the newest."""
        order = self.order or self._usual_order
        if positive:
            added = replace(self, points=(*self.points, point), order=order + "+")
        else:
            added = replace(self, negative_points=(*self.negative_points, point), order=order + "-")
        return added.in_usual_form()

    def in_usual_form(self) -> Prompt:
        """The same prompt without an order that says nothing."""
        return replace(self, order="") if self.order == self._usual_order else self


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

    def previous_mask_path(self, prompt: Prompt) -> Path | None:
        """Where the previous mask of one of the file's objects is; None if it has none."""
        return None if prompt.previous_mask is None else self.path.parent / prompt.previous_mask


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

    The file has version 1 where clicks on the objects are all there is, else version 2.

    Args:
        path: File to write; its folder is made.
        cases: Case identifier -> objects.
        coordinates: What the points mean.

    Raises:
        UserError: If the content departs from the schema, before anything is written.
    """
    path = Path(path)
    contents = {case: [_prompt_content(prompt) for prompt in prompts] for case, prompts in cases.items()}
    plain = all(item.keys() == {"label", "points"} for items in contents.values() for item in items)
    content = {"version": 1 if plain else 2, "coordinates": coordinates, "cases": contents}
    check_content(content, path)
    write_json(content, path)
    return _from_content(content, path)


def prompt_file_for(input_folder: Path | str) -> Path:
    """The prompt file of an input folder: ``$nnUNet_prompts`` if set, else ``prompts.json`` in the folder.

    Raises:
        UserError: If that file does not exist, or the variable names one and the folder has another.
    """
    named, own = os.environ.get(PROMPTS_VARIABLE), Path(input_folder) / PROMPTS_NAME
    path = Path(named) if named else own
    if path.is_file():
        if named and own.is_file() and not filecmp.cmp(path, own, shallow=False):
            raise UserError(
                f"The variable {PROMPTS_VARIABLE} names {path}, and {own} holds other prompts; unset the variable, or "
                "remove that file."
            )
        return path
    if named:
        raise UserError(f"The variable {PROMPTS_VARIABLE} names {path}, which is not a file; correct or unset it.")
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
    raise UserError(f"{where}: label {label!r} is not a foreground label of the dataset; use one of: {listed}.")


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
    return Prompt(
        label=item["label"] if isinstance(item["label"], str) else int(item["label"]),
        points=_to_points(item.get("points", ())),
        negative_points=_to_points(item.get("negative_points", ())),
        order=item.get("order", ""),
        box=_to_box(item["box"]) if "box" in item else None,
        scribbles=tuple(map(_to_points, item.get("scribbles", ()))),
        previous_mask=item.get("previous_mask"),
    ).in_usual_form()


def _to_points(points: Iterable[Sequence[float]]) -> tuple[Point, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in points)


def _to_box(corners: Sequence[float]) -> Box:
    x0, y0, z0, x1, y1, z1 = map(float, corners)
    return x0, y0, z0, x1, y1, z1


def _prompt_content(prompt: Prompt) -> dict[str, Any]:
    """The JSON of an object; what is empty is left out, and an order that says nothing."""
    content = {
        "label": prompt.label,
        "points": _point_content(prompt.points),
        "negative_points": _point_content(prompt.negative_points),
        "order": prompt.in_usual_form().order,
        "box": None if prompt.box is None else list(map(float, prompt.box)),
        "scribbles": list(map(_point_content, prompt.scribbles)),
        "previous_mask": prompt.previous_mask,
    }
    return {key: value for key, value in content.items() if value not in (None, "", [])}


def _point_content(points: Iterable[Point]) -> list[list[float]]:
    return [[float(value) for value in point] for point in points]
