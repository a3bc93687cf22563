"""The report's diagrams. One panel for each system, so that two and sixteen systems read alike."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from nnunetv2_promise.benchmark.report.grouping import (
    METRICS,
    case_scores,
    plain_scores,
    plain_systems,
    training_scores,
)
from nnunetv2_promise.benchmark.report.names import ENDS, method_names, system_names
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import summarize

# Okabe and Ito's colours, which readers with any colour vision can tell apart.
KIND_COLOURS = {"none": "#0072b2", "nearest": "#e69f00", "crop": "#cc79a7", "clicks": "#009e73"}
KIND_NAMES = {
    "none": "no click",
    "nearest": "no click, cut down by clicks afterwards",
    "crop": "no click, on the crop around the clicks",
    "clicks": "promptable",
}
BETTER, WORSE, EQUAL = "#0072b2", "#d55e00", "#8a8a8a"
_LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#a6761d")
_MARKERS = "os^Dv<>P"
_WIDTH = 9.6
_COLUMNS = 4


def box_plots(results: BenchmarkResults) -> Figure:
    """Dice and NSD of every case, one row for each system."""
    systems, names = plain_systems(results), system_names(results)
    wrapped = {system: textwrap.fill(names[system], 34) for system in systems.index}
    colours = {wrapped[system]: KIND_COLOURS[kind] for system, kind in systems["condition"].items()}
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.42 * len(systems)), layout="constrained")
    for panel, (metric, title) in zip(figure.subplots(1, 2, sharey=True), METRICS.items(), strict=True):
        wide = case_scores(plain_scores(results), metric).reindex(columns=systems.index).rename(columns=wrapped)
        common = {"data": wide, "orient": "h", "palette": colours, "ax": panel}
        with warnings.catch_warnings():
            # Seaborn 0.13 passes matplotlib 3.11 an argument that is deprecated there.
            warnings.filterwarnings("ignore", message="vert: bool")
            sns.boxplot(**common, showfliers=False, width=0.55, fill=False, linewidth=1.3)
        np.random.seed(0)  # seaborn draws its jitter from the global state
        sns.stripplot(**common, size=3, alpha=0.5, jitter=0.2)
        tolerance = f" (tolerance {results.tolerance_in_words})" if metric == "nsd" else ""
        panel.set(xlabel=title + tolerance, ylabel="", xlim=(-0.03, 1.03))
        panel.grid(axis="x", alpha=0.25)
    return _finished(figure)


def paired_lines(results: BenchmarkResults, pairs: Sequence[tuple[str, str]]) -> Figure | None:
    """Dice of every case under a baseline and under a system, joined by a line; None without pairs.

    Args:
        results: Of the benchmark.
        pairs: (system, baseline) of each panel.
    """
    if not pairs:
        return None
    names, wide = system_names(results), case_scores(plain_scores(results), "dice")
    figure, panels = _grid(len(pairs), height=2.3)
    for panel, (system, baseline) in zip(panels, pairs, strict=True):
        both = wide[[baseline, system]].dropna()
        for before, after in both.to_numpy():
            change = after - before
            colour = EQUAL if abs(change) < 0.005 else BETTER if change > 0 else WORSE
            panel.plot((0, 1), (before, after), color=colour, alpha=0.55, linewidth=1, marker="o", markersize=2.5)
        panel.plot((0, 1), both.mean(), color="black", linewidth=2, marker="D", markersize=5)
        panel.set(xlim=(-0.25, 1.25), ylim=(-0.03, 1.03))
        panel.set_xticks((0, 1), ("baseline", "system"))
        _title(panel, names[system], f"against {names[baseline]}, n\u00a0=\u00a0{len(both)}")
    _label_outer(panels, ylabel="Dice of a case")
    return _finished(figure)


def against_volume(results: BenchmarkResults) -> Figure | None:
    """Dice against the volume of the label in the truth; None if no label has a volume."""
    scores = plain_scores(results)
    return _scatter(
        results, scores[scores["truth_mm3"] > 0], "truth_mm3", "volume in the truth (mm³)", logarithmic=True
    )


def against_click_offset(results: BenchmarkResults) -> Figure | None:
    """Dice against the distance of the first click from its object's centre of mass; None without clicks."""
    return _scatter(
        results, plain_scores(results), "click_offset_mm", "distance of the first click from the centre (mm)"
    )


