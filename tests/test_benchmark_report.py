"""The benchmark's tables, their files and its report, from results with known numbers."""

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
from synthetic_benchmark import ROBUSTNESS, UNPROMPTED, make_results, random_results, score_row

from nnunetv2_promise.benchmark import latex, plots
from nnunetv2_promise.benchmark.explanation import notes
from nnunetv2_promise.benchmark.html_tables import number, p_value, signed
from nnunetv2_promise.benchmark.names import condition_name, system_names, trainer_name
from nnunetv2_promise.benchmark.pictures import case_pictures, ranked_cases, shown_system
from nnunetv2_promise.benchmark.report import write_report
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.tables import ablation_table, comparison_table, robustness_table
from nnunetv2_promise.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PDFLATEX = shutil.which("pdflatex")
NAN = math.nan


def rows(system: str, condition: str, points: int, dice: dict[str, list[float]], **values: object) -> list[dict]:
    """Rows of cases a, b, c, ... in folds 0, 1, 0, ... from label -> Dice of each case; NSD is half of Dice."""
    trainer = re.split(r"[ ,]", system)[0]
    return [
        score_row(
            system, trainer, condition, points, case="abcdef"[i], fold=i % 2, label=label, dice=x, nsd=x / 2, **values
        )
        for label, scores in dice.items()
        for i, x in enumerate(scores)
    ]


@pytest.fixture
def two_labels() -> BenchmarkResults:
    """Two systems, three cases, two labels; label B is undefined in case c."""
    return make_results(
        [
            *rows("nnUNetTrainer", "none", 0, {"A": [0.2, 0.4, 0.6], "B": [0.4, 0.8, NAN]}),
            *rows("ProMISeTrainer, 1 click", "clicks", 1, {"A": [0.3, 0.8, 0.9], "B": [0.3, 0.8, NAN]}),
        ],
        "nnUNetTrainer",
        labels=("A", "B"),
    )


def picked(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_comparison_has_every_group_and_system_in_order(two_labels: BenchmarkResults) -> None:
    table = comparison_table(two_labels)
    systems = ["nnUNetTrainer", "ProMISeTrainer, 1 click"]
    assert list(zip(table["label"], table["system"], strict=True)) == [
        (group, system) for group in ("all labels", "A", "B") for system in systems
    ]
    reverse = dataclasses.replace(two_labels, systems=systems[::-1])
    assert list(comparison_table(reverse)["system"][:2]) == systems[::-1]


def test_score_of_a_case_is_the_mean_over_its_defined_labels(two_labels: BenchmarkResults) -> None:
    row = picked(comparison_table(two_labels), label="all labels", system="nnUNetTrainer")
    of_case = np.array([0.3, 0.6, 0.6])
    assert row["dice_n"] == 3
    assert row["dice_mean"] == pytest.approx(of_case.mean())
    assert row["dice_sd"] == pytest.approx(of_case.std())
    assert row["nsd_mean"] == pytest.approx(of_case.mean() / 2)
    assert picked(comparison_table(two_labels), label="B", system="nnUNetTrainer")["dice_n"] == 2


def test_comparison_against_the_reference(two_labels: BenchmarkResults) -> None:
    table = comparison_table(two_labels)
    row = picked(table, label="all labels", system="ProMISeTrainer, 1 click")
    assert row["dice_pairs"] == 3
    assert row["dice_difference"] == pytest.approx((0.0 + 0.2 + 0.3) / 3)
    assert row["dice_p"] == row["dice_p_holm"] == pytest.approx(0.5)  # two differences, both positive
    assert row["dice_effect"] == 1.0
    of_b = picked(table, label="B", system="ProMISeTrainer, 1 click")
    assert (of_b["dice_pairs"], of_b["dice_effect"]) == (2, -1.0)
    reference = table[table["system"] == "nnUNetTrainer"]
    assert reference[["dice_pairs", "dice_difference", "dice_p", "dice_p_holm", "dice_effect"]].isna().all(axis=None)


def test_holm_is_over_the_systems_of_one_group_and_metric() -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    shifts = {
        "ProMISeTrainer": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06],
        "UXNet3DTrainer": [-0.01, 0.02, 0.03, 0.04, 0.05, 0.06],
    }
    scores = rows("nnUNetTrainer", "none", 0, {"A": base})
    for trainer, shift in shifts.items():
        scores += rows(trainer, "none", 0, {"A": [x + y for x, y in zip(base, shift, strict=True)]})
    table = comparison_table(make_results(scores, "nnUNetTrainer", labels=("A",)))
    first, second = (picked(table, system=name) for name in shifts)
    assert (first["dice_p"], second["dice_p"]) == pytest.approx((2 / 64, 4 / 64))
    assert (first["dice_p_holm"], second["dice_p_holm"]) == pytest.approx((4 / 64, 4 / 64))


