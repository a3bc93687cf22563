"""The benchmark's tables: comparison (the paper's Table 1), declared tests, variants (Table 2), objects, robustness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
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
    training_scores,
)
from nnunetv2_promise.benchmark.report.names import ABLATIONS, condition_name, method_class, method_names, system_names
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import compare, holm, summarize

GIB = 2**30
BASELINE = "SAMAdapter3DTrainer"
"""The first row of the paper's Table 2, which its variants are tested against."""
SIZES_ML = (0.0, 1.0, 5.0, 20.0, np.inf)
"""Classes of objects by volume."""


def comparison_table(results: BenchmarkResults) -> pd.DataFrame:
    """Table 1: one row for each label group and system, systems in their order; descriptive, nothing is tested.

    Returns:
        Columns ``label``, ``system``, ``name``, ``trainer``, ``plans``, ``condition``, ``points``, ``cases`` (that the
        trainings hold back), ``clicks`` (mean number for each case); for each metric ``_n``, ``_mean``, ``_sd``,
        ``_ci_low``, ``_ci_high``; ``hd95_mm`` (mean where defined), ``lesion_f1``, ``false_positive_ml``,
        ``false_negative_ml`` (means over cases); ``parameters_million``, ``trained_parameters_million``, ``start``,
        ``steps``, ``patches``, ``training_hours`` (these three are sums over trainings), ``device``,
        ``peak_memory_gib``, ``seconds_per_case``. What was not measured for every training is NaN.
    """
    systems = plain_systems(results)
    names = pd.Series(system_names(results), name="name")
    costs = pd.DataFrame([_costs(results, system) for system in systems.itertuples()], index=systems.index)
    parts = []
    for group in label_groups(results):
        scores = in_group(plain_scores(results), group)
        columns = [_summaries(scores, metric, list(systems.index)) for metric in METRICS]
        part = pd.concat([names, systems, _lesions(scores), *columns, costs], axis=1).loc[systems.index]
        parts.append(part.rename_axis("system").reset_index().assign(label=group))
    table = pd.concat(parts, ignore_index=True)
    return table[["label", *(name for name in table.columns if name != "label")]]


def primary_table(results: BenchmarkResults) -> pd.DataFrame | None:
    """The declared comparisons, the only ones that are tested; Holm within one metric and number of clicks.

    Declared are, for each number of clicks N: a promptable method with N clicks against the reference with the same N
    clicks (cut down by them, if it takes none); and a variant of Table 2 against the baseline of Table 2.

    Returns:
        Columns ``system``, ``name``, ``baseline``, ``baseline_name``, ``points``, ``metric``, those of
        ``statistics.Comparison``, ``p_holm`` and ``p_trainings_holm``; over all labels. None without a pair.
    """
    names = system_names(results)
    rows: list[dict[str, Any]] = []
    wide = {metric: training_scores(plain_scores(results), metric) for metric in METRICS}
    for system, baseline, points in declared_pairs(results):
        identity = {"system": system, "name": names[system], "baseline": baseline, "baseline_name": names[baseline]}
        for metric, scores in wide.items():
            found = compare(scores[system], scores[baseline])
            rows.append(identity | {"points": points, "metric": metric} | vars(found))
    if not rows:
        return None
    table = pd.DataFrame(rows)
    families = table.groupby(["metric", "points"], sort=False)
    for name in ("p", "p_trainings"):
        table[f"{name}_holm"] = families[name].transform(holm)
    return table


def declared_pairs(results: BenchmarkResults) -> list[tuple[str, str, int]]:
    """(system, baseline, number of clicks) of every comparison that is tested; see ``primary_table``."""
    systems = plain_systems(results)
    methods = systems["trainer"].map(method_class)
    reference = systems.loc[results.reference]
    pairs = []
    for system, row in systems[systems["condition"] == "clicks"].iterrows():
        same_clicks = (systems["points"] == row["points"]) & systems["condition"].isin(["clicks", "nearest"])
        of_reference = (systems["trainer"] == reference["trainer"]) & (systems["plans"] == reference["plans"])
        of_baseline = (methods == BASELINE) & (methods[system] in ABLATIONS)
        for found in (of_reference, of_baseline):
            pairs += [(system, other, int(row["points"])) for other in systems.index[same_clicks & found]]
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]


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
    names = method_names(variants, ABLATIONS)
    wide = {metric: case_scores(plain_scores(results), metric) for metric in METRICS}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for points in sorted(variants["points"].unique()):
        for system in variants[variants["points"] == points].itertuples():
            key = (system.trainer, system.plans)
            row = rows.setdefault(key, {"name": names[key], "trainer": system.trainer, "plans": system.plans})
            for metric in METRICS:
                values = wide[metric][system.Index].dropna()
                found = {"n": len(values), "mean": values.mean(), "sd": values.std(ddof=0)}
                row |= {f"{metric}_{points}_{key}": value for key, value in found.items()}
    return pd.DataFrame(sorted(rows.values(), key=lambda row: order.index(method_class(row["trainer"]))))


