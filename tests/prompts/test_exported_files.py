"""Prompt files as exporters write them, read or refused with their cure; and 500 generated ones, sound and damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from commands import only_error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunetv2_promise.cli.prompts import main
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
    assert main(["check", str(tmp_path / "p.json"), "-i", str(images)]) == 0
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
def test_file_is_refused_with_its_cure(
    name: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, expected = REFUSED[name]
    (tmp_path / "p.json").write_bytes(written if isinstance(written, bytes) else json.dumps(written).encode())
    assert main(["check", str(tmp_path / "p.json"), "-i", str(images)]) == 2
    printed = capsys.readouterr()
    assert "p.json" in only_error(printed.err)
    assert any(re.search(expected, line) for line in [*printed.out.splitlines(), only_error(printed.err)]), printed


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


inside = st.tuples(*(st.floats(-0.5, n - 0.5).filter(lambda value: value == value) for n in SHAPE_ZYX[::-1])).map(list)
sound_objects = st.fixed_dictionaries(
    {"label": st.sampled_from(["tumour", "organ", 1, 2, 2.0]), "points": st.lists(inside, min_size=1, max_size=4)},
    optional={
        "negative_points": st.lists(inside, max_size=3),
        "box": st.tuples(inside, inside).map(lambda corners: corners[0] + corners[1]),
        "scribbles": st.lists(st.lists(inside, min_size=1, max_size=3), max_size=2),
    },
)
sound_files = st.lists(sound_objects, max_size=3).map(
    lambda items: {"version": 2, "coordinates": "voxel", "cases": {"a": items}}
)


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """A sound file that was cut off, or in which some bytes were replaced, left out or written twice."""
    written = json.dumps(draw(sound_files)).encode()
    start = draw(st.integers(0, len(written) - 1))
    stop = min(start + draw(st.integers(0, 4)), len(written))
    return written[:start] + draw(
        st.one_of(
            st.just(b""),
            st.binary(max_size=3).map(lambda put: put + written[stop:]),
            st.just(written[start:]).map(lambda rest: rest[: stop - start] + rest),
        )
    )


def problems_of(written: bytes, images: Path) -> list[str]:
    """What the check says, whether it lists faults or refuses the file."""
    path = images.parent / "p.json"
    path.write_bytes(written)
    try:
        return check_prompts(path, images).problems
    except UserError as error:
        return [str(error)]


def assert_sentences(problems: list[str]) -> None:
    assert all("\n" not in problem and problem.endswith(".") for problem in problems)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=files)
def test_no_generated_file_ends_in_anything_but_a_sentence(file: Any, images: Path) -> None:
    assert_sentences(problems_of(json.dumps(file).encode(), images))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(written=damaged_bytes())
def test_no_damaged_file_ends_in_anything_but_a_sentence(written: bytes, images: Path) -> None:
    assert_sentences(problems_of(written, images))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=sound_files)
def test_sound_generated_files_have_no_problem_and_keep_their_points(file: dict[str, Any], images: Path) -> None:
    assert problems_of(json.dumps(file).encode(), images) == []
    loaded = load_prompt_file(images.parent / "p.json").cases["a"]
    assert [[list(point) for point in prompt.points] for prompt in loaded] == [
        item["points"] for item in file["cases"]["a"]
    ]