def test_costs_are_summed_and_converted(two_labels: BenchmarkResults) -> None:
    runs = two_labels.runs.copy()
    runs.loc[runs["fold"] == 1, "peak_memory_bytes"] = 3 * 2**30
    row = comparison_table(dataclasses.replace(two_labels, runs=runs)).iloc[0]
    assert (row["parameters_million"], row["trained_parameters_million"]) == (30, 20)
    assert (row["training_hours"], row["peak_memory_gib"], row["seconds_per_case"]) == (2, 3, 3)
    assert row["device"] == "cpu"


def test_hours_that_were_not_measured_for_every_fold_are_undefined(two_labels: BenchmarkResults) -> None:
    runs = two_labels.runs.astype({"train_seconds": float})
    runs.loc[(runs["trainer"] == "nnUNetTrainer") & (runs["fold"] == 1), "train_seconds"] = NAN
    table = comparison_table(dataclasses.replace(two_labels, runs=runs))
    assert math.isnan(table["training_hours"].iloc[0])
    assert table["training_hours"].iloc[1] == 2
    without = dataclasses.replace(two_labels, runs=runs.iloc[:0], timings=two_labels.timings.iloc[:0])
    assert comparison_table(without)[["training_hours", "parameters_million", "seconds_per_case"]].isna().all(axis=None)


def test_misplaced_clicks_do_not_count_in_the_comparison() -> None:
    scores = rows("nnUNetTrainer", "none", 0, {"A": [0.5, 0.5]})
    scores += rows("ProMISeTrainer, 1 click", "clicks", 1, {"A": [0.8, 0.6]})
    scores += rows("ProMISeTrainer, 1 click", "wrong", 1, {"A": [0.0, 0.0]})
    results = make_results(scores, "nnUNetTrainer", labels=("A",))
    assert picked(comparison_table(results), system="ProMISeTrainer, 1 click")["dice_mean"] == pytest.approx(0.7)
    assert "wrong" not in set(comparison_table(results)["condition"])


def test_robustness_by_hand() -> None:
    name = "ProMISeTrainer, 1 click"
    scores = rows(name, "clicks", 1, {"A": [0.8, 0.6]}) + rows("ProMISeTrainer, 10 clicks", "clicks", 10, {"A": [1, 1]})
    scores += rows(name, "seed1", 1, {"A": [0.7, 0.2]}) + rows(name, "seed2", 1, {"A": [0.9, 0.6]})
    scores += rows(name, "outside_5mm", 1, {"A": [0.5, NAN]}) + rows("nnUNetTrainer", "none", 0, {"A": [0.5, 0.5]})
    table = robustness_table(make_results(scores, "nnUNetTrainer", labels=("A",)))
    assert table is not None
    assert list(table["condition"]) == ["one click", "one click, 3 seeds", "5 mm outside the object"]
    assert set(table["trainer"]) == {"ProMISeTrainer"}
    np.testing.assert_allclose(table["dice_mean"], [0.7, (0.8 + 1.4 / 3) / 2, 0.5])
    np.testing.assert_allclose(table["drop"], [0.0, (0.6 - 1.4 / 3) / 2, 0.3], atol=1e-12)  # the last over case a alone
    np.testing.assert_allclose(table["spread"], [NAN, (np.std([0.8, 0.7, 0.9]) + np.std([0.6, 0.2, 0.6])) / 2, NAN])
    assert list(table["worst_case"]) == ["b", "b", "a"]
    np.testing.assert_allclose(table["worst_dice"], [0.6, 0.2, 0.5])
    assert list(table["n"]) == [2, 2, 1]


def test_robustness_without_a_plain_click_has_no_drop() -> None:
    scores = rows("ProMISeTrainer, 10 clicks", "clicks", 10, {"A": [0.9]}) + rows(
        "ProMISeTrainer, 1 click", "wrong", 1, {"A": [0.1]}
    )
    table = robustness_table(make_results(scores, "ProMISeTrainer, 10 clicks", labels=("A",)))
    assert table is not None
    assert table["drop"].isna().all()


