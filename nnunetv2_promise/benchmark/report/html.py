"""The benchmark's report: one HTML file with everything in it, and its numbers as CSV, JSON and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_promise.benchmark.report import latex, plots, shown
from nnunetv2_promise.benchmark.report.correction_tables import correction_curves, correction_table
from nnunetv2_promise.benchmark.report.explanation import averaging, corrected, notes
from nnunetv2_promise.benchmark.report.grouping import METRICS, check_results, plain_systems
from nnunetv2_promise.benchmark.report.pictures import case_pictures
from nnunetv2_promise.benchmark.report.tables import (
    ablation_table,
    comparison_table,
    declared_pairs,
    object_table,
    primary_table,
    robustness_table,
)
from nnunetv2_promise.benchmark.results import SCORE_COLUMNS, BenchmarkResults
from nnunetv2_promise.files import atomic_path, write_json
from nnunetv2_promise.html_page import data_url, render

REPORT_NAME = "report.html"
_PICTURE_DPI = 80


def write_report(results: BenchmarkResults, folder: Path) -> Path:
    """Write the report and its numbers; equal results give equal files.

    Beside ``report.html``: ``table1.csv`` and ``table1.tex`` (the comparison), ``tests.csv`` (the declared
    comparisons), ``table2.csv`` and ``table2.tex`` (the variants of the network), ``objects.csv`` (was the click
    obeyed), ``corrections.csv`` and ``correction_curves.csv`` and ``robustness.csv`` where there are such results;
    ``scores.csv``, ``object_scores.csv`` and ``correction_scores.csv`` (every system, case, label and object) and
    ``report.json`` (all of it). The HTML is written last.

    Args:
        results: Of the benchmark.
        folder: Where to write; made if missing.

    Returns:
        The HTML file.

    Raises:
        UserError: If there are no scores, the reference is none of the systems, or a picture's file is unreadable.
    """
    check_results(results)
    tables = {
        "table1": comparison_table(results),
        "tests": primary_table(results),
        "table2": ablation_table(results),
        "objects": object_table(results),
        "corrections": correction_table(results),
        "correction_curves": correction_curves(results),
        "robustness": robustness_table(results),
    }
    explained = notes(results, tables["table1"], tables["tests"])
    html = render("benchmark.html", **_content(results, tables, explained))
    for name, table in tables.items():
        _write_csv(table, folder / f"{name}.csv", digits="%.6g")
    _write_csv(results.scores[list(SCORE_COLUMNS)], folder / "scores.csv")
    _write_csv(None if results.corrections.empty else results.corrections, folder / "correction_scores.csv")
    _write_csv(None if results.objects.empty else results.objects, folder / "object_scores.csv")
    latex.write_table1(tables["table1"], tables["tests"], results, folder / "table1.tex")
    if tables["table2"] is None:
        (folder / "table2.tex").unlink(missing_ok=True)
    else:
        latex.write_table2(tables["table2"], results, folder / "table2.tex")
    write_json(_json(results, tables, explained), folder / "report.json")
    with atomic_path(folder / REPORT_NAME) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return folder / REPORT_NAME


def _write_csv(table: pd.DataFrame | None, path: Path, *, digits: str | None = None) -> None:
    """Write a table atomically, an empty cell for what is undefined; without a table, remove an older file."""
    if table is None:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format=digits)


def _json(
    results: BenchmarkResults, tables: Mapping[str, pd.DataFrame | None], explained: Sequence[str]
) -> dict[str, Any]:
    """What was compared, and every table; null for what is undefined, and for a table that is not there."""
    records = {
        name: None if table is None else json.loads(table.to_json(orient="records", double_precision=15))
        for name, table in tables.items()
    }
    return {
        "dataset": results.dataset,
        "reference": results.reference,
        "systems": list(results.systems),
        "labels": {name: list(v) if isinstance(v, tuple) else v for name, v in results.labels.items()},
        "tolerance_mm": results.tolerance_mm,
        "label_tolerances_mm": dict(results.label_tolerances_mm),
        "budget": results.budget,
        "commands": list(results.commands),
        "notes": list(explained),
        **records,
    }


def _content(
    results: BenchmarkResults, tables: Mapping[str, pd.DataFrame | None], explained: Sequence[str]
) -> dict[str, Any]:
    """What the template shows."""
    # Pictures are drawn first, since they read files that may be broken.
    pictures = [
        {
            "rank": shown.rank,
            "case": shown.case,
            "caption": shown.caption,
            "url": data_url(shown.figure, dpi=_PICTURE_DPI),
        }
        for shown in case_pictures(results)
    ]
    comparison = tables["table1"]
    groups = (
        {} if comparison is None else {g: shown.scores(part) for g, part in comparison.groupby("label", sort=False)}
    )
    optional = {
        name: None if tables[name] is None else write(tables[name])
        for name, write in (
            ("tests", shown.tests),
            ("table2", shown.variants),
            ("objects", shown.objects),
            ("corrections", shown.corrections),
            ("robustness", shown.robustness),
        )
    }
    kinds = [kind for kind in plots.KIND_NAMES if kind in set(plain_systems(results)["condition"])]
    return {
        "title": f"{results.dataset}: benchmark",
        "notes": explained,
        "averaging": averaging(results),
        "corrected": corrected(results),
        "groups": groups,
        "costs": shown.costs(comparison),
        **optional,
        "diagrams": [
            {"title": title, "explanation": text, "key": key, "url": data_url(figure)}
            for title, text, key, figure in _diagrams(results, tables, kinds)
            if figure is not None
        ],
        "pictures": pictures,
        "commands": results.commands,
    }


def _diagrams(
    results: BenchmarkResults, tables: Mapping[str, pd.DataFrame | None], kinds: Sequence[str]
) -> Iterator[tuple[str, str, list[tuple[str, str]], Any]]:
    """Title, explanation, key of colours and figure of each diagram; the figure is None where there are no numbers."""
    key = [(plots.KIND_COLOURS[kind], plots.KIND_NAMES[kind]) for kind in kinds]
    clicked = [pair for kind, pair in zip(kinds, key, strict=True) if kind != "none"]
    boxes = "A point is a case; boxes hold the middle half of the cases, lines in them are medians."
    lines = (
        "A line is a case, from its Dice under the baseline to its Dice under the system: blue better, orange worse, "
        "grey equal to within 0.005. Black diamonds are means."
    )
    points = "A point is a label of a case."
    offsets = f"{points} The distance is the mean over the first clicks on the label's objects."
    pairs = [(system, baseline) for system, baseline, _ in declared_pairs(results)]
    yield "Every case", boxes, key, plots.box_plots(results)
    yield "Case by case", lines, [], plots.paired_lines(results, pairs)
    yield "Dice against object volume", points, key, plots.against_volume(results)
    yield "Dice against number of clicks", "", [], plots.against_clicks(results)
    yield ("Dice against the click's distance from the centre", offsets, clicked, plots.against_click_offset(results))
    curves, moved = tables["correction_curves"], tables["robustness"]
    for metric, name in METRICS.items():
        figure = None if curves is None else plots.correction_curves(curves[curves["metric"] == metric], name)
        yield f"{name} after each click on an error", "Means over cases with their 95 % intervals.", [], figure
    yield "Dice against the place of the click", "", [], None if moved is None else plots.robustness(moved)
