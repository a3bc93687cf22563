"""Markups of 3D Slicer: ``.mrk.json`` (Slicer 4.11 and later) and ``.fcsv`` (before).

Both are documented in Slicer's developer guide, "Markups". Points are in mm; the file says in which world.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.prompts.formats.click_list import ClickFile, ClickList, NamedPoint, read_text, to_point
from nnunetv2_promise.prompts.schema import Coordinates

_WORLDS: dict[str, Coordinates] = {"LPS": "LPS", "RAS": "RAS", "0": "RAS", "1": "LPS"}
"""Words and, in files of Slicer 4.10 and before, numbers for a world."""

_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID".split(",")


def read_markups_json(path: Path) -> ClickFile:
    """Read the point lists of a ``.mrk.json``; control points that were never placed are left out.

    Raises:
        UserError: If it is not such a file, holds a markup that is not a point list, or names another world or unit.
    """
    content = read_json(path)
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise UserError(f"{path} has no list 'markups'; save the point list in 3D Slicer as .mrk.json.")
    worlds = {_world(str(markup.get("coordinateSystem", "LPS")), path) for markup in markups}
    if len(worlds) > 1:
        raise UserError(f"{path} mixes LPS and RAS; save its point lists to files of their own.")
    return ClickFile(worlds.pop() if worlds else "LPS", tuple(_markup(markup, path) for markup in markups))


def _markup(markup: dict[str, Any], path: Path) -> ClickList:
    kind, units = markup.get("type"), markup.get("coordinateUnits", "mm")
    if kind != "Fiducial":
        raise UserError(f"{path} holds a markup of type {kind!r}; only point lists (Fiducial) are clicks.")
    if units not in ("mm", ["mm", "UCUM", "millimeter"], ["mm", "UCUM", "mm"]):
        raise UserError(f"{path} has coordinates in {units!r}; save the point list in mm.")
    points = []
    for number, control in enumerate(markup.get("controlPoints", []), start=1):
        if control.get("positionStatus", "defined") == "defined":
            points.append(NamedPoint(to_point(control.get("position"), path, number), str(control.get("label", ""))))
    return ClickList(tuple(points))


def read_fcsv(path: Path) -> ClickFile:
    """Read an ``.fcsv``.

    Raises:
        UserError: If the file does not name its world, or a row is not one of a point list.
    """
    lines = read_text(path).splitlines()
    header = [line.lstrip("# ").strip() for line in lines if line.startswith("#")]
    values = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in header if "=" in line)
    if "CoordinateSystem" not in values:
        raise UserError(f"{path} has no line '# CoordinateSystem = ...'; save the point list in 3D Slicer again.")
    columns = [name.strip() for name in values["columns"].split(",")] if "columns" in values else _COLUMNS
    if not {"x", "y", "z"} <= set(columns):
        raise UserError(f"{path} has the columns {', '.join(columns)}; x, y and z must be among them.")
    rows = csv.reader(line for line in lines if line.strip() and not line.startswith("#"))
    points = []
    for number, row in enumerate(rows, start=1):
        cells = dict(zip(columns, row, strict=False))
        position = to_point([cells.get(axis) for axis in "xyz"], path, number)
        points.append(NamedPoint(position, cells.get("label", "")))
    return ClickFile(_world(values["CoordinateSystem"], path), (ClickList(tuple(points)),))


def _world(name: str, path: Path) -> Coordinates:
    if name not in _WORLDS:
        raise UserError(f"{path} has the coordinate system {name!r}; save the points in LPS or RAS.")
    return _WORLDS[name]