def against_clicks(results: BenchmarkResults) -> Figure | None:
    """Mean Dice against the number of clicks; None if no trainer was scored with two numbers of clicks."""
    systems = plain_systems(results)
    clicked = systems[systems["condition"] != "none"]
    lines = {key: rows for key, rows in clicked.groupby(["trainer", "plans", "condition"], sort=False)}
    if all(rows["points"].nunique() < 2 for rows in lines.values()):
        return None
    names, wide = method_names(systems), training_scores(plain_scores(results), "dice")
    counts = sorted(clicked["points"].unique())
    curves = {}
    for (trainer, plans, condition), rows in lines.items():
        label = names[trainer, plans] + ENDS.get(condition, "")
        found = [summarize(wide[system]) for system in rows.index]
        curves[label] = pd.DataFrame(found).assign(place=[counts.index(points) for points in rows["points"]])
    figure = curve_figure(curves, xlabel="clicks for each object", ylabel="mean Dice (95 % interval)")
    figure.axes[0].set_xticks(range(len(counts)), [str(count) for count in counts])
    return figure


def correction_curves(table: pd.DataFrame, metric: str) -> Figure:
    """Mean scores after each click on an error, one line for each system.

    Args:
        table: Rows of one metric of ``correction_tables.correction_curves``.
        metric: Its name.
    """
    curves = {name: rows.assign(place=rows["clicks"]) for name, rows in table.groupby("name", sort=False)}
    figure = curve_figure(curves, xlabel="clicks for each object", ylabel=f"mean {metric} (95 % interval)")
    figure.axes[0].set_xticks(sorted(table["clicks"].unique()))
    return figure


def curve_figure(curves: dict[str, pd.DataFrame], *, xlabel: str, ylabel: str) -> Figure:
    """Means with their intervals, one line for each entry.

    Args:
        curves: Label -> columns ``place``, ``mean``, ``ci_low``, ``ci_high``.
        xlabel: Of the axis.
        ylabel: Of the axis.
    """
    figure = Figure(figsize=(_WIDTH, max(3.4, 0.9 + 0.24 * len(curves))), layout="constrained")
    panel = figure.subplots()
    for number, (label, curve) in enumerate(curves.items()):
        colour, marker = _style(number)
        places = curve["place"] + 0.3 * ((number + 0.5) / len(curves) - 0.5)
        errors = _error_bars(curve["mean"], curve["ci_low"], curve["ci_high"])
        style = "--" if number >= len(_LINE_COLOURS) else "-"
        panel.errorbar(
            places, curve["mean"], yerr=errors, color=colour, marker=marker, linestyle=style, capsize=2, label=label
        )
    panel.set(xlabel=xlabel, ylabel=ylabel)
    panel.grid(axis="y", alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _finished(figure)


def robustness(table: pd.DataFrame) -> Figure:
    """Mean Dice for each place of the click.

    Args:
        table: From ``tables.robustness_table``.
    """
    names, conditions = list(dict.fromkeys(table["name"])), list(dict.fromkeys(table["condition"]))
    height = 1.2 + len(conditions) * max(0.4, 0.16 * len(names))
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    panel = figure.subplots()
    for number, name in enumerate(names):
        rows = table[table["name"] == name]
        colour, marker = _style(number)
        shift = 0.6 * ((number + 0.5) / len(names) - 0.5)
        places = [conditions.index(condition) + shift for condition in rows["condition"]]
        errors = _error_bars(rows["dice_mean"], rows["dice_ci_low"], rows["dice_ci_high"])
        panel.errorbar(rows["dice_mean"], places, xerr=errors, fmt=marker, color=colour, capsize=2, label=name)
    panel.set_yticks(range(len(conditions)), conditions)
    panel.set(xlabel="mean Dice (95 % interval)", xlim=(-0.03, 1.03), ylim=(len(conditions) - 0.5, -0.5))
    panel.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _finished(figure)


def _scatter(
    results: BenchmarkResults, scores: pd.DataFrame, column: str, label: str, *, logarithmic: bool = False
) -> Figure | None:
    """Dice of every case and label against a column, one panel for each system that has values of it."""
    systems, names = plain_systems(results), system_names(results)
    defined = scores[scores["dice"].notna() & scores[column].notna()]
    shown = [system for system in systems.index if system in set(defined["system"])]
    if not shown:
        return None
    grid = sns.relplot(
        defined, x=column, y="dice", col="system", col_order=shown, col_wrap=min(len(shown), _COLUMNS),
        hue="condition", palette=KIND_COLOURS, legend=False, height=2.3, aspect=_WIDTH / 2.3 / _COLUMNS,
        s=14, alpha=0.6, linewidth=0,
    )  # fmt: skip
    plt.close(grid.figure)
    for system, panel in grid.axes_dict.items():
        panel.set(ylim=(-0.03, 1.03), xlabel="", ylabel="")
        panel.grid(alpha=0.25)
        _title(panel, names[system])
        if logarithmic:
            _logarithmic(panel, defined[column])
    _label_outer(list(grid.axes_dict.values()), ylabel="Dice")
    grid.figure.supxlabel(label, fontsize="medium")
    grid.figure.set_layout_engine("constrained")
    return _finished(grid.figure)


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
    panel.set_title("\n".join(textwrap.fill(line, 30) for line in lines), fontsize=9)


def _finished(figure: Figure) -> Figure:
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
    return figure