def test_tables_that_need_more_are_absent(two_labels: BenchmarkResults) -> None:
    assert ablation_table(two_labels) is None
    assert robustness_table(two_labels) is None


def test_ablation_has_the_papers_rows_and_a_column_for_each_number_of_clicks() -> None:
    scores = []
    for trainer, one, ten in (("ProMISeTrainer_limited", 0.8, 0.9), ("SAMAdapter3DTrainer_limited", 0.4, 0.5)):
        scores += rows(f"{trainer}, 1 click", "clicks", 1, {"A": [one, one - 0.2]})
        scores += rows(f"{trainer}, 10 clicks", "clicks", 10, {"A": [ten, ten]})
    scores += rows("ProMISeTrainer_C_limited, 1 click", "clicks", 1, {"A": [0.6, 0.6]})
    table = ablation_table(make_results(scores, "ProMISeTrainer_limited, 1 click", labels=("A",)))
    assert table is not None
    assert list(table["name"]) == ["baseline (3DSAM-adapter)", "ProMISe-C", "ProMISe-C-B"]
    np.testing.assert_allclose(table["dice_1_mean"], [0.3, 0.6, 0.7])
    np.testing.assert_allclose(table["dice_1_sd"], [0.1, 0, 0.1], atol=1e-12)
    np.testing.assert_allclose(table["dice_10_mean"], [0.5, NAN, 0.9])
    assert latex.clicks_of(table) == [1, 10]


@pytest.mark.parametrize(
    ("trainer", "name"),
    [
        ("nnUNetTrainer", "nnU-Net"),
        ("ProMISeTrainer_R_B_limited", "ProMISe-R-B"),
        ("ProMISeTrainer_20epochs", "ProMISe (20 epochs)"),
        ("ProMISeTrainer_1epoch_limited", "ProMISe (1 epochs)"),
        ("MyTrainer", "MyTrainer"),
    ],
)
def test_trainers_have_the_papers_names(trainer: str, name: str) -> None:
    assert trainer_name(trainer) == name


def test_systems_keep_names_that_would_be_shared() -> None:
    trainers = {"nnUNetTrainer + 1 click": "nnUNetTrainer_limited", "MyTrainer": "MyTrainer", "other": "ProMISeTrainer"}
    assert system_names(trainers) == {
        "nnUNetTrainer + 1 click": "nnU-Net + 1 click", "MyTrainer": "MyTrainer", "other": "other",
    }  # fmt: skip
    shared = {"ProMISeTrainer_limited": "ProMISeTrainer_limited", "ProMISeTrainer": "ProMISeTrainer"}
    assert system_names(shared) == {name: name for name in shared}


def test_conditions_have_plain_names() -> None:
    names = [condition_name(name) for name in ("outside_2mm", "outside_2.5mm", "border", "seed3", "mine")]
    assert names[:2] == ["2 mm outside the object", "2.5 mm outside the object"]
    assert names[2:] == ["at the object's border", "click drawn with seed 3", "mine"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Dataset_1 & 50 % #2 $x$", r"Dataset\_1 \& 50 \% \#2 \$x\$"),
        ("a\\b {c}", r"a\textbackslash{}b \{c\}"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        ("plain", "plain"),
    ],
)
def test_latex_is_escaped(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (latex.score(0.81234, 0.1, best=0.9), r"$0.812 \pm 0.100$"),
        (latex.score(0.9, 0.1, best=0.9, mark=r"\dagger"), r"$\mathbf{0.900} \pm 0.100^{\dagger}$"),
        (latex.score(0.8999, 0.1, best=0.9), r"$\mathbf{0.900} \pm 0.100$"),
        (latex.score(NAN, NAN, best=0.9), "--"),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.25), "0.250"),
        (signed(-0.0001), "0.000"),
        (signed(-0.25), "−0.250"),
        (signed(0.25), "+0.250"),
        (number(NAN), "–"),
    ],
)
def test_cells(cell: str, text: str) -> None:
    assert cell == text


