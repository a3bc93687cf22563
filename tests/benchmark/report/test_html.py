"""The benchmark's report: its files, its sentences, and that browsers and LaTeX take it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_benchmark import ROBUSTNESS, UNPROMPTED, make_results, random_results, rows, score_row, two_label_results

from nnunetv2_promise.benchmark.report import latex
from nnunetv2_promise.benchmark.report.explanation import notes
from nnunetv2_promise.benchmark.report.html import write_report
from nnunetv2_promise.benchmark.report.plots import against_volume
from nnunetv2_promise.benchmark.report.tables import comparison_table, primary_table
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PDFLATEX = shutil.which("pdflatex")
NAN = math.nan


@pytest.fixture
def two_labels() -> BenchmarkResults:
    return two_label_results()


class Page(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkResults, Path]:
    """A report of everything there is: 8 systems, two labels, two numbers of clicks, robustness, pictures."""
    folder = tmp_path_factory.mktemp("large")
    results = random_results(
        (*UNPROMPTED[:2], "ProMISeTrainer_C", "ProMISeTrainer"), points=(1, 10), labels=("kidney", "tumour_core"),
        robustness=ROBUSTNESS, cases=12, folder=folder / "images",
    )  # fmt: skip
    return results, write_report(results, folder / "report")


def test_report_writes_every_file(large: tuple[BenchmarkResults, Path]) -> None:
    _, report = large
    tables = [f"{name}.{ending}" for name in ("table1", "table2") for ending in ("csv", "tex")]
    expected = {"report.html", "report.json", "scores.csv", "robustness.csv", "tests.csv", *tables}
    assert {path.name for path in report.parent.iterdir()} == expected


def test_report_needs_nothing_beside_itself(large: tuple[BenchmarkResults, Path]) -> None:
    html = large[1].read_text(encoding="utf-8")
    page = Page(html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[^\"]*", "", html))
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    # Box plots, lines, volume, clicks, offset and robustness; three cases under two systems.
    assert page.tags.count("img") == 6 + 3 * 2


def test_equal_results_give_equal_reports(large: tuple[BenchmarkResults, Path], tmp_path: Path) -> None:
    results, report = large
    for path in write_report(results, tmp_path).parent.iterdir():
        assert path.read_bytes() == (report.parent / path.name).read_bytes(), path.name


def test_json_and_csv_hold_the_tables(large: tuple[BenchmarkResults, Path]) -> None:
    results, report = large
    content = json.loads((report.parent / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    table = comparison_table(results)
    for row, expected in zip(content["table1"], table.to_dict("records"), strict=True):
        assert row["system"] == expected["system"]
        assert row["dice_mean"] == pytest.approx(expected["dice_mean"], abs=1e-12)
    assert isinstance(content["tests"][0]["pairs"], int)
    assert content["objects"] is None
    assert content["labels"] == {"kidney": 1, "tumour_core": 2}
    csv = pd.read_csv(report.parent / "table1.csv")
    np.testing.assert_allclose(csv["nsd_ci_low"], table["nsd_ci_low"], rtol=1e-5)
    pd.testing.assert_frame_equal(pd.read_csv(report.parent / "scores.csv"), results.scores, check_dtype=False)


def test_tables_that_no_longer_exist_are_removed(large: tuple[BenchmarkResults, Path], tmp_path: Path) -> None:
    for name in ("table2.csv", "table2.tex", "robustness.csv"):
        (tmp_path / name).write_text("of an earlier report")
    write_report(random_results(("nnUNetTrainer", "ProMISeTrainer")), tmp_path)
    assert not {"table2.csv", "table2.tex", "robustness.csv"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
def test_report_opens_in_a_browser_without_an_error(large: tuple[BenchmarkResults, Path], tmp_path: Path) -> None:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr", "--dump-dom", large[1].as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert Page(done.stdout).tags.count("img") == 12
    assert "Best, median and worst case" in done.stdout


@pytest.mark.skipif(PDFLATEX is None, reason="no LaTeX on this machine")
def test_latex_compiles(large: tuple[BenchmarkResults, Path], tmp_path: Path) -> None:
    results, report = large
    odd = dataclasses.replace(results, dataset="D_1 & 2 % #~^{}\\$", budget="5 < 6 minutes")
    latex.write_table1(comparison_table(odd), primary_table(odd), odd, tmp_path / "odd.tex")
    inputs = "".join(
        f"\\input{{{path.as_posix()}}}" for path in (report.parent / "table1.tex", report.parent / "table2.tex")
    )
    (tmp_path / "document.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{inputs}\\input{{odd.tex}}\\end{{document}}"
    )
    command = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-1500:]


def test_latex_marks_what_differs_and_the_best(tmp_path: Path) -> None:
    base = np.linspace(0.3, 0.6, 6).tolist()
    scores = rows("nnUNetTrainer", "none", 0, {"A": base})
    scores += rows("nnUNetTrainer + 1 click", "nearest", 1, {"A": base})
    scores += rows("ProMISeTrainer, 1 click", "clicks", 1, {"A": [x + 0.2 + x / 50 for x in base]})
    results = make_results(scores, "nnUNetTrainer", labels=("A",))
    latex.write_table1(comparison_table(results), primary_table(results), results, tmp_path / "table1.tex")
    text = (tmp_path / "table1.tex").read_text(encoding="utf-8")
    (prompted,) = [line for line in text.splitlines() if line.startswith("ProMISe, 1 click &")]
    assert r"\textbf{0.659 $\pm$ 0.105$^\dagger$}" in prompted  # p = 2 / 64
    assert r"$^\dagger$ and $^\ddagger$: differs from its baseline" in text
    assert r"\toprule" in text


def explained(results: BenchmarkResults) -> str:
    return " ".join(notes(results, comparison_table(results), primary_table(results)))


def test_report_says_what_was_compared_with_what(large: tuple[BenchmarkResults, Path]) -> None:
    text = explained(large[0])
    assert "ProMISe: promptable. Each gets clicks that were taken from the ground truth" in text
    assert "nnU-Net, 3D UX-Net: given the image alone" in text
    assert "cut down afterwards to the components nearest" in text
    assert "12 cases in 3 folds, 2 labels (kidney, tumour_core)" in text
    assert "Budget: 5 minutes for each training." in text
    assert "1 label of a case is not in the truth" in text
    assert "With 12 pairs the tests over cases have little power" in text
    assert "the test part of the split in fold 0 and the validation part of the split in folds 1, 2" in text
    assert "Planning (spacing, intensities, sizes of objects) saw images and label maps of every case" in text


def test_report_claims_nothing_that_was_not_done(two_labels: BenchmarkResults) -> None:
    alone = dataclasses.replace(two_labels, systems=["nnUNetTrainer"])
    alone = dataclasses.replace(alone, scores=alone.scores[alone.scores["system"] == "nnUNetTrainer"])
    text = explained(alone)
    assert "promptable. Each" not in text
    assert "nothing is tested" in text
    many = explained(random_results(("nnUNetTrainer", "UXNet3DTrainer"), cases=30))
    assert "little power" not in many
    assert "promptable method is unequal" not in many


def test_report_says_what_was_made_elsewhere_and_which_tolerance_says_little(two_labels: BenchmarkResults) -> None:
    runs = two_labels.runs[two_labels.runs["trainer"] != "nnUNetTrainer"]
    results = dataclasses.replace(two_labels, runs=runs, tolerance_mm=1.0, label_tolerances_mm={"B": 3.0})
    text = " ".join(notes(results, comparison_table(results), primary_table(results)))
    assert "nnU-Net: made elsewhere" in text
    assert "tolerance 1 mm, B 3 mm" in text
    assert "NSD for label B, 3 mm, exceeds a third" in text  # objects of 100 mm3
    assert "NSD for label A" not in text
    unchecked = notes(two_labels, comparison_table(two_labels), primary_table(two_labels))
    assert "made elsewhere" not in " ".join(unchecked)


def test_report_names_cases_that_could_not_be_clicked_and_how_many_trainings_ran_at_once(
    two_labels: BenchmarkResults,
) -> None:
    skipped = {("wrong", 1): {"b": "No voxel lies 20 mm away."}}
    alone, several = (
        " ".join(notes(results, comparison_table(results), None))
        for results in (two_labels, dataclasses.replace(two_labels, skipped=skipped, jobs=4))
    )
    assert "Clicks “wrong” could not be had in fold 1 for b: No voxel lies 20 mm away." in several
    assert "Up to 4 trainings ran at the same time" in several
    assert "Trainings ran one at a time." in alone


def test_report_says_whether_mirror_images_voted(two_labels: BenchmarkResults) -> None:
    assert "the answers to mirror images of a scan were averaged" in explained(two_labels)
    unmirrored = explained(dataclasses.replace(two_labels, disable_tta=True))
    assert "no network was shown mirror images (--disable_tta)" in unmirrored
    assert "averaged, as nnU-Net does" not in unmirrored


def test_report_warns_of_means_over_different_cases(two_labels: BenchmarkResults) -> None:
    assert "different numbers of cases" not in explained(two_labels)
    lacking = two_labels.scores[(two_labels.scores["system"] != "nnUNetTrainer") | (two_labels.scores["case"] != "a")]
    text = explained(dataclasses.replace(two_labels, scores=lacking))
    assert "different numbers of cases (nnU-Net: 2, ProMISe, 1 click: 3)" in text


def test_report_without_pictures_runs_and_extras(two_labels: BenchmarkResults, tmp_path: Path) -> None:
    bare = dataclasses.replace(
        two_labels, runs=two_labels.runs.iloc[:0], timings=two_labels.timings.iloc[:0], commands=()
    )
    html = write_report(bare, tmp_path / "new" / "folder").read_text(encoding="utf-8")
    assert "worst case" not in html
    assert "Commands" not in html
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"reference": "nnUNetTrainer + 9 clicks"},
            "has no system 'nnUNetTrainer \\+ 9 clicks' to compare with; name one of",
        ),
        ({"systems": ["nnUNetTrainer", "MyTrainer"]}, "has no scores of MyTrainer"),
        ({"scores": pd.DataFrame(columns=list(score_row("a", "b", "none", 0)))}, "has no scores; predict and evaluate"),
    ],
)
def test_unusable_results(two_labels: BenchmarkResults, tmp_path: Path, change: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        write_report(dataclasses.replace(two_labels, **change), tmp_path)


def test_missing_columns_are_a_programming_error(two_labels: BenchmarkResults, tmp_path: Path) -> None:
    lacking = dataclasses.replace(two_labels, runs=two_labels.runs.drop(columns="device"))
    with pytest.raises(ValueError, match="runs lack the columns device"):
        write_report(lacking, tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1100, 2100, ["1,100", "2,100"]),
        (90, 600, ["100", "200", "500"]),
        (1000, 400_000, ["1,000", "10,000", "100,000"]),
        (1, 3e6, ["1", "100", "10,000", "1,000,000"]),
        (500, 500, ["500"]),
    ],
)
def test_volumes_have_few_round_labels(
    two_labels: BenchmarkResults, low: float, high: float, labels: list[str]
) -> None:
    volumes = np.where(np.arange(len(two_labels.scores)) % 2, low, high)
    scores = two_labels.scores.assign(truth_mm3=volumes)
    figure = against_volume(dataclasses.replace(two_labels, scores=scores))
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == labels
