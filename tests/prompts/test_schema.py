"""Prompt files: what is accepted, what is refused and in which words."""

from __future__ import annotations

import json
import os
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.schema import (
    COORDINATES,
    Prompt,
    PromptFile,
    foreground_labels,
    load_prompt_file,
    prompt_file_for,
    resolve_label,
    save_prompt_file,
)

GOOD_OBJECT = {"label": "tumour", "points": [[1, 2, 3]]}
LABELS = {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}


def content(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "coordinates": "voxel", "cases": {"a": [GOOD_OBJECT]}, **changes}


def with_object(**changes: Any) -> dict[str, Any]:
    """A file whose second object is changed; ... removes a key."""
    item = {key: value for key, value in {**GOOD_OBJECT, **changes}.items() if value is not ...}
    return content(cases={"a": [GOOD_OBJECT, item]})


def version_2(**changes: Any) -> dict[str, Any]:
    """A file of version 2 whose second object is changed; ... removes a key."""
    return with_object(**changes) | {"version": 2}


def with_point(*point: Any) -> dict[str, Any]:
    return with_object(points=[[1, 2, 3], list(point)])


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in content().items() if name != key}


BAD_FILES: dict[str, tuple[str | dict | list, str]] = {
    "empty file": ("", "is not valid JSON"),
    "not JSON": ("{'version': 1}", "is not valid JSON"),
    "cut off": (json.dumps(content())[:-3], "is not valid JSON"),
    "endless nesting": ("[" * 100_000, "is not valid JSON"),
    "list at the top": ([], r"\[\] is given, but it must be an object with the keys"),
    "no version": (without("version"), "the key 'version' is missing"),
    "later version": (content(version=3), "has version 3, but this software reads versions 1 and 2"),
    "version between": (content(version=1.5), "has version 1.5, but"),
    "version as text": (content(version="1"), "field 'version'"),
    "version as bool": (content(version=True), "field 'version': true is given"),
    "no coordinates": (without("coordinates"), "the key 'coordinates' is missing; it must be 'voxel', 'LPS' or 'RAS'"),
    "unknown coordinates": (content(coordinates="lps"), "field 'coordinates': \"lps\" is given"),
    "no cases": (without("cases"), "the key 'cases' is missing"),
    "cases as list": (content(cases=[]), r"field 'cases': \[\] is given, but it must be an object that maps each case"),
    "unknown key at the top": (content(case={}), "the key 'case' is unknown"),
    "empty case identifier": (content(cases={"": []}), "a case identifier is empty"),
    "case as object": (content(cases={"a": GOOD_OBJECT}), "case 'a': .* must be a list of objects"),
    "object as point": (content(cases={"a": [[1, 2, 3]]}), "case 'a', object 1: .* must be an object like"),
    "object without label": (with_object(label=...), "case 'a', object 2: the key 'label' is missing"),
    "object without points": (with_object(points=...), "case 'a', object 2: the key 'points' is missing"),
    "object with unknown key": (with_object(name="x"), "object 2: the key 'name' is unknown; only 'label', 'points'"),
    "label empty": (with_object(label=""), "object 2, field 'label': \"\" is given, but it must be the name of"),
    "label null": (with_object(label=None), "object 2, field 'label': null is given"),
    "label background": (with_object(label=0), "object 2, field 'label': 0 is given"),
    "label negative": (with_object(label=-1), "object 2, field 'label'"),
    "label fraction": (with_object(label=1.5), "object 2, field 'label': 1.5"),
    "label bool": (with_object(label=True), "object 2, field 'label': true"),
    "label list": (with_object(label=[1]), "object 2, field 'label'"),
    "no point": (with_object(points=[]), "object 2, field 'points': .* at least one point"),
    "point not in a list": (with_object(points=[1, 2, 3]), "field 'points', point 1: 1 is given"),
    "point with two numbers": (with_point(1, 2), r"field 'points', point 2: \[1, 2\] is given.*three numbers"),
    "point with four numbers": (with_point(1, 2, 3, 4), "field 'points', point 2"),
    "point of 100 numbers": (with_point(*range(1, 101)), r"point 2: \[1, 2, 3, .*\.\.\. is given.*three numbers"),
    "coordinate text": (with_point(1, 2, "3"), 'point 2: "3" is given, but it must be a finite number'),
    "coordinate null": (with_point(1, 2, None), "point 2: null is given"),
    "coordinate bool": (with_point(1, 2, True), "point 2: true is given"),
    "coordinate NaN": (with_point(1, 2, float("nan")), "object 2, field 'points', point 2: .*finite.*NaN"),
    "coordinate infinite": (with_point(1, float("-inf"), 3), "point 2: .*finite"),
    "coordinate beyond floats": (json.dumps(content()).replace("[1,", "[1e999,"), "point 1: .*finite"),
    "coordinate of 400 digits": (with_point(10**400, 2, 3), "point 2: .*finite"),
    "case twice": ('{"version": 1, "coordinates": "voxel", "cases": {"a": [], "a": []}}', "the key 'a' twice"),
    "later key in version 1": (
        with_object(negative_points=[[1, 2, 3]]),
        """key 'negative_points' belongs to version 2""",
    ),
    "version 2, unknown key": (
        version_2(name="x"),
        "object 2: the key 'name' is unknown; only 'label', 'points', 'neg",
    ),
    "version 1, key of another place": (with_object(point=[1, 2, 3]), "object 2: the key 'point' is unknown; only"),
    "version 2, key of another place": (version_2(version=2), "object 2: the key 'version' is unknown; only"),
    "nothing shown": (version_2(points=...), "object 2: nothing says where the object is; give points, negative"),
    "only empty lists": (version_2(points=[], negative_points=[], scribbles=[]), "nothing says where"),
    "only a mask": (version_2(points=..., previous_mask="m.nii.gz"), "nothing says where"),
    "negative point of two": (version_2(negative_points=[[0, 0, 0], [1, 2]]), "field 'negative_points', point 2: "),
    "negative point NaN": (version_2(negative_points=[[1, float("nan"), 2]]), "'negative_points', point 1: .*finite"),
    "order with other signs": (version_2(order="pn"), "field 'order': \"pn\" is given, but it must be a text of"),
    "order too short": (version_2(order=""), "field 'order': .* has 1 points and 0 negative_points; write one"),
    "order too long": (version_2(order="++"), "field 'order': .* has 1 points and 0 negative_points; write one"),
    "order names another kind": (version_2(order="-"), "has 1 points and 0 negative_points"),
    "box of five": (version_2(box=[1, 2, 3, 4, 5]), "field 'box': .* it must be six numbers"),
    "box of corners": (version_2(box=[[1, 2, 3], [4, 5, 6]] * 3), "field 'box', number 1: .* a finite number"),
    "box infinite": (version_2(box=[1, 2, 3, 4, 5, float("inf")]), "field 'box': every coordinate must be a finite"),
    "scribble of one level": (version_2(scribbles=[[1, 2, 3]]), "field 'scribbles', scribble 1, point 1: 1 is given"),
    "empty scribble": (version_2(scribbles=[[[1, 2, 3]], []]), "field 'scribbles', scribble 2: .* at least one point"),
    "scribble NaN": (version_2(scribbles=[[[1, 2, 3], [1, 2, float("nan")]]]), "scribble 1, point 2: .*finite"),
    "mask as number": (version_2(previous_mask=3), "field 'previous_mask': 3 is given, but it must be the name"),
    "mask without name": (version_2(previous_mask=""), "field 'previous_mask'"),
    "label twice": (json.dumps(content()).replace('"label"', '"label": 1, "label"'), "the key 'label' twice"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_load_bad_file_gives_one_sentence_with_the_place(name: str, tmp_path: Path) -> None:
    written, expected = BAD_FILES[name]
    path = tmp_path / "my_prompts.json"
    path.write_text(written if isinstance(written, str) else json.dumps(written))
    with pytest.raises(UserError, match=expected) as caught:
        load_prompt_file(path)
    message = str(caught.value)
    assert "my_prompts.json" in message
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400


def test_load_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.json does not exist"):
        load_prompt_file(tmp_path / "absent.json")


def test_load_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        load_prompt_file(tmp_path)


def test_load_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(UserError, match="is not valid JSON"):
        load_prompt_file(path)


def test_load_keeps_order_labels_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    cases = {"b": [{"label": 2.0, "points": [[1.5, 0, -3]]}, {"label": "x", "points": [[0, 0, 0], [1, 1, 1]]}], "a": []}
    path.write_text(json.dumps(content(coordinates="RAS", cases=cases)), encoding="utf-8-sig")
    loaded = load_prompt_file(path)
    assert loaded == PromptFile(
        path=path,
        coordinates="RAS",
        cases={
            "b": (Prompt(2, ((1.5, 0.0, -3.0),)), Prompt("x", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))),
            "a": (),
        },
    )
    assert list(loaded.cases) == ["b", "a"]
    assert isinstance(loaded.cases["b"][0].label, int)


finite = st.floats(allow_nan=False, allow_infinity=False)
labels = st.one_of(st.integers(min_value=1, max_value=2**31), st.text(min_size=1))


def point_lists(least: int) -> st.SearchStrategy:
    return st.lists(st.tuples(finite, finite, finite), min_size=least, max_size=4).map(tuple)


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    points, negative = draw(point_lists(0)), draw(point_lists(0))
    signs = ["+"] * len(points) + ["-"] * len(negative)
    prompt = Prompt(
        label=draw(labels),
        points=points,
        negative_points=negative,
        order="".join(draw(st.one_of(st.just([]), st.permutations(signs)))),
        box=draw(st.one_of(st.none(), st.tuples(*[finite] * 6))),
        scribbles=draw(st.lists(point_lists(1), max_size=2).map(tuple)),
        previous_mask=draw(st.one_of(st.none(), st.text(min_size=1))),
    ).in_usual_form()
    assume(prompt.points or prompt.negative_points or prompt.box or prompt.scribbles)
    return prompt


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    coordinates=st.sampled_from(COORDINATES),
    cases=st.dictionaries(st.text(min_size=1), st.lists(prompts(), max_size=3).map(tuple), max_size=4),
)
def test_save_then_load_gives_the_same(tmp_path: Path, coordinates: Any, cases: Any) -> None:
    path = tmp_path / "p.json"
    saved = save_prompt_file(path, cases, coordinates=coordinates)
    assert load_prompt_file(path) == saved == PromptFile(path, coordinates, cases)


