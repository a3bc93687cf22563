"""Clicks of Grand Challenge and of autoPET, in their two containers.

Grand Challenge's "Multiple points" have a name each; autoPET's first files map ``tumor`` and ``background`` to points.
Neither says what the numbers mean: autoPET writes voxels, Grand Challenge's viewer mm. The user must say it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.prompts.formats.click_list import ClickFile, ClickList, NamedPoint, numbered

_SIGNS = {"tumor": True, "background": False}


def read_clicks_json(path: Path) -> ClickFile:
    """Read either container; ``tumor`` and ``background`` are positive and negative clicks, other names are names.

    Raises:
        UserError: If it is neither.
    """
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("points"), list):
        named = [(item, str(item.get("name", ""))) for item in content["points"] if isinstance(item, dict)]
        places, names = [item.get("point") for item, _ in named], [name for _, name in named]
        if len(named) < len(content["points"]):
            raise UserError(f"{path} has points that are not objects with 'point' and 'name'; export the clicks again.")
    elif isinstance(content, dict) and content and content.keys() <= _SIGNS.keys():
        pairs = [(place, name) for name, group in content.items() for place in _listed(group, name, path)]
        places, names = [place for place, _ in pairs], [name for _, name in pairs]
    else:
        raise UserError(
            f"{path} is neither of Grand Challenge's type 'Multiple points' nor a file of autoPET with 'tumor' and "
            "'background'; name another file."
        )
    points = zip(numbered(places, path), names, strict=True)
    return ClickFile(None, (ClickList(tuple(NamedPoint(point, name, _SIGNS.get(name)) for point, name in points)),))


def _listed(group: Any, name: str, path: Path) -> list[Any]:
    if not isinstance(group, list):
        raise UserError(f"{path}: {name!r} must be a list of points.")
    return group
