"""Tables of scores keep their names and their undefined cells; single masks are scored against single objects."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from generated_msd import write_volume

from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.results import SCORE_COLUMNS, SYSTEM_COLUMNS
from nnunetv2_promise.benchmark.scores_of_clicks import score_object
from nnunetv2_promise.benchmark.scoring import (
    describe_objects,
    kind_of,
    prompts_of,
    read_scores,
    scored_cases,
    stands_in_tables,
    system_name,
    write_condition_scores,
)
from nnunetv2_promise.benchmark.settings import Training
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file
from nnunetv2_promise.prompts.skipped import write_skipped


def test_a_case_called_na_keeps_its_name_and_empty_cells_are_undefined(tmp_path: Path) -> None:
    written = pd.DataFrame(
        {
            "case": ["NA", "1", "nan"],
            "label": ["null", "tumour", "None"],
            "dice": [0.5, np.nan, 1.0],
            "hd95_mm": [np.nan] * 3,
            "holds_click": [True, False, True],
            "touches_edge": [True] * 3,
        }
    )
    written.to_csv(tmp_path / "scores.csv", index=False)
    found = read_scores(tmp_path / "scores.csv")
    assert found["case"].tolist() == ["NA", "1", "nan"]
    assert found["label"].tolist() == ["null", "tumour", "None"]
    np.testing.assert_array_equal(found["dice"], [0.5, np.nan, 1.0])
    assert found["hd95_mm"].isna().all()
    assert found["hd95_mm"].dtype == float
    assert found["holds_click"].tolist() == [True, False, True]
    assert found["touches_edge"].tolist() == [True] * 3


@pytest.mark.parametrize(
    ("condition", "kind", "points", "file", "is_system", "name"),
    [
        ("none", "none", 0, None, True, "T"),
        ("clicks_1", "clicks", 1, "clicks_1", True, "T, 1 click"),
        ("clicks_10", "clicks", 10, "clicks_10", True, "T, 10 clicks"),
        ("nearest_3", "nearest", 3, "clicks_3", True, "T + 3 clicks"),
        ("crop_2", "crop", 2, "clicks_2", True, "T, crop around 2 clicks"),
        ("border", "border", 1, "border", False, "T, 1 click"),
        ("outside_5mm", "outside_5mm", 1, "outside_5mm", False, "T, 1 click"),
    ],
)
def test_what_a_condition_means(
    condition: str, kind: str, points: int, file: str | None, is_system: bool, name: str
) -> None:
    layout = SimpleNamespace(prompts=lambda fold, wanted: Path(f"fold_{fold}", f"{wanted}.json"))
    method = SimpleNamespace(trainer="T", plans="P")
    assert kind_of(condition) == (kind, points)
    assert prompts_of(layout, 2, condition) == (None if file is None else Path("fold_2", f"{file}.json"))
    assert stands_in_tables(condition) == is_system
    settings = SimpleNamespace(methods=[method, *(SimpleNamespace(trainer=other, plans="P") for other in "SU")])
    assert system_name(settings, method, condition) == name


def test_a_trainer_with_two_plans_is_named_with_them() -> None:
    methods = [SimpleNamespace(trainer="T", plans=plans) for plans in ("P", "Q")]
    assert system_name(SimpleNamespace(methods=methods), methods[1], "clicks_2") == "T (Q), 2 clicks"


def test_clicks_are_measured_from_the_centre_of_the_object_that_they_lie_on(tmp_path: Path) -> None:
    """Voxels of 1 x 2 x 3 mm (x, y, z). The centre of x 2 to 4 is 3, of x 10 to 14 it is 12; a click beside counts
    for the nearer object."""
    labels = np.zeros((4, 6, 20), np.uint8)
    labels[1, 2, 2:5] = labels[2, 3, 10:15] = 1
    write_volume(labels, tmp_path / "truth" / "a.nii.gz", spacing=(1.0, 2.0, 3.0))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1, "organ": 2}}))
    prompts = [Prompt("tumour", ((4, 2, 1), (2, 2, 1))), Prompt(1, ((15, 3, 1),)), Prompt("organ", ((0, 0, 0),))]
    clicks = save_prompt_file(tmp_path / "prompts.json", {"a": prompts}, coordinates="voxel")
    tumour, organ = describe_objects(tmp_path / "truth", ["a"], tmp_path / "dataset.json", clicks)
    assert (tumour["case"], tumour["label"], tumour["objects"]) == ("a", "tumour", 2)
    assert tumour["click_offset_mm"] == pytest.approx((1 + np.hypot(3, 3)) / 2)
    assert organ["objects"] == 0
    assert np.isnan(organ["click_offset_mm"])
    unclicked, _ = describe_objects(tmp_path / "truth", ["a"], tmp_path / "dataset.json", None)
    assert unclicked["objects"] == 2
    assert np.isnan(unclicked["click_offset_mm"])


def test_cases_that_could_not_be_clicked_are_not_scored(tmp_path: Path) -> None:
    """A condition without clicks scores every case of the fold."""
    layout = SimpleNamespace(images=lambda fold: tmp_path / f"fold_{fold}" / "images")
    (tmp_path / "fold_2").mkdir()
    (tmp_path / "fold_2" / "cases.json").write_text(json.dumps(["b", "a", "c"]))
    prompts = tmp_path / "border.json"
    assert scored_cases(layout, 2, prompts) == ["b", "a", "c"]
    write_skipped(prompts, {"a": "its object is too small."})
    assert scored_cases(layout, 2, prompts) == ["b", "c"]
    assert scored_cases(layout, 2, None) == ["b", "a", "c"]


@pytest.mark.parametrize("condition", ["clicks_1", "none"])
def test_scores_of_a_condition_are_written_with_what_was_clicked(condition: str, tmp_path: Path) -> None:
    """Case b could not be clicked; each label of case a has its own tolerance."""
    truth, mask = np.zeros((4, 6, 20), np.uint8), np.zeros((4, 6, 20), np.uint8)
    truth[1, 2, 2:5], mask[1, 2, 2:4] = 1, 1
    truth[2, 3, 10:15], mask[2, 3, 10:15] = 2, 2
    for case in "ab":
        write_volume(truth, tmp_path / "truth" / f"{case}.nii.gz", spacing=(1.0, 2.0, 3.0))
        write_volume(mask, tmp_path / "masks" / f"{case}.nii.gz", spacing=(1.0, 2.0, 3.0))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1, "organ": 2}}))
    (tmp_path / "cases.json").write_text(json.dumps(["b", "a"]))
    prompts = {"a": [Prompt("tumour", ((4, 2, 1),)), Prompt("organ", ((12, 3, 2),))], "b": []}
    save_prompt_file(tmp_path / "clicks_1.json", prompts, coordinates="voxel")
    write_skipped(tmp_path / "clicks_1.json", {"b": "its object is too small."})
    method = Method("T", "P", runs="T_limited", prompted=True)
    layout = SimpleNamespace(
        settings=SimpleNamespace(methods=[method], tolerance_mm=5.0, label_tolerances_mm={"tumour": 0.1}, processes=1),
        dataset_json=tmp_path / "dataset.json",
        images=lambda fold: tmp_path / "images",
        truths=lambda fold: tmp_path / "truth",
        prompts=lambda fold, name: tmp_path / f"{name}.json",
        predictions=lambda method, training, name: tmp_path / "masks",
        scores=lambda method, training, name: tmp_path / f"{training}_{name}.csv",
    )
    write_condition_scores(layout, method, Training(3, 1), condition)
    found = read_scores(tmp_path / f"3_seed_1_{condition}.csv")
    assert list(found.columns) == list(SCORE_COLUMNS)
    clicked = condition != "none"
    cases = ["a", "a"] if clicked else ["a", "a", "b", "b"]
    assert found["case"].tolist() == cases
    assert found["label"].tolist() == ["tumour", "organ"] * (len(cases) // 2)
    system = (
        ["T, 1 click", "T_limited", "P", "clicks", 1, 3, 1] if clicked else ["T", "T_limited", "P", "none", 0, 3, 1]
    )
    assert found.loc[1, list(SYSTEM_COLUMNS)].tolist() == system
    assert found.loc[:1, "dice"].tolist() == pytest.approx([0.8, 1])
    assert found.loc[0, "nsd"] < 1 == found.loc[1, "nsd"]
    assert found.loc[:1, "objects"].tolist() == [1, 1]
    np.testing.assert_allclose(found.loc[:1, "click_offset_mm"], [1, 0] if clicked else np.nan, atol=1e-5)


def test_a_network_that_ignores_clicks_and_segments_everything_comes_out_badly() -> None:
    """Its union has Dice 1; each prompt's own mask tells that it is about all objects at once."""
    truth = np.zeros((1, 4, 30), np.int32)
    truth[..., 0:4], truth[..., 10:20], truth[..., 25:28] = 1, 2, 3
    everything = truth > 0
    scores = [
        score_object(
            everything,
            truth == number,
            np.where(truth == number, 0, truth),
            np.array([0.0, 1.0, float(column)]),
            spacing_zyx_mm=(1.0, 1.0, 1.0),
            tolerance_mm=1.0,
        )
        for number, column in ((1, 2), (2, 15), (3, 26))
    ]
    assert [score["dice"] for score in scores] == pytest.approx([2 * 4 / 21, 2 * 10 / 27, 2 * 3 / 20])
    assert [score["wrong_object"] for score in scores] == [True, False, True]
    assert all(score["holds_click"] for score in scores)
    # In plates of one voxel surfaces are as volumes: those of the other objects agree with nothing.
    assert [score["nsd"] for score in scores] == pytest.approx([score["dice"] for score in scores], abs=0.05)
    nothing = np.zeros_like(everything)
    missed = score_object(nothing, truth == 1, truth, np.zeros(3), spacing_zyx_mm=(1.0, 1.0, 1.0), tolerance_mm=1.0)
    assert missed == {"dice": 0.0, "nsd": 0.0, "wrong_object": False, "holds_click": False}
