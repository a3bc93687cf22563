"""What every reader of a click file returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.schema import Box, Coordinates, Point


@dataclass(frozen=True)
class NamedPoint:
    """One click.

    Attributes:
        point: (x, y, z), in the coordinates of its file.
        name: What the file calls it; empty if it has no name.
        positive: Whether it is on the object; None where the format does not say.
    """

    point: Point
    name: str = ""
    positive: bool | None = None


@dataclass(frozen=True)
class ClickList:
    """Clicks that a file keeps together: a list of markups, a class of a challenge, or the whole file.

    Attributes:
        points: The clicks, in the order in which they were made where the format keeps it.
        box: (x0, y0, z0, x1, y1, z1), in the coordinates of the file.
    """

    points: tuple[NamedPoint, ...]
    box: Box | None = None


@dataclass(frozen=True)
class ClickFile:
    """The content of a click file.

    Attributes:
        coordinates: What its points mean; None where neither format nor file says, so that the user must.
        lists: Its lists of clicks, in the order of the file.
    """

    coordinates: Coordinates | None
    lists: tuple[ClickList, ...]


def to_point(values: Any, path: Path, number: int) -> Point:
    """Three numbers as a point.

    Args:
        values: What the file holds.
        path: The file, for the error sentence.
        number: Which point of the file it is, counted from 1.

    Raises:
        UserError: If they are not three numbers.
    """
    try:
        x, y, z = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}, point {number}: {values!r} is given, but a point is three numbers.") from error
    return x, y, z


def read_text(path: Path) -> str:
    """The text of a click file; a byte order mark is left out.

    Raises:
        UserError: If it is not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; export it from the viewer again.") from error


def numbered(values: Iterable[Any], path: Path) -> list[Point]:
    """A file's points, each checked by ``to_point``."""
    return [to_point(value, path, number) for number, value in enumerate(values, start=1)]