@pytest.mark.parametrize(
    ("devices", "heading"),
    [
        (["cpu"], "CPU hours"),
        (["NVIDIA H100", "NVIDIA A100"], "GPU hours"),
        (["cpu", "NVIDIA H100"], "Hours"),
        ([""], "Hours"),
    ],
)
def test_hours_are_named_after_the_device(devices: list[str], heading: str) -> None:
    assert latex.hours_heading(devices) == heading


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
    expected = {"report.html", "report.json", "scores.csv", "robustness.csv", *tables}
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
        assert row["dice_mean"] == expected["dice_mean"]
    assert content["table1"][0]["dice_p"] is None
    assert content["table1"][0]["dice_pairs"] is None
    assert isinstance(content["table1"][1]["dice_pairs"], int)
    assert content["labels"] == {"kidney": 1, "tumour_core": 2}
    csv = pd.read_csv(report.parent / "table1.csv")
    np.testing.assert_allclose(csv["nsd_p_holm"], table["nsd_p_holm"], rtol=1e-5)
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
    latex.write_table1(comparison_table(odd), odd, tmp_path / "odd.tex")
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
    scores += rows("ProMISeTrainer, 1 click", "clicks", 1, {"A": [x + 0.2 + x / 50 for x in base]})
    results = make_results(scores, "nnUNetTrainer", labels=("A",), device="NVIDIA H100")
    latex.write_table1(comparison_table(results), results, tmp_path / "table1.tex")
    text = (tmp_path / "table1.tex").read_text(encoding="utf-8")
    (prompted,) = [line for line in text.splitlines() if line.startswith("ProMISe, 1 click &")]
    assert r"\mathbf{0.659}" in prompted
    assert r"^{\dagger}" in prompted  # p = 2 / 64
    assert "GPU hours" in text
    assert "differs from nnU-Net with $p<0.05$" in text


def explained(results: BenchmarkResults) -> str:
    return " ".join(notes(results, comparison_table(results)))


def test_report_says_what_was_compared_with_what(large: tuple[BenchmarkResults, Path]) -> None:
    text = explained(large[0])
    assert "ProMISe: promptable. Each gets clicks that were taken from the ground truth" in text
    assert "nnU-Net, 3D UX-Net: given the image alone" in text
    assert "cut down afterwards to the components nearest" in text
    assert "12 cases in 3 folds, 2 labels (kidney, tumour_core)" in text
    assert "Budget: 5 minutes for each training." in text
    assert "8 of 192 scores are undefined" in text
    assert "With 12 pairs the tests have little power" in text


def test_report_claims_nothing_that_was_not_done(two_labels: BenchmarkResults) -> None:
    alone = dataclasses.replace(two_labels, systems=["nnUNetTrainer"])
    alone = dataclasses.replace(alone, scores=alone.scores[alone.scores["system"] == "nnUNetTrainer"])
    text = explained(alone)
    assert "promptable" not in text
    assert "No test was made" in text
    many = explained(random_results(("nnUNetTrainer", "UXNet3DTrainer"), cases=30))
    assert "little power" not in many
    assert "Every score is defined" in many
    assert "promptable method is unequal" not in many


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


def test_diagrams_show_every_system(large: tuple[BenchmarkResults, Path]) -> None:
    results, _ = large
    boxes = plots.box_plots(results)
    assert [label.get_text() for label in boxes.axes[0].get_yticklabels()][:2] == ["nnU-Net", "nnU-Net + 1 click"]
    assert len(boxes.axes[0].get_yticks()) == len(results.systems)
    assert len([axes for axes in plots.paired_lines(results).axes if axes.axison]) == len(results.systems) - 1
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
    (panel,) = plots.paired_lines(two_labels).axes
    drawn = [tuple(np.round(line.get_ydata().astype(float), 6)) for line in panel.lines]
    assert drawn == [(0.3, 0.3), (0.6, 0.8), (0.6, 0.9), (0.5, 0.666667)]
    assert [line.get_color() for line in panel.lines[:3]] == [plots.EQUAL, plots.BETTER, plots.BETTER]


def test_diagrams_without_data_are_left_out() -> None:
    results = random_results(("nnUNetTrainer", "ProMISeTrainer"))
    assert plots.against_clicks(results) is None
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
        dice = pictured.scores.query("system == @picture.system and case == @picture.case")["dice"].mean()
        assert f"Dice {dice:.3f} (label A)" in picture.caption
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
    assert all("(label " in picture.caption and not picture.figure.axes[0].lines for picture in pictures)


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
