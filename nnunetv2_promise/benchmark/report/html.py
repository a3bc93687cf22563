"""The benchmark's report: one HTML file with everything in it, and its numbers as CSV, JSON and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunetv2_promise import html_page as page
from nnunetv2_promise.benchmark.report import latex, plots
from nnunetv2_promise.benchmark.report.explanation import averaging, notes
from nnunetv2_promise.benchmark.report.exports import write_csv, write_report_json, write_scores
from nnunetv2_promise.benchmark.report.grouping import check_results, plain_systems
from nnunetv2_promise.benchmark.report.html_tables import ablation, comparison_groups, costs, robustness
from nnunetv2_promise.benchmark.report.pictures import case_pictures
from nnunetv2_promise.benchmark.report.tables import ablation_table, comparison_table, robustness_table
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.files import atomic_path

REPORT_NAME = "report.html"
_PICTURE_DPI = 80
_COSTS = (
    "Hours of training on one device, summed over folds. Peak memory is the GPU's on a GPU, the process's otherwise, "
    "and the largest of all folds. Seconds per case are those of prediction."
)
_VARIANTS = "Mean ± standard deviation over cases, for each number of clicks at prediction."
_ROBUSTNESS = (
    "One click for each object, put elsewhere; the networks are the same. Drop: mean over cases of the Dice with the "
    "plain click minus this one's. Spread: mean over cases of the standard deviation over seeds, the plain "
    "click's among them."
)
_BOXES = "A point is a case; boxes hold the middle half of the cases, black lines are medians."
_PAIRS = (
    "A line is a case, from its Dice under the reference to its Dice under the system: blue better, orange worse, grey "
    "equal to within 0.005. Black diamonds are means."
)
_SCATTER = "A point is a label of a case. Black lines join medians of groups of equal size."
_OFFSETS = f"{_SCATTER} The distance is the mean over the first clicks on the label's objects."
_PICTURES = (
    "Ranked by the Dice of the promptable system with the highest mean, or of the best system if none is promptable. "
    "Each case is shown under that system and under the reference, with the contours of one label. The cross hair is a "
    "click; a method without clicks has none."
)


def write_report(results: BenchmarkResults, folder: Path) -> Path:
    """Write the report and its numbers; equal results give equal files.

    Beside ``report.html``: ``table1.csv`` and ``table1.tex`` (the comparison), ``table2.csv`` and ``table2.tex`` (the
    variants of the network, if two or more were run), ``robustness.csv`` (if a robustness condition was run),
    ``scores.csv`` (every system, case and label) and ``report.json`` (all of it). The HTML is written last.

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
        "table2": ablation_table(results),
        "robustness": robustness_table(results),
    }
    explained = notes(results, tables["table1"])
    html = page.page(f"{results.dataset}: benchmark", _parts(results, tables, explained))
    for name, table in tables.items():
        if table is None:
            (folder / f"{name}.csv").unlink(missing_ok=True)
        else:
            write_csv(table, folder / f"{name}.csv")
    latex.write_table1(tables["table1"], results, folder / "table1.tex")
    if tables["table2"] is None:
        (folder / "table2.tex").unlink(missing_ok=True)
    else:
        latex.write_table2(tables["table2"], results, folder / "table2.tex")
    write_scores(results, folder / "scores.csv")
    write_report_json(results, tables, explained, folder / "report.json")
    with atomic_path(folder / REPORT_NAME) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return folder / REPORT_NAME


def _parts(
    results: BenchmarkResults, tables: Mapping[str, pd.DataFrame | None], explained: Sequence[str]
) -> Iterator[str]:
    """The page from top to bottom."""
    # Pictures come last and are drawn first, since they read files that may be broken.
    pictures = list(_pictures(results))
    comparison, variants, moved = tables["table1"], tables["table2"], tables["robustness"]
    yield page.heading("What was compared with what")
    yield from (page.paragraph(sentence) for sentence in explained)
    yield page.heading("Table 1: scores")
    yield page.paragraph(averaging(results), quiet=True)
    yield from comparison_groups(comparison, results.reference)
    yield page.heading("Costs")
    yield page.paragraph(_COSTS, quiet=True)
    yield costs(comparison)
    if variants is not None:
        yield page.heading("Table 2: variants of the network")
        yield page.paragraph(_VARIANTS, quiet=True)
        yield ablation(variants)
    if moved is not None:
        yield page.heading("Clicks in other places")
        yield page.paragraph(_ROBUSTNESS, quiet=True)
        yield robustness(moved)
    yield from _diagrams(results, moved)
    yield from pictures
    if results.commands:
        yield page.heading("Commands")
        yield page.code(results.commands)


def _diagrams(results: BenchmarkResults, moved: pd.DataFrame | None) -> Iterator[str]:
    systems = plain_systems(results)
    kinds = [kind for kind in plots.KIND_NAMES if kind in set(systems["condition"])]
    keys = {_BOXES: kinds, _SCATTER: kinds, _OFFSETS: [kind for kind in kinds if kind != "none"]}
    diagrams = {
        "Every case": (_BOXES, plots.box_plots(results)),
        "Case by case against the reference": (_PAIRS, plots.paired_lines(results) if len(systems) > 1 else None),
        "Dice against object volume": (_SCATTER, plots.against_volume(results)),
        "Dice against number of clicks": ("", plots.against_clicks(results)),
        "Dice against the click's distance from the centre": (_OFFSETS, plots.against_click_offset(results)),
        "Dice against the place of the click": ("", None if moved is None else plots.robustness(moved)),
    }
    for title, (explanation, figure) in diagrams.items():
        if figure is None:
            continue
        yield page.heading(title)
        if explanation:
            yield page.paragraph(explanation, quiet=True)
        if explanation in keys:
            yield page.colour_key([(plots.KIND_COLOURS[kind], plots.KIND_NAMES[kind]) for kind in keys[explanation]])
        yield page.picture(page.data_url(figure), title)


def _pictures(results: BenchmarkResults) -> Iterator[str]:
    rank = ""
    for shown in case_pictures(results):
        if not rank:
            yield page.heading("Best, median and worst case")
            yield page.paragraph(_PICTURES, quiet=True)
        if shown.rank != rank:
            rank = shown.rank
            yield page.heading(f"{rank.capitalize()}: {shown.case}", level=3)
        yield page.picture(page.data_url(shown.figure, dpi=_PICTURE_DPI), f"{shown.case}, {shown.caption}")
