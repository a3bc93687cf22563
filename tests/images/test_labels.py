"""The labels that a ``dataset.json`` declares, and where it is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.labels import find_dataset_json, read_labels, require_dataset_json, scored_labels


def test_find_dataset_json_order(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    assert find_dataset_json(folder) is None
    with pytest.raises(UserError, match=r"No dataset.json in or above .*labels or .*images; name it with --dataset"):
        require_dataset_json(folder, tmp_path / "images")
    (tmp_path / "dataset.json").touch()
    assert find_dataset_json(folder) == require_dataset_json(folder) == tmp_path / "dataset.json"
    (folder / "dataset.json").touch()
    assert find_dataset_json(folder) == folder / "dataset.json"
    assert find_dataset_json(folder, named=tmp_path / "other.json") == tmp_path / "other.json"
    assert find_dataset_json(tmp_path / "elsewhere" / "images", folder) == folder / "dataset.json"


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (
            {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
            {"background": 0, "whole": (1, 2), "core": 2, "ignore": 3},
        ),
        (
            {"0": "background", "1": "Anterior", "2": "Posterior"},
            {"background": 0, "Anterior": 1, "Posterior": 2},
        ),
        ({"background": "0", "organ": "1"}, {"background": 0, "organ": 1}),
        ({"background": 0, "1": "2"}, {"background": 0, "1": 2}),
        ({"background": "0", "void": "-1"}, {"background": 0, "void": -1}),
    ],
)
def test_read_labels_of_both_forms(declared: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": declared}))
    assert read_labels(path) == expected
    assert list(read_labels(path)) == list(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], "has no 'labels' that map names to values"),
        ({}, "has no 'labels' that map names to values"),
        ({"labels": {}}, "has no 'labels' that map names to values"),
        ({"labels": ["tumour"]}, "has no 'labels' that map names to values"),
        ({"labels": {"background": 0, "tumour": 1.5}}, "label 'tumour' has the value 1.5; it must be a whole number"),
        ({"labels": {"background": 0, "tumour": "one"}}, "label 'tumour' has the value 'one'"),
        ({"labels": {"zero": "background"}}, "label 'background' has the value 'zero'"),
    ],
)
def test_read_labels_bad_content_is_one_sentence(content: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=expected):
        read_labels(path)


def test_scored_labels_are_all_but_background_and_ignore() -> None:
    declared = {"background": 0, "air": 0, "whole": (1, 2), "core": 2, "ignore": 3}
    assert scored_labels(declared) == {"whole": (1, 2), "core": 2}
