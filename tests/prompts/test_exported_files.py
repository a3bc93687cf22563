"""Prompt files as real exporters write them: read, or one sentence that names the cure; and 500 generated ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.check import check_prompts
from nnunetv2_promise.prompts.schema import load_prompt_file

SHAPE_ZYX = (20, 24, 30)
LABELS = {"background": 0, "organ": 1, "tumour": 2}
POINT = [26, 15, 13]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Case a; its voxels (x, y, z) reach (29, 23, 19)."""
    folder = tmp_path_factory.mktemp("exported") / "images"
    folder.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SHAPE_ZYX, np.float32)), str(folder / "a_0000.nii.gz"))
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    return folder


def content(points: Any = (POINT,), label: Any = "tumour", case: str = "a", **more: Any) -> dict[str, Any]:
    return {"version": 1, "coordinates": "voxel", "cases": {case: [{"label": label, "points": points}]}} | more


TEXT = json.dumps(content())
READ: dict[str, bytes] = {
    "byte order mark and CRLF": b"\xef\xbb\xbf" + TEXT.replace(",", ",\r\n").encode(),
    "label as 2.0": json.dumps(content(label=2.0)).encode(),
    "version as 1.0": json.dumps(content(version=1.0)).encode(),
    "umlaut in UTF-8": json.dumps(
        content(case="a") | {"cases": json.loads(TEXT)["cases"]}, ensure_ascii=False
    ).encode(),
    "point as floats": TEXT.replace("26", "26.0000000001").encode(),
}


@pytest.mark.parametrize("name", READ)
def test_file_is_read_with_the_right_values(name: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(READ[name])
    assert check_prompts(tmp_path / "p.json", images).problems == []
    (prompt,) = load_prompt_file(tmp_path / "p.json").cases["a"]
    assert prompt.label in ("tumour", 2)
    np.testing.assert_allclose(prompt.points, [POINT], atol=1e-6)


REFUSED: dict[str, tuple[bytes | dict | list, str]] = {
    "UTF-16": (TEXT.encode("utf-16"), "save it in UTF-8"),
    "Latin-1": (json.dumps(content(case="prüf"), ensure_ascii=False).encode("latin-1"), "save it in UTF-8"),
    "decimal commas": (TEXT.replace("[26, 15, 13]", "[26,5, 15,0, 13,0]").encode(), "numbers .*with decimal points"),
    "trailing comma": (TEXT.replace("]]", "]],").encode(), "is not valid JSON"),
    "numbers as text": (content([["26", "15", "13"]]), 'point 1: "26" is given, but it must be a finite number'),
    "label in other capitals": (content(label="Tumour"), r"label 'Tumour' is not a .*use one of: .*'tumour' \(2\)"),
    "label number as text": (content(label="2"), r"label '2' is not a .*'tumour' \(2\)"),
    "label as bool": (content(label=True), "true is given, but it must be the name of a label"),
    "coordinate as bool": (content([[True, 15, 13]]), "true is given, but it must be a finite number"),
    "point without its list": (content(POINT), "26 is given, but it must be three numbers"),
    "2D point": (content([[26, 15]]), r"\[26, 15\] is given, but it must be three numbers \[x, y, z\]"),
    "case with channel number": (content(case="a_0000"), "no image of that name; write 'a', the file's name without"),
    "case with ending": (content(case="a.nii.gz"), "no image of that name; write 'a'"),
    "case in capitals": (content(case="A"), "no image of that name; write 'a'"),
    "case with a space": (content(case="a "), "no image of that name; write 'a'"),
    "another case": (content(case="b"), "no image of that name$|no image of that name\\."),
    "coordinates in small letters": (content(coordinates="ras"), "must be 'voxel', 'LPS' or 'RAS'"),
    "version as text": (content(version="1"), '"1" is given, but it must be 1 or 2'),
    "huge number": (content([[1e300, 15, 13]]), r"\(1e\+300, 15, 13\) \(voxel\) lies outside of the image"),
    "negative index": (content([[-1, 15, 13]]), r"outside of the image: the image has \(30, 24, 20\) voxels"),
    "z, y, x": (content([[13, 15, 26]]), "outside of the image"),
    "no point": (content([]), "at least one point"),
    "list": ([POINT], "must be an object with the keys"),
    "3D Slicer's file": ({"@schema": "x", "markups": [{"type": "Fiducial"}]}, "the key 'version' is missing|'@schema'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_file_is_refused_with_its_cure(name: str, images: Path, tmp_path: Path) -> None:
    written, expected = REFUSED[name]
    (tmp_path / "p.json").write_bytes(written if isinstance(written, bytes) else json.dumps(written).encode())
    try:
        problems = check_prompts(tmp_path / "p.json", images).problems
    except UserError as error:
        problems = [str(error)]
    assert any(re.search(expected, problem) for problem in problems), problems
    assert all("\n" not in problem and "p.json" in problem for problem in problems)


numbers = st.one_of(st.integers(-50, 50), st.floats(), st.none(), st.booleans(), st.text(max_size=3))
points = st.one_of(st.lists(numbers, max_size=4), st.just(POINT), st.just(POINT), numbers)
fields = {
    "label": st.one_of(st.sampled_from(["tumour", "organ", "x", "", 1, 2, 9, 0, 1.5]), numbers),
    "points": st.one_of(st.lists(points, max_size=3), points),
    "negative_points": st.one_of(st.lists(points, max_size=3), points),
    "order": st.one_of(st.text("+-", max_size=4), numbers),
    "box": st.one_of(st.lists(numbers, min_size=5, max_size=7), st.just([0, 0, 0, 5, 5, 5]), numbers),
    "scribbles": st.one_of(st.lists(st.lists(points, max_size=3), max_size=2), points),
    "previous_mask": st.one_of(st.sampled_from(["a.nii.gz", ".", "images/a_0000.nii.gz", "\0"]), numbers),
    "other": numbers,
}
objects = st.one_of(st.fixed_dictionaries({}, optional=fields), points)
files = st.fixed_dictionaries(
    {},
    optional={
        "version": st.one_of(st.sampled_from([1, 1, 2, 2, 2, 3]), numbers),
        "coordinates": st.sampled_from(["voxel", "voxel", "LPS", "RAS", "x", None]),
        "cases": st.one_of(
            st.dictionaries(
                st.sampled_from(["a", "a", "b", "", "a_0000"]), st.one_of(st.lists(objects, max_size=3), points)
            ),
            numbers,
        ),
    },
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=files)
def test_no_generated_file_ends_in_anything_but_a_sentence(file: Any, images: Path) -> None:
    path = images.parent / "p.json"
    path.write_text(json.dumps(file))
    try:
        problems = check_prompts(path, images).problems
    except UserError as error:
        problems = [str(error)]
    assert all("\n" not in problem and problem.endswith(".") for problem in problems)
