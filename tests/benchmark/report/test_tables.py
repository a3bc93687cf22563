"""The benchmark's tables from scores with known numbers, and their cells and names."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from synthetic_benchmark import make_results, rows, two_label_results

from nnunetv2_promise.benchmark.report import latex
from nnunetv2_promise.benchmark.report.correction_tables import correction_curves, correction_table
from nnunetv2_promise.benchmark.report.names import condition_name, system_names, trainer_name
from nnunetv2_promise.benchmark.report.shown import (
    clicks_of,
    corrections,
    mean_and_sd,
    number,
    objects,
    p_value,
    share,
    signed,
    span,
)
from nnunetv2_promise.benchmark.report.tables import (
    ablation_table,
    comparison_table,
    declared_pairs,
    object_table,
    primary_table,
    robustness_table,
)
from nnunetv2_promise.benchmark.results import CORRECTION_COLUMNS, BenchmarkResults

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


def prompted(dice: dict[str, list[float]], points: int = 1, trainer: str = "ProMISeTrainer") -> list[dict]:
    return rows(f"{trainer}, {points} click", "clicks", points, dice)


def restricted(dice: dict[str, list[float]], points: int = 1) -> list[dict]:
    return rows(f"nnUNetTrainer + {points} click", "nearest", points, dice)


def test_declared_are_promptable_methods_against_the_reference_with_the_same_clicks() -> None:
    scores = rows("nnUNetTrainer", "none", 0, {"A": [0.1, 0.1]}) + rows("UXNet3DTrainer", "none", 0, {"A": [0.1, 0.1]})
    for points in (1, 10):
        scores += restricted({"A": [0.5, 0.5]}, points)
        for trainer in ("ProMISeTrainer", "SAMAdapter3DTrainer", "MyTrainer"):
            scores += prompted({"A": [0.6, 0.7]}, points, trainer)
    pairs = declared_pairs(make_results(scores, "nnUNetTrainer", labels=("A",)))
    expected = []
    for points in (1, 10):
        reference, baseline = f"nnUNetTrainer + {points} click", f"SAMAdapter3DTrainer, {points} click"
        expected += [(f"ProMISeTrainer, {points} click", other, points) for other in (reference, baseline)]
        expected += [(baseline, reference, points), (f"MyTrainer, {points} click", reference, points)]
    assert sorted(pairs) == sorted(expected)


def test_primary_comparison_by_hand() -> None:
    scores = rows("nnUNetTrainer", "none", 0, {"A": [0.9, 0.9, 0.9], "B": [0.9, 0.9, NAN]})
    scores += restricted({"A": [0.2, 0.4, 0.6], "B": [0.4, 0.8, NAN]})
    scores += prompted({"A": [0.3, 0.8, 0.9], "B": [0.3, 0.8, NAN]})
    table = primary_table(make_results(scores, "nnUNetTrainer", labels=("A", "B")))
    assert table is not None
    row = picked(table, metric="dice")
    assert (row["name"], row["baseline_name"]) == ("ProMISe, 1 click", "nnU-Net + 1 click")
    assert row["pairs"] == 3
    assert row["difference"] == pytest.approx((0.0 + 0.2 + 0.3) / 3)
    assert (row["better"], row["equal"], row["worse"]) == (2, 1, 0)
    assert row["p"] == row["p_holm"] == pytest.approx(0.5)  # two differences, both positive
    assert row["effect"] == 1.0
    assert row["ci_low"] <= row["difference"] <= row["ci_high"]


def test_what_is_falsely_found_of_an_absent_label_makes_no_difference_between_equal_masks() -> None:
    """Averaged over different label sets, equal systems had an effect of 1."""
    found = rows("nnUNetTrainer + 1 click", "nearest", 1, {"A": [0.5, 0.6, 0.7], "B": [0.0, 0.0, 0.0]})
    for row in found:
        row["truth_mm3"] = 0.0 if row["label"] == "B" else 100.0
    scores = (
        rows("nnUNetTrainer", "none", 0, {"A": [0.5, 0.6, 0.7]})
        + found
        + prompted({"A": [0.5, 0.6, 0.7], "B": [NAN] * 3})
    )
    table = primary_table(make_results(scores, "nnUNetTrainer", labels=("A", "B")))
    assert table is not None
    row = picked(table, metric="dice")
    assert (row["difference"], row["equal"], row["effect"]) == (0, 3, 0)


def test_more_numbers_of_clicks_change_no_p() -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    better = [x + y for x, y in zip(base, [0.01, 0.02, 0.03, 0.04, 0.05, 0.06], strict=True)]

    def table(points: tuple[int, ...]) -> pd.DataFrame:
        scores = rows("nnUNetTrainer", "none", 0, {"A": base})
        for clicks in points:
            scores += restricted({"A": base}, clicks) + prompted({"A": better}, clicks)
        found = primary_table(make_results(scores, "nnUNetTrainer", labels=("A",)))
        assert found is not None
        return found[(found["metric"] == "dice") & (found["points"] == 1)]

    assert table((1,))["p_holm"].item() == table((1, 3, 5))["p_holm"].item() == pytest.approx(2 / 64)


def test_holm_is_over_the_declared_comparisons_of_one_metric() -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    shifts = {
        "ProMISeTrainer": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06],
        "MyTrainer": [-0.01, 0.02, 0.03, 0.04, 0.05, 0.06],
    }
    scores = rows("nnUNetTrainer", "none", 0, {"A": base}) + restricted({"A": base})
    for trainer, shift in shifts.items():
        scores += prompted({"A": [x + y for x, y in zip(base, shift, strict=True)]}, 1, trainer)
    table = primary_table(make_results(scores, "nnUNetTrainer", labels=("A",)))
    assert table is not None
    first, second = (picked(table, system=f"{name}, 1 click", metric="dice") for name in shifts)
    assert (first["p"], second["p"]) == pytest.approx((2 / 64, 4 / 64))
    assert (first["p_holm"], second["p_holm"]) == pytest.approx((4 / 64, 4 / 64))


def test_nothing_is_tested_that_was_not_declared() -> None:
    scores = rows("nnUNetTrainer", "none", 0, {"A": [0.1, 0.2]}) + rows("UXNet3DTrainer", "none", 0, {"A": [0.5, 0.6]})
    assert primary_table(make_results(scores, "nnUNetTrainer", labels=("A",))) is None


def test_objects_by_size_and_whether_the_click_was_obeyed(two_labels: BenchmarkResults) -> None:
    name = "ProMISeTrainer, 1 click"
    identity = {"system": name, "trainer": "ProMISeTrainer", "plans": "P", "condition": "clicks", "points": 1}
    scored = [(0.5, 0.9, False, True), (2.0, 0.7, False, True), (2.0, 0.1, True, False), (50.0, 0.8, False, True)]
    objects = pd.DataFrame(
        [
            identity | {"fold": 0, "seed": 0, "case": "a", "label": "A", "object": n, "volume_ml": volume, "dice": dice,
                        "nsd": dice, "wrong_object": wrong, "holds_click": holds}
            for n, (volume, dice, wrong, holds) in enumerate(scored)
        ]
    )  # fmt: skip
    table = object_table(dataclasses.replace(two_labels, objects=objects))
    assert table is not None
    assert list(table["size"]) == ["all", "0 to 1 ml", "1 to 5 ml", "over 20 ml"]
    np.testing.assert_allclose(table["dice"], [2.5 / 4, 0.9, 0.4, 0.8])
    np.testing.assert_allclose(table["wrong_object"], [0.25, 0, 0.5, 0])
    np.testing.assert_allclose(table["holds_click"], [0.75, 1, 0.5, 1])
    assert object_table(two_labels) is None


def test_objects_are_shown_with_their_sizes_as_columns() -> None:
    table = pd.DataFrame(
        [("s", "S", "all", 2, 0.5, 0.6, 0.5, 1.0), ("s", "S", "0 to 1 ml", 2, 0.5, 0.6, 0.5, 1.0),
         ("t", "T", "all", 1, 0.7, 0.8, 0.0, 0.0), ("t", "T", "1 to 5 ml", 1, 0.7, 0.8, 0.0, 0.0)],
        columns=["system", "name", "size", "n", "dice", "nsd", "wrong_object", "holds_click"],
    )  # fmt: skip
    assert objects(table).to_numpy().tolist() == [
        ["S", "2", "50.0 %", "100.0 %", "0.500 / 0.600", "0.500 / 0.600", "– / –"],
        ["T", "1", "0.0 %", "0.0 %", "0.700 / 0.800", "– / –", "0.700 / 0.800"],
    ]


def corrected(dice: dict[str, list[list[float]]], seconds: float = 0.5) -> pd.DataFrame:
    """Rows of ``ProMISeTrainer``: case -> Dice after each click of each object; NSD is half of it."""
    return pd.DataFrame(
        [
            ("ProMISeTrainer", "ProMISeTrainer", "nnUNetPlans", "none", 0, 0, 0, case, "A", number, click, value,
             value / 2, seconds * click, True)
            for case, objects in dice.items()
            for number, scores in enumerate(objects, start=1)
            for click, value in enumerate(scores, start=1)
        ],
        columns=list(CORRECTION_COLUMNS),
    )  # fmt: skip


def test_corrections_by_hand(two_labels: BenchmarkResults) -> None:
    """Case a has two objects, which count half as much each as the one of case b."""
    scores = corrected({"a": [[0.6, 0.8, 0.9], [0.2, 0.4, 0.5]], "b": [[0.85, 0.85, 0.85]]})
    results = dataclasses.replace(two_labels, corrections=scores)
    table = correction_table(results)
    assert table is not None
    row = table.iloc[0]
    assert (row["name"], row["objects"], row["clicks"]) == ("ProMISe", 3, 3)
    assert row["dice_1"] == pytest.approx((0.4 + 0.85) / 2)
    assert row["dice_final"] == pytest.approx((0.7 + 0.85) / 2)
    assert row["nsd_final"] == pytest.approx((0.7 + 0.85) / 4)
    assert row["dice_auc"] == pytest.approx((((0.7 + 0.85) / 2 + (0.3 + 0.45) / 2) / 2 + 0.85) / 2)
    assert row["noc_80"] == pytest.approx(((2 + 3) / 2 + 1) / 2)
    assert row["nof_80"] == pytest.approx((0.5 + 0) / 2)
    assert row["noc_90"] == pytest.approx(((3 + 3) / 2 + 3) / 2)
    assert row["nof_90"] == pytest.approx((0.5 + 1) / 2)
    assert row["seconds_median"] == 1.0
    assert row["seconds_p95"] == pytest.approx(1.5)
    curves = correction_curves(results)
    assert curves is not None
    at = curves[curves["metric"] == "dice"].set_index("clicks")["mean"]
    assert at.to_dict() == pytest.approx({1: 0.625, 2: 0.725, 3: 0.775})
    (cells,) = corrections(table).to_dict("records")
    assert cells["NoC@80 (NoF)"] == "1.75 (25.0 %)"
    assert cells["seconds (p95)"] == "1.00 (1.50)"


def test_a_mask_that_is_only_cut_down_has_no_seconds(two_labels: BenchmarkResults) -> None:
    scores = corrected({"a": [[0.5]], "b": [[0.7]]}, seconds=NAN)
    table = correction_table(dataclasses.replace(two_labels, corrections=scores))
    assert table is not None
    assert table["name"].tolist() == ["ProMISe, cut down by clicks"]
    (cells,) = corrections(table).to_dict("records")
    assert (cells["seconds (p95)"], cells["Dice AUC"]) == ("–", "–")  # one click has no area
    assert correction_table(two_labels) is None
    assert correction_curves(two_labels) is None


def test_lesions_are_counted_over_all_cases(two_labels: BenchmarkResults) -> None:
    scores = two_labels.scores.assign(lesions_found=2, lesions_missed=1, lesions_false=3, false_positive_ml=0.25)
    row = picked(
        comparison_table(dataclasses.replace(two_labels, scores=scores)), label="all labels", system="nnUNetTrainer"
    )
    assert row["lesion_f1"] == pytest.approx(4 / 8)
    assert row["false_positive_ml"] == pytest.approx(0.5)  # of two labels


def test_costs_are_summed_and_converted(two_labels: BenchmarkResults) -> None:
    runs = two_labels.runs.copy()
    runs.loc[runs["fold"] == 1, "peak_memory_bytes"] = 3 * 2**30
    runs = pd.concat([runs, runs.assign(seed=1)])
    row = comparison_table(dataclasses.replace(two_labels, runs=runs)).iloc[0]
    assert (row["parameters_million"], row["trained_parameters_million"]) == (30, 20)
    assert (row["training_hours"], row["peak_memory_gib"], row["seconds_per_case"]) == (4, 3, 3)
    assert row["device"] == "cpu"


def test_hours_that_were_not_measured_for_every_fold_are_undefined(two_labels: BenchmarkResults) -> None:
    runs = two_labels.runs.astype({"train_seconds": float})
    runs.loc[(runs["trainer"] == "nnUNetTrainer") & (runs["fold"] == 1), "train_seconds"] = NAN
    table = comparison_table(dataclasses.replace(two_labels, runs=runs))
    assert math.isnan(table["training_hours"].iloc[0])
    assert table["training_hours"].iloc[1] == 2
    runs["peak_memory_bytes"] = runs["peak_memory_bytes"].where(runs["fold"] == 0)
    assert comparison_table(dataclasses.replace(two_labels, runs=runs))["peak_memory_gib"].isna().all()
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
    assert clicks_of(table) == [1, 10]


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


def test_two_plans_of_a_trainer_have_two_names() -> None:
    scores = []
    for plans in ("PlansA", "PlansB"):
        scores += rows(f"ProMISeTrainer ({plans}), 1 click", "clicks", 1, {"A": [0.5, 0.6]}, plans=plans)
        scores += rows(f"ProMISeTrainer ({plans}), 1 click", "border", 1, {"A": [0.4, 0.6]}, plans=plans)
        scores += rows(f"SAMAdapter3DTrainer ({plans}), 1 click", "clicks", 1, {"A": [0.5, 0.6]}, plans=plans)
    results = make_results(scores, "ProMISeTrainer (PlansA), 1 click", labels=("A",))
    names = [f"{name} ({plans})" for plans in ("PlansA", "PlansB") for name in ("ProMISe", "3DSAM-adapter")]
    assert sorted(system_names(results).values()) == sorted(f"{name}, 1 click" for name in names)
    variants, moved = ablation_table(results), robustness_table(results)
    assert variants is not None
    assert moved is not None
    assert variants["name"].is_unique
    assert set(moved["name"]) == {"ProMISe (PlansA)", "ProMISe (PlansB)"}


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
        (mean_and_sd(0.81234, 0.1), "0.812 ± 0.100"),
        (mean_and_sd(NAN, NAN), "–"),
        (span(-0.1, 0.2, signs=True), "−0.100 to +0.200"),
        (share(0.255), "25.5 %"),
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
