"""The formats that can be converted; a new format is a module with a reader and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.formats.click_list import ClickFile
from nnunetv2_promise.prompts.formats.cvpr_challenge import read_challenge_npz
from nnunetv2_promise.prompts.formats.grand_challenge import read_clicks_json
from nnunetv2_promise.prompts.formats.mitk import read_point_set
from nnunetv2_promise.prompts.formats.napari import read_points_csv
from nnunetv2_promise.prompts.formats.slicer import read_fcsv, read_markups_json


@dataclass(frozen=True)
class Format:
    """A format of click files.

    Attributes:
        ending: How its files end.
        tool: Who writes it.
        read: Its reader; raises ``UserError`` for a file that is not of this format.
    """

    ending: str
    tool: str
    read: Callable[[Path], ClickFile]


FORMATS = (
    Format(".mrk.json", "3D Slicer", read_markups_json),
    Format(".fcsv", "3D Slicer before 4.11", read_fcsv),
    Format(".mps", "MITK", read_point_set),
    Format(".csv", "napari", read_points_csv),
    Format(".json", "Grand Challenge and autoPET", read_clicks_json),
    Format(".npz", "CVPR 2025 challenge", read_challenge_npz),
)
"""The first whose ending fits is taken."""


def format_of(path: Path) -> Format:
    """The format of a file, by its ending.

    Raises:
        UserError: If no format has this ending.
    """
    for known in FORMATS:
        if path.name.lower().endswith(known.ending):
            return known
    listed = ", ".join(f"{known.ending} ({known.tool})" for known in FORMATS)
    raise UserError(f"{path} has an ending that no format of clicks has; known are {listed}.")
