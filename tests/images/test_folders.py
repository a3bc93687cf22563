"""Which cases a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.folders import find_volumes, require_cases


def test_find_volumes_and_require_cases(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "notes.txt", ".c.nii.gz", "summary.json", "a.npz"):
        (tmp_path / name).touch()
    found = find_volumes(tmp_path, what="label maps")
    assert {name: path.name for name, path in found.items()} == {"a": "a.nrrd", "b": "b.nii.gz"}
    require_cases(["a"], found, folder=tmp_path, what="label map")
    with pytest.raises(UserError, match=r"no label map for 7 case\(s\): c0, c1, c2, c3, c4, \.\.\.;"):
        require_cases([f"c{i}" for i in range(7)], found, folder=tmp_path, what="label map")
