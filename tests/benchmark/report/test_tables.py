"""The benchmark's tables from scores with known numbers, and their cells and names."""

from __future__ import annotations

import dataclasses
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic_benchmark import make_results, rows, two_label_results

from nnunetv2_promise.benchmark.report import latex
from nnunetv2_promise.benchmark.report.html_tables import number, p_value, signed
from nnunetv2_promise.benchmark.report.names import condition_name, system_names, trainer_name
from nnunetv2_promise.benchmark.report.tables import ablation_table, comparison_table, robustness_table
from nnunetv2_promise.benchmark.results import BenchmarkResults

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PDFLATEX = shutil.which("pdflatex")
NAN = math.nan


@pytest.fixture
def two_labels() -> BenchmarkResults:
    return two_label_results()


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
        ("ProMISeTrainer_1epoch_limited", "ProMISe (1 epoch)"),
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
