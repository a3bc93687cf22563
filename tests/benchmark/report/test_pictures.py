"""The report's diagrams and pictures show what they say."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic_benchmark import ROBUSTNESS, UNPROMPTED, random_results, two_label_results

from nnunetv2_promise.benchmark.report import plots
from nnunetv2_promise.benchmark.report.html import write_report
from nnunetv2_promise.benchmark.report.pictures import case_pictures, ranked_cases, shown_system
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PDFLATEX = shutil.which("pdflatex")
NAN = math.nan


@pytest.fixture
def two_labels() -> BenchmarkResults:
    return two_label_results()


@pytest.fixture
def many_systems() -> BenchmarkResults:
    return random_results(
        (*UNPROMPTED[:2], "ProMISeTrainer_C", "ProMISeTrainer"), points=(1, 10), robustness=ROBUSTNESS
    )


def test_diagrams_show_every_system(many_systems: BenchmarkResults) -> None:
    results = many_systems
    boxes = plots.box_plots(results)
    assert [label.get_text() for label in boxes.axes[0].get_yticklabels()][:2] == ["nnU-Net", "nnU-Net + 1 click"]
    assert len(boxes.axes[0].get_yticks()) == len(results.systems)
    lines = plots.paired_lines(results, [(system, results.reference) for system in results.systems[1:]])
    assert lines is not None
    assert len([axes for axes in lines.axes if axes.axison]) == len(results.systems) - 1
    volume = plots.against_volume(results)
    assert volume is not None
    assert {axes.get_xscale() for axes in volume.axes if axes.axison} == {"log"}
    clicks = plots.against_clicks(results)
    assert clicks is not None
    assert [label.get_text() for label in clicks.axes[0].get_xticklabels()] == ["1", "10"]
    offsets = plots.against_click_offset(results)
    assert offsets is not None
    assert len([axes for axes in offsets.axes if axes.axison]) == len(results.systems) - 2


def test_paired_lines_join_the_two_scores_of_a_case(two_labels: BenchmarkResults) -> None:
    figure = plots.paired_lines(two_labels, [("ProMISeTrainer, 1 click", "nnUNetTrainer")])
    assert figure is not None
    (panel,) = figure.axes
    drawn = [tuple(np.round(line.get_ydata().astype(float), 6)) for line in panel.lines]
    assert drawn == [(0.3, 0.3), (0.6, 0.8), (0.6, 0.9), (0.5, 0.666667)]
    assert [line.get_color() for line in panel.lines[:3]] == [plots.EQUAL, plots.BETTER, plots.BETTER]


def test_diagrams_without_data_are_left_out() -> None:
    results = random_results(("nnUNetTrainer", "ProMISeTrainer"))
    assert plots.against_clicks(results) is None
    assert plots.paired_lines(results, []) is None
    unclicked = dataclasses.replace(results, scores=results.scores.assign(click_offset_mm=NAN, truth_mm3=0.0))
    assert plots.against_click_offset(unclicked) is None
    assert plots.against_volume(unclicked) is None


@pytest.fixture
def pictured(tmp_path: Path) -> BenchmarkResults:
    return random_results(("nnUNetTrainer", "ProMISeTrainer"), cases=5, labels=("A", "B"), folder=tmp_path)


def test_best_median_and_worst_case(pictured: BenchmarkResults) -> None:
    assert shown_system(pictured) == "ProMISeTrainer, 1 click"
    dice = pictured.scores[pictured.scores["system"] == "ProMISeTrainer, 1 click"].groupby("case")["dice"].mean()
    order = dice.sort_values(ascending=False).index
    ranked = ranked_cases(pictured, "ProMISeTrainer, 1 click")
    assert ranked == {"best": order[0], "median": order[2], "worst": order[4]}
    two = {key: files for key, files in pictured.files.items() if key[1] in (order[1], order[3])}
    assert ranked_cases(dataclasses.replace(pictured, files=two), "ProMISeTrainer, 1 click") == {
        "best": order[1], "worst": order[3],
    }  # fmt: skip


def test_pictures_have_a_click_only_where_one_was_given(pictured: BenchmarkResults) -> None:
    pictures = list(case_pictures(pictured))
    assert [picture.rank for picture in pictures] == ["best", "best", "median", "median", "worst", "worst"]
    for picture in pictures:
        axial = picture.figure.axes[0]
        assert bool(axial.lines) == (picture.system == "ProMISeTrainer, 1 click")
        contours = [item for item in axial.collections if type(item).__name__ == "QuadContourSet"]
        assert len(contours) == 2
        # Label A is clicked; contours of B would reach farther to the right.
        assert all(item.get_paths()[0].vertices[:, 0].max() < 27 for item in contours)
        scores = pictured.scores.query("system == @picture.system and case == @picture.case").set_index("label")["dice"]
        label_a = f"{scores['A']:.3f}"
        assert picture.caption.endswith(f"Dice of label A {label_a}, of all labels {scores.mean():.3f}")
    for prompted, reference in zip(pictures[::2], pictures[1::2], strict=True):
        shown = (picture.figure.axes[0].images[0].get_array() for picture in (prompted, reference))
        np.testing.assert_array_equal(*shown)


def test_pictures_without_any_click_show_the_largest_label(pictured: BenchmarkResults) -> None:
    unprompted = dataclasses.replace(
        pictured,
        systems=["nnUNetTrainer"],
        scores=pictured.scores[pictured.scores["system"] == "nnUNetTrainer"],
    )
    pictures = list(case_pictures(unprompted))
    assert len(pictures) == 3
    assert all("Dice of label " in picture.caption and not picture.figure.axes[0].lines for picture in pictures)


def broken(results: BenchmarkResults, field: str, content: bytes) -> Path:
    """Overwrite one file of every case of the promptable system; the path of one of them."""
    paths = {getattr(files, field) for (system, _), files in results.files.items() if system != "nnUNetTrainer"}
    for path in paths:
        path.write_bytes(content)
    return min(paths)


@pytest.mark.parametrize("field", ["image", "truth", "prediction", "prompts"])
@pytest.mark.parametrize("content", [b"", b"no image"], ids=["empty", "text"])
def test_unreadable_picture_file_is_named(
    pictured: BenchmarkResults, tmp_path: Path, field: str, content: bytes
) -> None:
    folder = broken(pictured, field, content).parent
    with pytest.raises(UserError, match=re.escape(str(folder))):
        write_report(pictured, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_missing_picture_file_is_named(pictured: BenchmarkResults, tmp_path: Path) -> None:
    for files in pictured.files.values():
        files.prediction.unlink(missing_ok=True)
    with pytest.raises(UserError, match="does not exist"):
        write_report(pictured, tmp_path / "report")


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ({}, "does not list case"),
        ([{"label": "A", "points": [[500, 0, 0]]}], "a click lies outside"),
        ([{"label": "C", "points": [[1, 1, 1]]}], "was not scored"),
    ],
)
def test_prompts_that_do_not_fit_the_case(
    pictured: BenchmarkResults, tmp_path: Path, prompts: object, sentence: str
) -> None:
    cases = {case: prompts for _, case in pictured.files} if prompts else {}
    content = {"version": 1, "coordinates": "voxel", "cases": cases}
    (tmp_path / "prompts.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        list(case_pictures(pictured))


def test_prediction_on_another_grid(pictured: BenchmarkResults) -> None:
    import SimpleITK as sitk  # noqa: N813

    for path in {files.prediction for files in pictured.files.values()}:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), dtype=np.uint8)), str(path))
    with pytest.raises(UserError, match="differ in size"):
        list(case_pictures(pictured))
