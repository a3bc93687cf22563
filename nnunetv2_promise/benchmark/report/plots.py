"""The report's diagrams. One panel for each system, so that two and sixteen systems read alike."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from nnunetv2_promise.benchmark.report.grouping import case_scores, plain_scores, plain_systems
from nnunetv2_promise.benchmark.report.names import system_names, trainer_name
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import summarize

# Okabe and Ito's colours, which readers with any colour vision can tell apart.
KIND_COLOURS = {"none": "#0072b2", "nearest": "#e69f00", "clicks": "#009e73"}
KIND_NAMES = {"none": "no click", "nearest": "no click, cut down by clicks afterwards", "clicks": "promptable"}
BETTER, WORSE, EQUAL = "#0072b2", "#d55e00", "#8a8a8a"
_LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#a6761d")
_MARKERS = "os^Dv<>P"
_WIDTH = 9.6
_COLUMNS = 4
_POINTS_PER_MEDIAN, _MEDIANS = 5, 5


def box_plots(results: BenchmarkResults) -> Figure:
    """Dice and NSD of every case, one row for each system."""
    systems = plain_systems(results)
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.42 * len(systems)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"dice": "Dice", "nsd": f"NSD (tolerance {results.tolerance_mm:g} mm)"}
    for panel, (metric, title) in zip(panels, titles.items(), strict=True):
        wide = case_scores(plain_scores(results), metric).reindex(columns=systems.index)
        for row, (system, condition) in enumerate(systems["condition"].items()):
            _box(panel, wide[system].dropna().to_numpy(), row, KIND_COLOURS[condition])
        panel.set(xlabel=title, xlim=(-0.03, 1.03))
        panel.grid(axis="x", alpha=0.25)
    names = _names(results)
    panels[0].set_yticks(range(len(systems)), [textwrap.fill(names[system], 34) for system in systems.index])
    panels[0].set_ylim(len(systems) - 0.4, -0.6)
    return _finished(figure)


def paired_lines(results: BenchmarkResults) -> Figure:
    """Dice of every case under the reference and under each other system, joined by a line."""
    others = [system for system in plain_systems(results).index if system != results.reference]
    names = _names(results)
    wide = case_scores(plain_scores(results), "dice")
    figure, panels = _grid(len(others), height=2.3)
    for panel, system in zip(panels, others, strict=True):
        pairs = wide[[results.reference, system]].dropna()
        for before, after in pairs.to_numpy():
            change = after - before
            colour = EQUAL if abs(change) < 0.005 else BETTER if change > 0 else WORSE
            panel.plot((0, 1), (before, after), color=colour, alpha=0.55, linewidth=1, marker="o", markersize=2.5)
        panel.plot((0, 1), pairs.mean(), color="black", linewidth=2, marker="D", markersize=5)
        panel.set(xlim=(-0.25, 1.25), ylim=(-0.03, 1.03))
        panel.set_xticks((0, 1), ("reference", "system"))
        _title(panel, names[system], f"n = {len(pairs)}")
    _label_outer(panels, ylabel="Dice of a case")
    return _finished(figure)


def against_volume(results: BenchmarkResults) -> Figure | None:
    """Dice against the volume of the label in the truth; None if no label has a volume."""
    scores = plain_scores(results)
    scores = scores[scores["truth_mm3"] > 0]
    return _scatter(results, scores, "truth_mm3", "volume in the truth (mm³)", logarithmic=True)


def against_click_offset(results: BenchmarkResults) -> Figure | None:
    """Dice against the distance of the first click from its object's centre of mass; None without clicks."""
    return _scatter(
        results, plain_scores(results), "click_offset_mm", "distance of the first click from the centre (mm)"
    )


