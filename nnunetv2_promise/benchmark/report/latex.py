"""The tables as LaTeX: booktabs, best value bold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import ALL_LABELS, METRICS
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.files import atomic_path

MARKS = ((0.001, r"\ddagger"), (0.05, r"\dagger"))
"""Holm's p below the number earns the mark; the smallest comes first."""
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "±": r"$\pm$", "³": r"$^3$",
}  # fmt: skip
_PREAMBLE = "% Needs \\usepackage{booktabs} and, for names beyond ASCII, a font that has them.\n"


def escape(text: str) -> str:
    """Text as LaTeX prints it literally."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def write_table1(table: pd.DataFrame, results: BenchmarkResults, path: Path) -> None:
    """Write the comparison; one block for each label group, costs in the first.

    Args:
        table: From ``tables.comparison_table``.
        results: For the caption.
        path: File to write.
    """
    groups = list(dict.fromkeys(table["label"]))
    hours = hours_heading(table["device"])
    head = ["Method", "Dice", "NSD", "Parameters (M)", "Trained (M)", hours, "Seconds per case"]
    blocks = []
    for group in groups:
        part = table[table["label"] == group]
        title = [rf"\multicolumn{{7}}{{l}}{{\emph{{{escape(group)}}}}} \\"] if len(groups) > 1 else []
        blocks.append(title + _comparison_rows(part, costs=group == groups[0]))
    reference = table.loc[table["system"] == results.reference, "name"].iloc[0]
    caption = (
        f"{results.dataset}: mean and standard deviation over cases, NSD at {results.tolerance_mm:g} mm; "
        f"budget: {results.budget}. Bold: best mean. "
    )
    marks = (
        rf"$^\dagger$ and $^\ddagger$: differs from {escape(reference)} with $p<0.05$ and $p<0.001$ "
        "(Wilcoxon signed-rank test, Holm's correction)."
    )
    _write(path, head, blocks, escape(caption) + marks, "l" + "c" * 2 + "r" * 4)


def write_table2(table: pd.DataFrame, results: BenchmarkResults, path: Path) -> None:
    """Write the ablation.

    Args:
        table: From ``tables.ablation_table``.
        results: For the caption.
        path: File to write.
    """
    points = clicks_of(table)
    kinds = [f"{metric}_{count}" for count in points for metric in METRICS]
    best = {kind: table[f"{kind}_mean"].max() for kind in kinds}
    rows = []
    for row in table.to_dict("records"):
        cells = [score(row[f"{kind}_mean"], row[f"{kind}_sd"], best=best[kind]) for kind in kinds]
        rows.append(_line([escape(row["name"]), *cells]))
    head = ["Variant"] + [f"{kind}, {plural(count)}" for count in points for kind in ("Dice", "NSD")]
    labels = f" over {ALL_LABELS}" if len(results.labels) > 1 else ""
    caption = (
        f"{results.dataset}: variants of the network. Mean and standard deviation over cases{labels}, "
        f"NSD at {results.tolerance_mm:g} mm; budget: {results.budget}. Bold: best mean."
    )
    _write(path, head, [rows], escape(caption), "l" + "c" * len(kinds))


def hours_heading(devices: Iterable[str]) -> str:
    """``"GPU hours"``, ``"CPU hours"``, or ``"hours"`` where both were used."""
    kinds = {"CPU" if device == "cpu" else "GPU" for cell in devices if cell for device in cell.split(", ")}
    return f"{kinds.pop()} hours" if len(kinds) == 1 else "Hours"


def clicks_of(table: pd.DataFrame) -> list[int]:
    """The numbers of clicks that Table 2 has columns for."""
    return [int(column.split("_")[1]) for column in table.columns if column.startswith("dice_") and "mean" in column]


def plural(clicks: int) -> str:
    """``"1 click"``, ``"10 clicks"``."""
    return f"{clicks} click{'' if clicks == 1 else 's'}"


def score(mean: float, sd: float, *, best: float, mark: str = "") -> str:
    """A cell: mean, plus or minus standard deviation; bold where the mean is the best as printed."""
    if pd.isna(mean):
        return "--"
    number = f"{mean:.3f}"
    number = rf"\mathbf{{{number}}}" if number == f"{best:.3f}" else number
    return rf"${number} \pm {sd:.3f}" + (f"^{{{mark}}}$" if mark else "$")


def _comparison_rows(part: pd.DataFrame, *, costs: bool) -> list[str]:
    best = {metric: part[f"{metric}_mean"].max() for metric in METRICS}
    rows = []
    for row in part.to_dict("records"):
        cells = [
            score(row[f"{metric}_mean"], row[f"{metric}_sd"], best=best[metric], mark=_mark(row[f"{metric}_p_holm"]))
            for metric in METRICS
        ]
        numbers = [
            f"{row['parameters_million']:.2f}",
            f"{row['trained_parameters_million']:.2f}",
            f"{row['training_hours']:.2f}",
            f"{row['seconds_per_case']:.2f}",
        ]
        cost_cells = ["--" if number == "nan" else number for number in numbers] if costs else [""] * 4
        rows.append(_line([escape(row["name"]), *cells, *cost_cells]))
    return rows


def _mark(p: float) -> str:
    return next((mark for limit, mark in MARKS if p < limit), "")


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _write(path: Path, head: Sequence[str], blocks: Sequence[Sequence[str]], caption: str, columns: str) -> None:
    body = "\n\\midrule\n".join("\n".join(block) for block in blocks)
    text = (
        f"{_PREAMBLE}\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{_line(head)}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
