"""The tables as LaTeX: booktabs, best value bold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nnunetv2_promise.benchmark.report import shown
from nnunetv2_promise.benchmark.report.grouping import ALL_LABELS, METRICS
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.files import atomic_path

MARKS = ((0.001, "‡"), (0.05, "†"))
"""Holm's p below the number earns the mark; the smallest comes first."""
_PREAMBLE = "% Needs \\usepackage{booktabs} and, for names beyond ASCII, a font that has them.\n"
_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': "''", "±": r"$\pm$", "−": "$-$", "–": "--", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    }
)  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX prints it literally."""
    return text.translate(_SPECIAL)


def write_table1(table: pd.DataFrame, tests: pd.DataFrame | None, results: BenchmarkResults, path: Path) -> None:
    """Write the comparison with its costs, one row for each label group and system.

    Args:
        table: From ``tables.comparison_table``.
        tests: From ``tables.primary_table``.
        results: For the caption.
        path: File to write.
    """
    several = table["label"].nunique() > 1
    cells = pd.DataFrame({"Method": table["name"]})
    if several:
        cells.insert(0, "Label", table["label"])
    for metric, name in METRICS.items():
        values = zip(table[f"{metric}_mean"], table[f"{metric}_sd"], strict=True)
        marks = [
            _mark(tests, row.system, metric) if row.label == table["label"].iloc[0] else ""
            for row in table.itertuples()
        ]
        cells[name] = [shown.mean_and_sd(*value) + mark for value, mark in zip(values, marks, strict=True)]
    numbers = {
        "Parameters (M)": "parameters_million",
        "Hours": "training_hours",
        "Seconds per case": "seconds_per_case",
    }
    for title, column in numbers.items():
        cells[title] = table[column].map(lambda value: shown.number(value, 2))
    best = _best(table, cells, {name: f"{metric}_mean" for metric, name in METRICS.items()}, by=table["label"])
    caption = (
        f"{results.dataset}: mean and standard deviation over cases, NSD at {results.tolerance_in_words}; "
        f"budget: {results.budget}. Bold: best mean. † and ‡: differs from its baseline with p < 0.05 and p < 0.001 in "
        "a declared comparison (Wilcoxon signed-rank test over cases, Holm's correction)."
    )
    _write(cells, best, caption, path)


def write_table2(table: pd.DataFrame, results: BenchmarkResults, path: Path) -> None:
    """Write the ablation.

    Args:
        table: From ``tables.ablation_table``.
        results: For the caption.
        path: File to write.
    """
    cells = shown.variants(table)
    kinds = [f"{metric}_{count}_mean" for count in shown.clicks_of(table) for metric in METRICS]
    best = _best(table, cells, dict(zip(cells.columns[1:], kinds, strict=True)), by=pd.Series("", index=table.index))
    labels = f" over {ALL_LABELS}" if len(results.labels) > 1 else ""
    caption = (
        f"{results.dataset}: variants of the network. Mean and standard deviation over cases{labels}, "
        f"NSD at {results.tolerance_in_words}; budget: {results.budget}. Bold: best mean."
    )
    _write(cells, best, caption, path)


def _mark(tests: pd.DataFrame | None, system: str, metric: str) -> str:
    if tests is None:
        return ""
    p = tests.loc[(tests["system"] == system) & (tests["metric"] == metric), "p_holm"].min()
    return next((mark for limit, mark in MARKS if p < limit), "")


def _best(table: pd.DataFrame, cells: pd.DataFrame, columns: dict[str, str], *, by: pd.Series) -> pd.DataFrame:
    """Where a cell is the best of its group as printed."""
    best = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    for title, column in columns.items():
        best[title] = table[column].round(3) == table[column].round(3).groupby(by).transform("max")
    return best


def _write(cells: pd.DataFrame, best: pd.DataFrame, caption: str, path: Path) -> None:
    styler = (
        cells.style.format(escape)
        .format_index(escape, axis=1)
        .hide(axis="index")
        .apply(lambda _: best.map(lambda bold: "textbf:--rwrap" if bold else ""), axis=None)
    )
    with atomic_path(path) as temporary:
        latex = styler.to_latex(
            hrules=True, caption=escape(caption), position_float="centering", column_format="l" * cells.shape[1]
        )
        temporary.write_text(_PREAMBLE + latex, encoding="utf-8")