def object_table(results: BenchmarkResults) -> pd.DataFrame | None:
    """Was the click obeyed? One row for each system and class of volume, after a row over all objects.

    Returns:
        Columns ``system``, ``name``, ``size``, ``n`` (prompts), ``dice``, ``nsd``, ``wrong_object``, ``holds_click``:
        means over prompts. None if no prompt was scored alone.
    """
    objects = results.objects[results.objects["system"].isin(plain_systems(results).index)]
    if objects.empty:
        return None
    names = system_names(results)
    labels = [f"{low:g} to {high:g} ml" for low, high in pairwise(SIZES_ML[:-1])]
    size = pd.cut(objects["volume_ml"], SIZES_ML, labels=[*labels, f"over {SIZES_ML[-2]:g} ml"], right=False)
    rows = []
    for system in plain_systems(results).index:
        own = objects["system"] == system
        classes = [("all", own), *((str(name), own & (size == name)) for name in size.cat.categories)]
        for name, chosen in classes:
            if chosen.any():
                means = objects.loc[chosen, ["dice", "nsd", "wrong_object", "holds_click"]].astype(float).mean()
                rows.append({"system": system, "name": names[system], "size": name, "n": int(chosen.sum()), **means})
    return pd.DataFrame(rows)


def robustness_table(results: BenchmarkResults) -> pd.DataFrame | None:
    """What happens if the click moves: one row for each trainer and condition, Dice over all labels.

    The first row of a trainer is its plain click, if it was scored with one click. Conditions ``seed1``, ``seed2``, ...
    are one row together with the plain click, which is drawn in the same way: the score of a case is its mean over
    them, and ``spread`` says how far they lie apart.

    Returns:
        Columns ``name``, ``trainer``, ``plans``, ``condition``, ``n``, ``skipped`` (cases that could not be clicked in
        that way), ``dice_mean``, ``dice_ci_low``, ``dice_ci_high``, ``spread`` (mean over cases of the standard
        deviation over seeds, divided by n; NaN without several seeds), ``worst_dice``, ``worst_case``, ``drop`` (mean
        over cases of the plain click's Dice minus this one's). None if no robustness condition was run.
    """
    rows = []
    names = method_names(plain_systems(results))
    for (trainer, plans), scores in results.scores.groupby(["trainer", "plans"], sort=False):
        conditions = list(scores["condition"].unique())
        if set(conditions) <= set(PLAIN_CONDITIONS):
            continue
        single = scores[(scores["points"] == 1) & (scores["condition"] != "none")]
        wide = training_scores(single, "dice", by="condition")
        plain = next((name for name in ("clicks", "nearest") if name in wide), None)
        reference = wide[plain] if plain else None
        for name, members in _robustness_rows(conditions, plain).items():
            skipped = sum(len(cases) for (way, _), cases in results.skipped.items() if way in members)
            identity = {"name": names[trainer, plans], "trainer": trainer, "plans": plans, "condition": name}
            rows.append(identity | {"skipped": skipped} | _robustness(wide[members], reference))
    return pd.DataFrame(rows) if rows else None


def _summaries(scores: pd.DataFrame, metric: str, systems: list[str]) -> pd.DataFrame:
    wide = training_scores(scores, metric).reindex(columns=systems)
    return pd.DataFrame([summarize(wide[system]) for system in systems], index=systems).add_prefix(f"{metric}_")


def _lesions(scores: pd.DataFrame) -> pd.DataFrame:
    """Cases, and what the lesions of a case's whole mask come to; the index is the system."""
    found = scores.groupby("system")[["lesions_found", "lesions_missed", "lesions_false"]].sum()
    twice = 2 * found["lesions_found"]
    of_case = scores.groupby(["system", "case", "fold", "seed"])
    volumes = of_case[["false_positive_ml", "false_negative_ml"]].sum().groupby("system").mean()
    asked = (scores["objects"] * scores["points"]).groupby([scores["system"], scores["case"], scores["fold"]]).mean()
    return volumes.assign(
        cases=scores.groupby("system")["case"].nunique(),
        clicks=asked.groupby("system").mean() * scores["label"].nunique(),
        hd95_mm=scores.groupby("system")["hd95_mm"].mean(),
        lesion_f1=twice / (twice + found["lesions_missed"] + found["lesions_false"]).replace(0, np.nan),
    )


def _costs(results: BenchmarkResults, system: Any) -> dict[str, Any]:
    """What a system costs; what was not measured for every training is NaN."""
    runs = results.runs[(results.runs["trainer"] == system.trainer) & (results.runs["plans"] == system.plans)]
    timings = results.timings.loc[results.timings["system"] == system.Index, "seconds_per_case"]
    sums = {
        name: runs[name].sum(skipna=False) if len(runs) else np.nan for name in ("train_seconds", "steps", "patches")
    }
    return {
        "parameters_million": runs["parameters"].max() / 1e6,
        "trained_parameters_million": runs["trained_parameters"].max() / 1e6,
        "start": ", ".join(dict.fromkeys(runs["start"].dropna().astype(str))),
        "steps": sums["steps"],
        "patches": sums["patches"],
        "training_hours": sums["train_seconds"] / 3600,
        "device": ", ".join(dict.fromkeys(runs["device"].dropna().astype(str))),
        "peak_memory_gib": runs["peak_memory_bytes"].max(skipna=False) / GIB,
        "seconds_per_case": timings.mean(skipna=False),
    }


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
    of_training = wide.mean(axis=1)
    found = summarize(of_training)
    worst = wide.min(axis=1).groupby(level="case").min().dropna()
    drop = None if plain is None else (plain - of_training).groupby(level="case").mean()
    return {
        "n": found.n,
        "dice_mean": found.mean,
        "dice_ci_low": found.ci_low,
        "dice_ci_high": found.ci_high,
        "spread": wide.std(axis=1, ddof=0).mean() if wide.shape[1] > 1 else np.nan,
        "worst_dice": worst.min() if len(worst) else np.nan,
        "worst_case": worst.idxmin() if len(worst) else "",
        "drop": np.nan if drop is None else drop.mean(),
    }
