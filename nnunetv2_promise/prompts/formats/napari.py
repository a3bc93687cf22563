"""Points layers of napari, saved as CSV: array indices, the first axis first."""

from __future__ import annotations

import csv
from pathlib import Path

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.formats.click_list import ClickFile, ClickList, NamedPoint, read_text, to_point

_AXES_XYZ = ("axis-2", "axis-1", "axis-0")
"""napari counts array axes, (z, y, x) of the image as SimpleITK and scikit-image read it."""


def read_points_csv(path: Path) -> ClickFile:
    """Read the CSV of a points layer; a property ``label`` or ``name`` names its points.

    Raises:
        UserError: If it is not the CSV of a 3D points layer.
    """
    rows = list(csv.DictReader(read_text(path).splitlines()))
    columns = list(rows[0]) if rows else read_text(path).strip().split(",")
    axes = [name for name in columns if name and name.startswith("axis-")]
    if sorted(axes) != sorted(_AXES_XYZ):
        raise UserError(
            f"{path} has the columns {', '.join(map(str, columns))}; the CSV of a 3D points layer has "
            "index, axis-0, axis-1 and axis-2."
        )
    points = [
        NamedPoint(to_point([row[axis] for axis in _AXES_XYZ], path, number), row.get("label") or row.get("name") or "")
        for number, row in enumerate(rows, start=1)
    ]
    return ClickFile("voxel", (ClickList(tuple(points)),))
