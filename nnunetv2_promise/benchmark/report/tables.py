"""The benchmark's tables: the comparison (the paper's Table 1), the ablation (Table 2) and robustness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import (
    METRICS,
    PLAIN_CONDITIONS,
    case_scores,
    in_group,
    label_groups,
    plain_scores,
    plain_systems,
)
from nnunetv2_promise.benchmark.report.names import ABLATIONS, condition_name, method_class, system_names, trainer_name
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import compare, holm, summarize

GIB = 2**30


def comparison_table(results: BenchmarkResults) -> pd.DataFrame:
    """Table 1: one row for each label group and system, systems in their order.

    Returns:
        Columns ``label``, ``system``, ``name``, ``trainer``, ``plans``, ``condition``, ``points``; for each metric
        ``_n``, ``_mean``, ``_sd``, ``_ci_low``, ``_ci_high``, and against the reference ``_pairs``, ``_difference``,
        ``_p``, ``_p_holm``, ``_effect`` (NaN for the reference itself); ``parameters_million``,
        ``trained_parameters_million``, ``training_hours`` (summed over folds), ``device``, ``peak_memory_gib``,
        ``seconds_per_case``.
    """
    systems = plain_systems(results)
    names = pd.Series(system_names(systems["trainer"].to_dict()), name="name")
    costs = pd.DataFrame([_costs(results, system) for system in systems.itertuples()], index=systems.index)
    parts = []
    for group in label_groups(results):
        scored = [_score_columns(results, group, metric, list(systems.index)) for metric in METRICS]
        part = pd.concat([names, systems, *scored, costs], axis=1).rename_axis("system").reset_index()
        part.insert(0, "label", group)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def ablation_table(results: BenchmarkResults) -> pd.DataFrame | None:
    """Table 2: one row for each variant of the network, in the paper's order.

    Returns:
        Columns ``name``, ``trainer``, ``plans``, and for each number of clicks k ``dice_k_n``, ``dice_k_mean``,
        ``dice_k_sd`` and the same of ``nsd``, over all labels. None if fewer than two variants were run.
    """
    systems = plain_systems(results)
    order = list(ABLATIONS)
    variants = systems[(systems["condition"] == "clicks") & systems["trainer"].map(method_class).isin(order)]
    if variants["trainer"].map(method_class).nunique() < 2:
        return None
    wide = {metric: case_scores(plain_scores(results), metric) for metric in METRICS}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for points in sorted(variants["points"].unique()):
        for system in variants[variants["points"] == points].itertuples():
            row = rows.setdefault((system.trainer, system.plans), _identity(ABLATIONS, system.trainer, system.plans))
            for metric in METRICS:
                found = summarize(wide[metric][system.Index])
                row |= {f"{metric}_{points}_{key}": getattr(found, key) for key in ("n", "mean", "sd")}
    by_paper = sorted(rows.values(), key=lambda row: order.index(method_class(row["trainer"])))
    return pd.DataFrame(by_paper)


def robustness_table(results: BenchmarkResults) -> pd.DataFrame | None:
    """What happens if the click moves: one row for each trainer and condition, Dice over all labels.

    The first row of a trainer is its plain click, if it was scored with one click. Conditions ``seed1``, ``seed2``, ...
    are one row together with the plain click, which is drawn in the same way: the score of a case is its mean over
    them, and ``spread`` says how far they lie apart.

    Returns:
        Columns ``name``, ``trainer``, ``plans``, ``condition``, ``n``, ``dice_mean``, ``dice_ci_low``,
        ``dice_ci_high``, ``spread`` (mean over cases of the standard deviation over seeds, divided by n; NaN without
        several seeds), ``worst_dice``, ``worst_case``, ``drop`` (mean over cases of the plain click's Dice minus this
        one's). None if no robustness condition was run.
    """
    rows = []
    for (trainer, plans), scores in results.scores.groupby(["trainer", "plans"], sort=False):
        conditions = list(scores["condition"].unique())
        if set(conditions) <= set(PLAIN_CONDITIONS):
            continue
        single = scores[(scores["points"] == 1) & (scores["condition"] != "none")]
        wide = case_scores(single, "dice", by="condition")
        plain = next((name for name in ("clicks", "nearest") if name in wide), None)
        identity = {"name": trainer_name(trainer), "trainer": trainer, "plans": plans}
        reference = wide[plain] if plain else None
        for name, members in _robustness_rows(conditions, plain).items():
            rows.append(identity | {"condition": name} | _robustness(wide[members], reference))
    return pd.DataFrame(rows) if rows else None


def _score_columns(results: BenchmarkResults, group: str, metric: str, systems: list[str]) -> pd.DataFrame:
    """Summary and comparison of each system; the index is the system."""
    wide = case_scores(in_group(plain_scores(results), group), metric).reindex(columns=systems)
    summaries = pd.DataFrame([summarize(wide[system]) for system in systems], index=systems)
    reference = wide[results.reference]
    others = [system for system in systems if system != results.reference]
    tests = pd.DataFrame([compare(wide[system], reference) for system in others], index=others)
    tests = tests.reindex(columns=["pairs", "difference", "p", "effect"])
    tests.insert(3, "p_holm", holm(tests["p"].to_numpy(dtype=float)))
    return summaries.join(tests).add_prefix(f"{metric}_").astype({f"{metric}_pairs": "Int64"})


def _costs(results: BenchmarkResults, system: Any) -> dict[str, Any]:
    """What a system costs; what was not measured for every fold is NaN."""
    runs = results.runs[(results.runs["trainer"] == system.trainer) & (results.runs["plans"] == system.plans)]
    timings = results.timings.loc[results.timings["system"] == system.Index, "seconds_per_case"]
    seconds = runs["train_seconds"].sum(skipna=False) if len(runs) else np.nan
    return {
        "parameters_million": runs["parameters"].max() / 1e6,
        "trained_parameters_million": runs["trained_parameters"].max() / 1e6,
        "training_hours": seconds / 3600,
        "device": ", ".join(dict.fromkeys(runs["device"].dropna().astype(str))),
        "peak_memory_gib": runs["peak_memory_bytes"].max() / GIB,
        "seconds_per_case": timings.mean(),
    }


def _identity(names: dict[str, str], trainer: str, plans: str) -> dict[str, Any]:
    return {"name": names[method_class(trainer)], "trainer": trainer, "plans": plans}


def _robustness_rows(conditions: Sequence[str], plain: str | None) -> dict[str, list[str]]:
    """Rows of the robustness table: name -> conditions."""
    moved = [name for name in conditions if name not in PLAIN_CONDITIONS]
    seeds = [name for name in moved if re.fullmatch(r"seed\d+", name)]
    drawn = [plain, *seeds] if plain else seeds
    rows = {"one click": [plain]} if plain else {}
    if seeds:
        rows[f"one click, {len(drawn)} seed{'s' if len(drawn) > 1 else ''}"] = drawn
    return rows | {condition_name(name): [name] for name in moved if name not in seeds}


def _robustness(wide: pd.DataFrame, plain: pd.Series | None) -> dict[str, Any]:
    """The numbers of one row; ``wide`` has a column for each condition that belongs to it."""
    of_case = wide.mean(axis=1)
    found = summarize(of_case)
    worst = wide.min(axis=1).dropna()
    return {
        "n": found.n,
        "dice_mean": found.mean,
        "dice_ci_low": found.ci_low,
        "dice_ci_high": found.ci_high,
        "spread": wide.std(axis=1, ddof=0).mean() if wide.shape[1] > 1 else np.nan,
        "worst_dice": worst.min() if len(worst) else np.nan,
        "worst_case": worst.idxmin() if len(worst) else "",
        "drop": np.nan if plain is None else (plain - of_case).mean(),
    }
