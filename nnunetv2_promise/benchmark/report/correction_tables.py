"""What clicks on a mask's errors give: one row for each system, and its curves over the clicks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import METRICS, plain_systems
from nnunetv2_promise.benchmark.report.names import ENDS, method_names
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import summarize
from nnunetv2_promise.evaluation.correction_curves import QUALITIES, summarise_objects

_OBJECT = ["fold", "seed", "case", "label", "object"]
_CASE = ["fold", "seed", "case"]


def correction_table(results: BenchmarkResults) -> pd.DataFrame | None:
    """One row for each system; a case counts with the mean over its objects.

    Returns:
        Columns ``system``, ``name``, ``objects``, ``clicks``; ``dice_1`` (with one click); for each metric ``_final``
        (with all clicks), ``_final_ci_low``, ``_final_ci_high`` and ``_auc`` (area under the curve over clicks, divided
        by its width; NaN with one click); for each quality q in per cent ``noc_q`` (clicks until Dice reaches it, at
        most all) and ``nof_q`` (share of objects that never reach it); ``seconds_median`` and ``seconds_p95`` of a
        click, over all clicks. None if no object was corrected.
    """
    rows = []
    for system, name, table in _systems(results):
        objects = summarise_objects(table[[*_OBJECT, "clicks", "dice", "nsd", "seconds", "positive"]])
        of_case = objects.groupby(_CASE).mean(numeric_only=True)
        row: dict[str, Any] = {"system": system, "name": name, "objects": len(objects.drop_duplicates(_OBJECT[2:]))}
        row["clicks"] = int(table["clicks"].max())
        row["dice_1"] = table[table["clicks"] == 1].groupby(_CASE)["dice"].mean().groupby("case").mean().mean()
        for metric in METRICS:
            final = summarize(of_case[f"{metric}_final"])
            row |= {f"{metric}_final": final.mean, f"{metric}_final_ci_low": final.ci_low}
            row |= {f"{metric}_final_ci_high": final.ci_high, f"{metric}_auc": _mean(of_case[f"{metric}_auc"])}
        for quality in (f"{100 * quality:.0f}" for quality in QUALITIES):
            row[f"noc_{quality}"] = _mean(of_case[f"noc_{quality}"])
            row[f"nof_{quality}"] = 1 - _mean(of_case[f"reached_{quality}"])
        seconds = table["seconds"].dropna()
        row["seconds_median"] = seconds.median() if len(seconds) else np.nan
        row["seconds_p95"] = seconds.quantile(0.95) if len(seconds) else np.nan
        rows.append(row)
    return pd.DataFrame(rows) if rows else None


def correction_curves(results: BenchmarkResults) -> pd.DataFrame | None:
    """Dice and NSD after each number of clicks, with their intervals.

    Returns:
        Columns ``system``, ``name``, ``metric``, ``clicks``, ``n`` (cases), ``mean``, ``sd``, ``ci_low``, ``ci_high``;
        a case counts with the mean over its objects. None if no object was corrected.
    """
    rows = []
    for system, name, table in _systems(results):
        for metric in METRICS:
            for clicks, part in table.groupby("clicks"):
                found = summarize(part.groupby(_CASE)[metric].mean())
                rows.append({"system": system, "name": name, "metric": metric, "clicks": clicks, **vars(found)})
    return pd.DataFrame(rows) if rows else None


def _systems(results: BenchmarkResults) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """System, its name, and its rows."""
    names = method_names(plain_systems(results))
    for (system, trainer, plans), table in results.corrections.groupby(["system", "trainer", "plans"], sort=False):
        cut_down = ENDS["nearest"] if table["seconds"].isna().all() else ""
        yield str(system), names[trainer, plans] + cut_down, table


def _mean(of_case: pd.Series) -> float:
    """Mean over cases, of which each counts once, with the mean over its trainings."""
    return float(of_case.groupby("case").mean().mean())
