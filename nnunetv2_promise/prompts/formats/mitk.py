"""Point sets of MITK (``.mps``), as its ``PointSetWriterService`` writes them: XML, mm in LPS."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.formats.click_list import ClickFile, ClickList, NamedPoint, numbered, read_text


def read_point_set(path: Path) -> ClickFile:
    """Read an ``.mps``; each of its point sets is a list.

    Points are stored in the coordinates of their point set; where the file gives its geometry, they are moved into the
    world by it.

    Raises:
        UserError: If it is not such a file, or has more than one time step.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path} defines XML entities, which MITK does not write; export the point set again.")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not XML ({error}); export the point set from MITK again.") from error
    if root.tag != "point_set_file":
        raise UserError(f"{path} starts with <{root.tag}> and not with <point_set_file>; export a point set from MITK.")
    return ClickFile("LPS", tuple(_point_set(element, path) for element in root.iter("point_set")))


def _point_set(element: ElementTree.Element, path: Path) -> ClickList:
    steps = element.findall("time_series")
    if len(steps) > 1:
        raise UserError(f"{path} has {len(steps)} time steps; export the point set of one of them.")
    holder = steps[0] if steps else element
    points = [[point.findtext(axis) for axis in "xyz"] for point in holder.iter("point")]
    local = np.array(numbered(points, path), dtype=float).reshape(-1, 3)
    matrix, offset = _geometry(holder, path)
    return ClickList(tuple(NamedPoint((x, y, z)) for x, y, z in (local @ matrix.T + offset).tolist()))


def _geometry(holder: ElementTree.Element, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """3 x 3 matrix and offset (mm) from the point set's coordinates to the world."""
    geometry = next(holder.iter("Geometry3D"), None)
    matrix = None if geometry is None else geometry.find("IndexToWorld")
    offset = None if geometry is None else geometry.find("Offset")
    try:
        return (
            np.eye(3)
            if matrix is None
            else np.array([[float(matrix.attrib[f"m_{i}_{j}"]) for j in range(3)] for i in range(3)]),
            np.zeros(3) if offset is None else np.array([float(offset.attrib[axis]) for axis in "xyz"]),
        )
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path} has a Geometry3D that cannot be read ({error}); export the point set again."
        ) from error
