"""The ways to click of a benchmark, and their prompt files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.benchmark.conditions import (
    Condition,
    click_conditions,
    robustness_conditions,
    write_prompts,
)
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.schema import load_prompt_file
from nnunetv2_promise.prompts.skipped import skipped_cases, skipped_file


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """``large`` has room for every condition, ``small`` for none that is 5 mm away; ``empty`` has no object."""
    large, small = np.zeros((9, 11, 60), np.uint8), np.zeros((4, 5, 6), np.uint8)
    large[2:6, 3:8, 2:12] = 1
    small[1:3, 1:4, 1:5] = 1
    small[0, 0, 0] = 2
    for folder, ending in (("images", "_0000"), ("labels", "")):
        (tmp_path / folder).mkdir()
        for case, array in (("large", large), ("small", small), ("empty", np.zeros((3, 4, 5), np.uint8))):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / f"{case}{ending}.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "tumour": 2}}))
    return tmp_path


def written(dataset: Path, condition: Condition) -> dict:
    output = dataset / condition.name / "prompts.json"
    write_prompts(
        condition,
        dataset / "images",
        dataset / "labels",
        output,
        per="component",
        dataset_json=dataset / "dataset.json",
    )
    assert load_prompt_file(output).coordinates == "voxel"
    return load_prompt_file(output).cases


def test_click_conditions() -> None:
    assert click_conditions([1, 2, 10], 7) == [
        Condition("clicks_1", points=1, seed=7, where="random", distance_mm=None),
        Condition("clicks_2", points=2, seed=7, where="random", distance_mm=None, nested=True),
        Condition("clicks_10", points=10, seed=7, where="random", distance_mm=None, nested=True),
    ]


@pytest.mark.parametrize("points", [[0], [1, 1], [3, -1]])
def test_click_conditions_bad_numbers_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="give different numbers, each 1 or more"):
        click_conditions(points, 0)


def test_robustness_conditions() -> None:
    conditions = robustness_conditions(5)
    assert [(c.name, c.seed, c.where, c.distance_mm) for c in conditions] == [
        ("seed1", 6, "random", None),
        ("seed2", 7, "random", None),
        ("seed3", 8, "random", None),
        ("seed4", 9, "random", None),
        ("border", 5, "border", None),
        ("outside_2mm", 5, "outside", 2.0),
        ("outside_5mm", 5, "outside", 5.0),
        ("wrong", 5, "wrong", 20.0),
    ]
    assert {condition.points for condition in conditions} == {1}
    assert [c.name for c in robustness_conditions(0, repeats=1)][:2] == ["seed1", "border"]


def test_write_prompts_number_of_clicks(dataset: Path) -> None:
    cases = {condition.points: written(dataset, condition) for condition in click_conditions([1, 10], 3)}
    for number, prompts in cases.items():
        assert [[len(p.points) for p in prompts[case]] for case in ("large", "small", "empty")] == [
            [number],
            [number] * 2,
            [],
        ]
    # Those who click once click where those begin who click ten times, on every object.
    for case in ("large", "small"):
        for one, ten in zip(cases[1][case], cases[10][case], strict=True):
            assert one.points == ten.points[:1]
    assert len(set(cases[10]["large"][0].points)) == 10


def test_write_prompts_conditions_click_elsewhere(dataset: Path) -> None:
    conditions = [*click_conditions([1], 3), *robustness_conditions(3)]
    clicks = [written(dataset, condition)["large"][0].points for condition in conditions]
    assert len(set(clicks)) == len(clicks)
    label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset / "labels" / "large.nii.gz")))
    values = [label_map[tuple(int(index) for index in reversed(points[0]))] for points in clicks]
    assert values == [1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_write_prompts_where_it_cannot_be_had_the_case_is_left_out(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside, wrong = (Condition(where, where=where, distance_mm=12.0) for where in ("outside", "wrong"))
    for condition in (outside, wrong):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            cases = written(dataset, condition)
        assert {case: len(prompts) for case, prompts in cases.items()} == {"empty": 0, "large": 1, "small": 0}
        skipped = skipped_cases(dataset / condition.name / "prompts.json")
        assert list(skipped) == ["small"]
        (message,) = caplog.messages
        assert skipped["small"] in message
        assert "case 'small', object 1 ('organ'): no voxel " in message


def test_write_prompts_again_forgets_what_was_left_out(dataset: Path) -> None:
    written(dataset, Condition("x", where="wrong"))
    assert skipped_file(dataset / "x" / "prompts.json").is_file()
    written(dataset, Condition("x"))
    assert not skipped_file(dataset / "x" / "prompts.json").exists()


def test_write_prompts_without_label_map_is_an_error(dataset: Path) -> None:
    (dataset / "labels" / "small.nii.gz").unlink()
    with pytest.raises(UserError, match=r"no label map for 1 case\(s\): small"):
        written(dataset, Condition("x"))
