"""Prompt files: what is accepted, what is refused and in which words."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
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
    """A file whose second object is changed; None removes a key."""
    item = {key: value for key, value in {**GOOD_OBJECT, **changes}.items() if value is not ...}
    return content(cases={"a": [GOOD_OBJECT, item]})


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
    "later version": (content(version=2), "has version 2, but this software reads version 1"),
    "version as text": (content(version="1"), "field 'version'"),
    "version as bool": (content(version=True), "field 'version': true is given"),
    "no coordinates": (without("coordinates"), "the key 'coordinates' is missing; it must be 'voxel', 'LPS' or 'RAS'"),
    "unknown coordinates": (content(coordinates="lps"), "field 'coordinates': \"lps\" is given"),
    "no cases": (without("cases"), "the key 'cases' is missing"),
    "cases as list": (content(cases=[]), "field 'cases'"),
    "unknown key at the top": (content(case={}), "the key 'case' is unknown"),
    "empty case identifier": (content(cases={"": []}), "a case identifier is empty"),
    "case as object": (content(cases={"a": GOOD_OBJECT}), "case 'a': .* must be a list of objects"),
    "object as point": (content(cases={"a": [[1, 2, 3]]}), "case 'a', object 1: .* must be an object like"),
    "object without label": (with_object(label=...), "case 'a', object 2: the key 'label' is missing"),
    "object without points": (with_object(points=...), "case 'a', object 2: the key 'points' is missing"),
    "object with unknown key": (with_object(name="x"), "object 2: the key 'name' is unknown; only 'label', 'points'"),
    "label empty": (with_object(label=""), "object 2, field 'label'"),
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
    "coordinate text": (with_point(1, 2, "3"), 'point 2: "3" is given, but it must be a finite number'),
    "coordinate null": (with_point(1, 2, None), "point 2: null is given"),
    "coordinate bool": (with_point(1, 2, True), "point 2: true is given"),
    "coordinate NaN": (with_point(1, 2, float("nan")), "object 2, field 'points', point 2: .*finite.*NaN"),
    "coordinate infinite": (with_point(1, float("-inf"), 3), "point 2: .*finite"),
    "coordinate beyond floats": (json.dumps(content()).replace("[1,", "[1e999,"), "point 1: .*finite"),
    "coordinate of 400 digits": (with_point(10**400, 2, 3), "point 2: .*finite"),
    "case twice": ('{"version": 1, "coordinates": "voxel", "cases": {"a": [], "a": []}}', "the key 'a' twice"),
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
prompts = st.builds(
    Prompt,
    label=st.one_of(st.integers(min_value=1, max_value=2**31), st.text(min_size=1)),
    points=st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=4).map(tuple),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    coordinates=st.sampled_from(COORDINATES),
    cases=st.dictionaries(st.text(min_size=1), st.lists(prompts, max_size=3).map(tuple), max_size=4),
)
def test_save_then_load_gives_the_same(tmp_path: Path, coordinates: Any, cases: Any) -> None:
    path = tmp_path / "p.json"
    saved = save_prompt_file(path, cases, coordinates=coordinates)
    assert load_prompt_file(path) == saved == PromptFile(path, coordinates, cases)


def test_save_bad_content_writes_nothing(tmp_path: Path) -> None:
    bad = {"a": [Prompt("t", ((1.0, float("nan"), 2.0),))]}
    with pytest.raises(UserError, match="finite"):
        save_prompt_file(tmp_path / "p.json", bad, coordinates="voxel")
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
    with pytest.raises(UserError, match=r"nnUNet_prompts names .*other\.json, which is no file"):
        prompt_file_for(tmp_path)
    named.touch()
    assert prompt_file_for(tmp_path) == named


def test_resolve_label_takes_name_and_number() -> None:
    assert resolve_label("tumour", LABELS) == 2
    assert resolve_label(1, LABELS) == 1
    assert resolve_label("whole", {"background": 0, "whole": [1]}) == 1


@pytest.mark.parametrize("label", ["kidney", "background", "ignore", 0, 3, 7, "2"])
def test_resolve_label_refuses_what_is_no_foreground(label: str | int) -> None:
    with pytest.raises(UserError, match=r"^p\.json, case 'a'.*use one of: 'liver' \(1\), 'tumour' \(2\)\.$"):
        resolve_label(label, LABELS, where="p.json, case 'a'")


def test_foreground_labels_leaves_out_regions_of_several_values() -> None:
    assert foreground_labels({"background": 0, "whole": [1, 2], "core": [2], "edge": 1}) == {"core": 2, "edge": 1}
