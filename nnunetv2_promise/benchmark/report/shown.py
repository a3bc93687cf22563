"""The tables as a reader sees them: the same cells for the page and for LaTeX."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import METRICS
from nnunetv2_promise.benchmark.report.names import clicks_in_words

UNDEFINED = "–"


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """The comparison's scores.

    Args:
        table: Rows of one label group of ``tables.comparison_table``.
    """
    rows = []
    for row in table.to_dict("records"):
        n, cases = row["dice_n"], row["cases"]
        cells = {"system": row["name"], "cases": f"{n}" if n == cases else f"{n} of {cases}"}
        cells["clicks per case"] = number(row["clicks"], 1) if row["points"] else "0"
        for metric, name in METRICS.items():
            cells[name] = mean_and_sd(row[f"{metric}_mean"], row[f"{metric}_sd"])
            cells[f"{name}: 95 %"] = span(row[f"{metric}_ci_low"], row[f"{metric}_ci_high"])
        cells["HD95 (mm)"] = number(row["hd95_mm"], 1)
        cells["lesion F1"] = number(row["lesion_f1"])
        cells["false + (ml)"] = number(row["false_positive_ml"], 2)
        cells["false − (ml)"] = number(row["false_negative_ml"], 2)
        rows.append(cells)
    return pd.DataFrame(rows)


def tests(table: pd.DataFrame) -> pd.DataFrame:
    """The declared comparisons, from ``tables.primary_table``."""
    return pd.DataFrame(
        [
            {
                "system": row["name"],
                "against": row["baseline_name"],
                "metric": METRICS[row["metric"]],
                "pairs": str(row["pairs"]),
                "difference": signed(row["difference"]),
                "95 % interval": span(row["ci_low"], row["ci_high"], signs=True),
                "better / equal / worse": f"{row['better']} / {row['equal']} / {row['worse']}",
                "p, cases": p_value(row["p_holm"]),
                "p, trainings": p_value(row["p_trainings_holm"]),
                "effect": signed(row["effect"]),
            }
            for row in table.to_dict("records")
        ]
    )


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Parameters, time and memory of each system, from ``tables.comparison_table``."""
    part = table[table["label"] == table["label"].iloc[0]]
    return pd.DataFrame(
        [
            {
                "system": row["name"],
                "trainer": row["trainer"],
                "started from": row["start"] or UNDEFINED,
                "device": row["device"] or UNDEFINED,
                "parameters (M)": number(row["parameters_million"], 2),
                "trained (M)": number(row["trained_parameters_million"], 2),
                "steps": number(row["steps"], 0),
                "patches": number(row["patches"], 0),
                "training hours": number(row["training_hours"], 2),
                "peak memory (GiB)": number(row["peak_memory_gib"], 2),
                "seconds per case": number(row["seconds_per_case"], 2),
            }
            for row in part.to_dict("records")
        ]
    )


def variants(table: pd.DataFrame) -> pd.DataFrame:
    """Variants of the network against numbers of clicks, from ``tables.ablation_table``."""
    rows = []
    for row in table.to_dict("records"):
        cells = {"variant": row["name"]}
        for count in clicks_of(table):
            for metric, name in METRICS.items():
                key = f"{metric}_{count}"
                cells[f"{name}, {clicks_in_words(count)}"] = mean_and_sd(row[f"{key}_mean"], row[f"{key}_sd"])
        rows.append(cells)
    return pd.DataFrame(rows)


def objects(table: pd.DataFrame) -> pd.DataFrame:
    """What each click gave, from ``tables.object_table``: a row for each system, Dice and NSD by size as columns."""
    sizes = [size for size in dict.fromkeys(table["size"]) if size != "all"]
    rows = []
    for _, part in table.groupby("system", sort=False):
        of_size = part.set_index("size")
        whole = of_size.loc["all"]
        cells = {"system": whole["name"], "clicked": str(whole["n"])}
        cells["wrong object"], cells["holds its click"] = share(whole["wrong_object"]), share(whole["holds_click"])
        cells["Dice / NSD"] = f"{number(whole['dice'])} / {number(whole['nsd'])}"
        for size in sizes:
            found = of_size.loc[size] if size in of_size.index else None
            dashes = f"{UNDEFINED} / {UNDEFINED}"
            cells[size] = dashes if found is None else f"{number(found['dice'])} / {number(found['nsd'])}"
        rows.append(cells)
    return pd.DataFrame(rows)


def corrections(table: pd.DataFrame) -> pd.DataFrame:
    """What clicks on errors give, from ``correction_tables.correction_table``."""
    rows = []
    for row in table.to_dict("records"):
        cells = {"system": row["name"], "objects": str(row["objects"]), "Dice, 1 click": number(row["dice_1"])}
        for metric, name in METRICS.items():
            key = f"{metric}_final"
            cells[f"{name}, {clicks_in_words(row['clicks'])}"] = number(row[key])
            cells[f"{name}: 95 %"] = span(row[f"{key}_ci_low"], row[f"{key}_ci_high"])
            cells[f"{name} AUC"] = number(row[f"{metric}_auc"])
        for quality in (column[4:] for column in table.columns if column.startswith("noc_")):
            cells[f"NoC@{quality} (NoF)"] = f"{number(row[f'noc_{quality}'], 2)} ({share(row[f'nof_{quality}'])})"
        measured = not pd.isna(row["seconds_median"])
        seconds = f"{number(row['seconds_median'], 2)} ({number(row['seconds_p95'], 2)})"
        cells["seconds (p95)"] = seconds if measured else UNDEFINED
        rows.append(cells)
    return pd.DataFrame(rows)


def robustness(table: pd.DataFrame) -> pd.DataFrame:
    """Dice for each place of the click, from ``tables.robustness_table``."""
    return pd.DataFrame(
        [
            {
                "method": row["name"],
                "click": row["condition"],
                "cases": str(row["n"]),
                "skipped": str(row["skipped"]),
                "mean Dice": number(row["dice_mean"]),
                "drop": signed(row["drop"]),
                "spread over seeds": number(row["spread"]),
                "worst case": row["worst_case"] or UNDEFINED,
                "its Dice": number(row["worst_dice"]),
            }
            for row in table.to_dict("records")
        ]
    )


def clicks_of(table: pd.DataFrame) -> list[int]:
    """The numbers of clicks that Table 2 has columns for."""
    return [int(column.split("_")[1]) for column in table.columns if column.startswith("dice_") and "mean" in column]


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    return UNDEFINED if pd.isna(value) else f"{value:,.{digits}f}"


def signed(value: float) -> str:
    """A difference with its sign; what rounds to zero has none."""
    if pd.isna(value):
        return UNDEFINED
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def p_value(p: float) -> str:
    """Three digits after the point, or the bound below which p lies."""
    if pd.isna(p):
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def mean_and_sd(mean: float, sd: float) -> str:
    """Mean ± standard deviation."""
    return UNDEFINED if pd.isna(mean) else f"{mean:.3f} ± {sd:.3f}"


def span(low: float, high: float, *, signs: bool = False) -> str:
    """An interval."""
    write: Any = signed if signs else number
    return UNDEFINED if pd.isna(low) else f"{write(low)} to {write(high)}"


def share(value: float) -> str:
    """A share in per cent."""
    return UNDEFINED if pd.isna(value) else f"{100 * value:.1f} %"
