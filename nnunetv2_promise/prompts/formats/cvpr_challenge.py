"""Clicks and boxes of the CVPR 2025 challenge on interactive 3D segmentation (``.npz``).

Its evaluation script writes ``clicks`` (for each class a dictionary of ``fg`` and ``bg``), ``clicks_order`` and
``boxes``. They are Python objects, which numpy stores as pickles; a pickle can run code. So they are read by an
unpickler that makes numpy arrays and numbers, lists and dictionaries, and nothing else.
Clicks are array indices, the first axis (z) first, although the script's comments call them [x, y, z].
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.formats.click_list import ClickFile, ClickList, NamedPoint, to_point
from nnunetv2_promise.prompts.schema import Box

_BOX_KEYS = ("z_mid_x_min", "z_mid_y_min", "z_min", "z_mid_x_max", "z_mid_y_max", "z_max")
_SIGNS = {"fg": True, "bg": False}
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
}


def read_challenge_npz(path: Path) -> ClickFile:
    """Read clicks and boxes; each class is a list, in the order of its label in the challenge's label map.

    Raises:
        UserError: If it is not such a file, or holds objects other than numbers, text, lists and dictionaries.
    """
    clicks = _read_objects(path, "clicks")
    boxes = _read_objects(path, "boxes")
    orders = _read_objects(path, "clicks_order")
    if clicks is None and boxes is None:
        raise UserError(f"{path} has neither 'clicks' nor 'boxes'; name a file of the challenge's evaluation.")
    classes = max(len(values) for values in (clicks, boxes) if values is not None)
    return ClickFile("voxel", tuple(_class(clicks, orders, boxes, number, path) for number in range(classes)))


def _class(
    clicks: Sequence[Any] | None, orders: Sequence[Any] | None, boxes: Sequence[Any] | None, number: int, path: Path
) -> ClickList:
    try:
        given = {} if clicks is None else dict(clicks[number])
        order = [str(sign) for sign in orders[number]] if orders is not None else None
        box = None if boxes is None else _box(boxes[number])
        left = {sign: [list(voxel)[::-1] for voxel in given.get(sign, [])] for sign in _SIGNS}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: the clicks or the box of class {number + 1} cannot be read ({error!r}).") from error
    usual = [sign for sign, voxels in left.items() for _ in voxels]
    if order is None or sorted(order) != sorted(usual):
        order = usual
    points = [
        NamedPoint(to_point(left[sign].pop(0), path, row), sign, _SIGNS[sign])
        for row, sign in enumerate(order, start=1)
    ]
    return ClickList(tuple(points), box)


def _box(edges: dict[str, Any]) -> Box:
    x0, y0, z0, x1, y1, z1 = (float(edges[key]) for key in _BOX_KEYS)
    return x0, y0, z0, x1, y1, z1


def _read_objects(path: Path, key: str) -> list[Any] | None:
    """The objects of one array of the archive; None if there is no such array."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{key}.npy" not in archive.namelist():
                return None
            file = io.BytesIO(archive.read(f"{key}.npy"))
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(file)
        if not dtype.hasobject:
            file.seek(0)
            return list(np.load(file, allow_pickle=False))
        return list(_PlainUnpickler(file).load())
    except UserError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: {key!r} cannot be read ({reason}); write the file again.") from error


class _PlainUnpickler(pickle.Unpickler):
    """Makes numpy arrays and numbers; built-in lists, dictionaries, numbers and text need no class."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that numpy's arrays and numbers are stored with.

        Raises:
            UnpicklingError: For every other name.
        """
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not clicks")
        return super().find_class(module, name)