def against_clicks(results: BenchmarkResults) -> Figure | None:
    """Mean Dice against the number of clicks; None if no trainer was scored with two numbers of clicks."""
    systems = plain_systems(results)
    clicked = systems[systems["condition"] != "none"]
    counts = sorted(clicked["points"].unique())
    lines = [(key, rows) for key, rows in clicked.groupby(["trainer", "plans", "condition"], sort=False)]
    if all(rows["points"].nunique() < 2 for _, rows in lines):
        return None
    wide = case_scores(plain_scores(results), "dice")
    figure = Figure(figsize=(_WIDTH, max(3.4, 0.9 + 0.24 * len(lines))), layout="constrained")
    panel = figure.subplots()
    for number, ((trainer, plans, condition), rows) in enumerate(lines):
        shift = 0.3 * ((number + 0.5) / len(lines) - 0.5)
        label = f"{trainer_name(trainer)}{', cut down by clicks' if condition == 'nearest' else ''}"
        label += f" ({plans})" if clicked[clicked["trainer"] == trainer]["plans"].nunique() > 1 else ""
        places = [counts.index(points) + shift for points in rows["points"]]
        _mean_line(panel, places, [wide[system] for system in rows.index], number, label)
    panel.set_xticks(range(len(counts)), [str(count) for count in counts])
    panel.set(xlabel="clicks for each object", ylabel="mean Dice (95 % interval)", xlim=(-0.5, len(counts) - 0.5))
    panel.grid(axis="y", alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _finished(figure)


def robustness(table: pd.DataFrame) -> Figure:
    """Mean Dice for each place of the click.

    Args:
        table: From ``tables.robustness_table``.
    """
    trainers = list(dict.fromkeys(zip(table["trainer"], table["plans"], strict=True)))
    conditions = list(dict.fromkeys(table["condition"]))
    height = 1.2 + len(conditions) * max(0.4, 0.16 * len(trainers))
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    panel = figure.subplots()
    for number, (trainer, plans) in enumerate(trainers):
        rows = table[(table["trainer"] == trainer) & (table["plans"] == plans)]
        shift = 0.6 * ((number + 0.5) / len(trainers) - 0.5)
        colour, marker = _style(number)
        places = [conditions.index(condition) + shift for condition in rows["condition"]]
        errors = _error_bars(rows["dice_mean"], rows["dice_ci_low"], rows["dice_ci_high"])
        label = rows["name"].iloc[0] + (f" ({plans})" if [t for t, _ in trainers].count(trainer) > 1 else "")
        panel.errorbar(rows["dice_mean"], places, xerr=errors, fmt=marker, color=colour, capsize=2, label=label)
    panel.set_yticks(range(len(conditions)), conditions)
    panel.set(xlabel="mean Dice (95 % interval)", xlim=(-0.03, 1.03), ylim=(len(conditions) - 0.5, -0.5))
    panel.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _finished(figure)


def _scatter(
    results: BenchmarkResults, scores: pd.DataFrame, column: str, label: str, *, logarithmic: bool = False
) -> Figure | None:
    """Dice of every case and label against a column, one panel for each system that has values of it."""
    systems = plain_systems(results)
    defined = scores[scores["dice"].notna() & scores[column].notna()]
    shown = [system for system in systems.index if system in set(defined["system"])]
    if not shown:
        return None
    names = _names(results)
    figure, panels = _grid(len(shown), height=2.1)
    for panel, system in zip(panels, shown, strict=True):
        rows = defined[defined["system"] == system]
        colour = KIND_COLOURS[systems.loc[system, "condition"]]
        panel.scatter(rows[column], rows["dice"], s=12, color=colour, alpha=0.6, linewidths=0)
        panel.plot(*_running_median(rows[column].to_numpy(), rows["dice"].to_numpy()), color="black", linewidth=1.5)
        panel.set(ylim=(-0.03, 1.03))
        if logarithmic:
            _logarithmic(panel, defined[column])
        panel.grid(alpha=0.25)
        _title(panel, names[system])
    _label_outer(panels, ylabel="Dice")
    figure.supxlabel(label, fontsize="medium")
    return _finished(figure)


def _logarithmic(panel: Axes, values: pd.Series) -> None:
    """A logarithmic x axis with few labels; matplotlib's own run into each other in a small panel."""
    ticks = _few_ticks(values.min(), values.max())
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(ticks, [f"{tick:,.7g}" for tick in ticks])


def _few_ticks(low: float, high: float) -> list[float]:
    """Two to four round numbers of a logarithmic range: of 1, 2, 5, 10, ... or of powers of 10; else its ends."""
    decades = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for candidates in (np.outer(decades, (1, 2, 5)).ravel(), decades, decades[::2], decades[::4]):
        inside = [float(tick) for tick in candidates if low <= tick <= high]
        if 2 <= len(inside) <= 4:
            return inside
    return sorted({float(f"{end:.2g}") for end in (low, high)})


def _running_median(x: NDArray, y: NDArray) -> tuple[list[float], list[float]]:
    """Medians of groups of equal size along x; empty with too few points for two of them."""
    groups = min(_MEDIANS, len(x) // _POINTS_PER_MEDIAN)
    if groups < 2:
        return [], []
    parts = np.array_split(np.argsort(x, kind="stable"), groups)
    return [float(np.median(x[part])) for part in parts], [float(np.median(y[part])) for part in parts]


def _box(panel: Axes, values: NDArray, row: int, colour: str) -> None:
    """A box with its points; jitter is by rank, so that it is the same in every report."""
    if not values.size:
        return
    line = {"color": colour, "linewidth": 1.3}
    panel.boxplot(
        values, positions=[row], orientation="horizontal", widths=0.55, showfliers=False, manage_ticks=False,
        boxprops=line, whiskerprops=line, capprops=line, medianprops={"color": "black", "linewidth": 1.8},
    )  # fmt: skip
    jitter = (np.arange(values.size) * 0.618034 % 1 - 0.5) * 0.4
    panel.scatter(values, row + jitter, s=9, color=colour, alpha=0.5, linewidths=0, zorder=3)


def _mean_line(panel: Axes, places: Sequence[float], values: Sequence[pd.Series], number: int, label: str) -> None:
    found = [summarize(series) for series in values]
    means = [summary.mean for summary in found]
    errors = _error_bars(means, [item.ci_low for item in found], [item.ci_high for item in found])
    colour, marker = _style(number)
    style = "--" if number >= len(_LINE_COLOURS) else "-"
    panel.errorbar(places, means, yerr=errors, color=colour, marker=marker, linestyle=style, capsize=2, label=label)


def _error_bars(means: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """(2, n) lengths of the bars below and above; a corrected interval may leave out its mean, a bar may not."""
    centre = np.asarray(means, dtype=float)
    return np.clip([centre - np.asarray(low, dtype=float), np.asarray(high, dtype=float) - centre], 0, None)


def _style(number: int) -> tuple[str, str]:
    """Colour and marker; pairs do not repeat before every colour had every marker."""
    colours = len(_LINE_COLOURS)
    return _LINE_COLOURS[number % colours], _MARKERS[(number + number // colours) % len(_MARKERS)]


def _grid(n: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """Panels in rows of up to ``_COLUMNS`` with common axes; places without a panel are blank."""
    columns = min(n, _COLUMNS)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(min(_WIDTH, 3.2 * columns), 0.5 + height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for panel in panels[n:]:
        panel.set_axis_off()
    for panel in panels[n - columns : n]:
        panel.xaxis.set_tick_params(labelbottom=True)
    return figure, panels[:n]


def _label_outer(panels: Sequence[Axes], *, ylabel: str) -> None:
    for panel in panels[::_COLUMNS]:
        panel.set_ylabel(ylabel)


def _title(panel: Axes, *lines: str) -> None:
    panel.set_title("\n".join(textwrap.fill(line, 28) for line in lines), fontsize=9)


def _names(results: BenchmarkResults) -> dict[str, str]:
    return system_names(plain_systems(results)["trainer"].to_dict())


def _finished(figure: Figure) -> Figure:
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure
