"""The tables as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import pandas as pd

from nnunetv2_promise import html_page as page
from nnunetv2_promise.benchmark.report.explanation import metric_name
from nnunetv2_promise.benchmark.report.grouping import METRICS
from nnunetv2_promise.benchmark.report.latex import clicks_of, hours_heading, plural

UNDEFINED = "–"


def comparison_groups(table: pd.DataFrame, reference: str) -> Iterator[str]:
    """Scores and tests of each label group; every group but the first is folded up.

    Args:
        table: From ``tables.comparison_table``.
        reference: The system that the others are tested against.
    """
    groups = list(dict.fromkeys(table["label"]))
    for group in groups:
        part = table[table["label"] == group]
        content = _scores(part) + _tests(part[part["system"] != reference])
        if len(groups) == 1:
            yield content
        else:
            opened = " open" if group == groups[0] else ""
            yield f"<details{opened}><summary><strong>{escape(group)}</strong></summary>{content}</details>"


def costs(table: pd.DataFrame) -> str:
    """Parameters, time and memory of each system.

    Args:
        table: From ``tables.comparison_table``.
    """
    part = table[table["label"] == table["label"].iloc[0]]
    head = (
        "system", "trainer", "device", "parameters (M)", "trained (M)", hours_heading(part["device"]),
        "peak memory (GiB)", "seconds per case",
    )  # fmt: skip
    rows = [
        (
            row["name"],
            row["trainer"],
            row["device"] or UNDEFINED,
            number(row["parameters_million"], 2),
            number(row["trained_parameters_million"], 2),
            number(row["training_hours"], 2),
            number(row["peak_memory_gib"], 2),
            number(row["seconds_per_case"], 2),
        )
        for row in part.to_dict("records")
    ]
    return page.table(head, rows, numeric=5)


def ablation(table: pd.DataFrame) -> str:
    """Variants of the network against numbers of clicks.

    Args:
        table: From ``tables.ablation_table``.
    """
    kinds = [(count, metric) for count in clicks_of(table) for metric in METRICS]
    head = ("variant", "trainer", *(f"{metric_name(metric)}, {plural(count)}" for count, metric in kinds))
    rows = [
        (
            row["name"],
            row["trainer"],
            *(mean_and_sd(row[f"{metric}_{count}_mean"], row[f"{metric}_{count}_sd"]) for count, metric in kinds),
        )
        for row in table.to_dict("records")
    ]
    return page.table(head, rows, numeric=len(kinds))


def robustness(table: pd.DataFrame) -> str:
    """Dice for each place of the click.

    Args:
        table: From ``tables.robustness_table``.
    """
    head = ("method", "click", "cases", "mean Dice", "drop", "spread over seeds", "worst case", "its Dice")
    rows = [
        (
            row["name"],
            row["condition"],
            str(row["n"]),
            number(row["dice_mean"]),
            signed(row["drop"]),
            number(row["spread"]),
            row["worst_case"] or UNDEFINED,
            number(row["worst_dice"]),
        )
        for row in table.to_dict("records")
    ]
    return page.table(head, rows, numeric=6)


def number(value: float, digits: int = 3) -> str:
    """A number, or a dash where it is undefined."""
    return UNDEFINED if pd.isna(value) else f"{value:.{digits}f}"


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


def _scores(part: pd.DataFrame) -> str:
    head = ("system", "cases", "Dice", "95 % interval", "NSD", "95 % interval")
    rows = []
    for row in part.to_dict("records"):
        cells = []
        for metric in METRICS:
            low, high = row[f"{metric}_ci_low"], row[f"{metric}_ci_high"]
            interval = UNDEFINED if pd.isna(low) else f"{low:.3f} to {high:.3f}"
            cells += [mean_and_sd(row[f"{metric}_mean"], row[f"{metric}_sd"]), interval]
        rows.append((row["name"], str(row["dice_n"]), *cells))
    return page.table(head, rows, numeric=5)


def _tests(part: pd.DataFrame) -> str:
    """Differences to the reference; nothing if there is no other system."""
    if not len(part):
        return ""
    head = ["difference to the reference", "pairs"]
    rows = [[row["name"], str(row["dice_pairs"])] for row in part.to_dict("records")]
    for metric in METRICS:
        head += [metric_name(metric), "p", "p (Holm)", "effect"]
        for cells, row in zip(rows, part.to_dict("records"), strict=True):
            cells += [signed(row[f"{metric}_difference"]), p_value(row[f"{metric}_p"])]
            cells += [p_value(row[f"{metric}_p_holm"]), signed(row[f"{metric}_effect"])]
    return page.table(head, rows, numeric=9)