@given(cases=st.dictionaries(st.text(min_size=1), st.lists(st.builds(Prompt, labels, point_lists(1)), max_size=2)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_save_writes_version_1_byte_for_byte_where_it_suffices(tmp_path: Path, cases: Any) -> None:
    objects = {
        case: [{"label": item.label, "points": list(map(list, item.points))} for item in items]
        for case, items in cases.items()
    }
    expected = json.dumps({"version": 1, "coordinates": "RAS", "cases": objects}, indent=2) + "\n"
    save_prompt_file(tmp_path / "p.json", cases, coordinates="RAS")
    assert (tmp_path / "p.json").read_bytes() == expected.encode()


def test_save_version_2_by_hand(tmp_path: Path) -> None:
    """Every key in its order, nothing that is empty."""
    ones, twos = (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)
    everything = Prompt("t", (ones, twos), (twos,), "+-+", (*ones, *twos), ((ones, twos),), "masks/a.nii.gz")
    save_prompt_file(tmp_path / "p.json", {"a": [everything, Prompt("t", (ones,))]}, coordinates="voxel")
    first, second = (list(map(str, [1] * 3)), list(map(str, [2] * 3)))
    text = "".join((tmp_path / "p.json").read_text().split()).replace(".0", "")
    one, two = "[" + ",".join(first) + "]", "[" + ",".join(second) + "]"
    assert text == (
        '{"version":2,"coordinates":"voxel","cases":{"a":[{"label":"t","points":['
        f'{one},{two}],"negative_points":[{two}],"order":"+-+","box":[1,1,1,2,2,2],"scribbles":[[{one},{two}]],'
        f'"previous_mask":"masks/a.nii.gz"}},{{"label":"t","points":[{one}]}}]}}}}'
    )


def test_clicks_keep_the_order_in_which_they_were_made() -> None:
    a, b, c, d = ((float(n), 0.0, 0.0) for n in range(4))
    prompt = Prompt("t", (a,)).with_click(b, positive=False).with_click(c, positive=True).with_click(d, positive=False)
    assert prompt == Prompt("t", (a, c), (b, d), "+-+-")
    assert [(click.point, click.positive) for click in prompt.clicks] == [(a, True), (b, False), (c, True), (d, False)]
    assert Prompt("t", (a,)).with_click(b, positive=True) == Prompt("t", (a, b))
    assert [click.point for click in Prompt("t", (a, b), (c,)).clicks] == [a, b, c]


def test_previous_mask_lies_beside_the_prompt_file(tmp_path: Path) -> None:
    prompt = Prompt("t", ((0.0, 0.0, 0.0),), previous_mask="masks/a.nii.gz")
    saved = save_prompt_file(tmp_path / "p.json", {"a": [prompt]}, coordinates="voxel")
    assert saved.previous_mask_path(prompt) == tmp_path / "masks" / "a.nii.gz"
    assert saved.previous_mask_path(Prompt("t", ((0.0, 0.0, 0.0),))) is None


def test_load_500_cases_of_5_objects_of_10_clicks_takes_a_second_or_two(tmp_path: Path) -> None:
    """Without the abridged check by the schema this takes three times as long; other processes may take time too."""
    points = tuple((float(n), n + 0.5, -float(n)) for n in range(10))
    cases = {f"case_{n}": [Prompt("tumour", points)] * 5 for n in range(500)}
    save_prompt_file(tmp_path / "p.json", cases, coordinates="LPS")
    before = time.process_time()
    assert load_prompt_file(tmp_path / "p.json").cases["case_499"][4].points == points
    assert time.process_time() - before < 2


def test_save_bad_content_writes_nothing(tmp_path: Path) -> None:
    bad = {"a": [Prompt("t", ((1.0, float("nan"), 2.0),))]}
    with pytest.raises(UserError, match="finite"):
        save_prompt_file(tmp_path / "p.json", bad, coordinates="voxel")
    with pytest.raises(UserError, match="object 1: nothing says where the object is"):
        save_prompt_file(tmp_path / "p.json", {"a": [Prompt("t")]}, coordinates="voxel")
    assert list(tmp_path.iterdir()) == []


def test_schema_in_the_package_is_valid_draft_2020_12() -> None:
    text = resources.files("nnunetv2_promise.prompts").joinpath("prompts.schema.json").read_text()
    schema = json.loads(text)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["coordinates"]["enum"] == list(COORDINATES)


def test_prompt_file_for_prefers_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, named = tmp_path / "prompts.json", tmp_path / "other.json"
    monkeypatch.delenv("nnUNet_prompts", raising=False)
    with pytest.raises(UserError, match=r"prompts\.json does not exist and the variable nnUNet_prompts is not set"):
        prompt_file_for(tmp_path)
    beside.touch()
    assert prompt_file_for(tmp_path) == beside
    monkeypatch.setenv("nnUNet_prompts", str(named))
    with pytest.raises(UserError, match=r"nnUNet_prompts names .*other\.json, which is not a file"):
        prompt_file_for(tmp_path)
    named.touch()
    assert prompt_file_for(tmp_path) == named  # both say the same
    named.write_text("{}")
    with pytest.raises(UserError, match=r"nnUNet_prompts names .*other\.json, and .*prompts\.json holds other prompts"):
        prompt_file_for(tmp_path)
    beside.write_text("[]")  # as long and as old, as files from an archive may be
    for path in (beside, named):
        os.utime(path, (0, 0))
    with pytest.raises(UserError, match=r"prompts\.json holds other prompts"):
        prompt_file_for(tmp_path)
    beside.unlink()
    assert prompt_file_for(tmp_path) == named


def test_resolve_label_takes_name_and_number() -> None:
    assert resolve_label("tumour", LABELS) == 2
    assert resolve_label(1, LABELS) == 1
    assert resolve_label("whole", {"background": 0, "whole": [1]}) == 1


@pytest.mark.parametrize("label", ["kidney", "background", "ignore", 0, 3, 7, "2"])
def test_resolve_label_refuses_what_is_no_foreground(label: str | int) -> None:
    with pytest.raises(UserError, match=r"^p\.json, case 'a'.*use one of: 'liver' \(1\), 'tumour' \(2\)\.$"):
        resolve_label(label, LABELS, where="p.json, case 'a'")


def test_foreground_labels_are_single_values_above_0() -> None:
    labels = {"background": 0, "air": 0, "void": -1, "whole": [1, 2], "core": [2], "edge": 1, "ignore": 3}
    assert foreground_labels(labels) == {"core": 2, "edge": 1}
