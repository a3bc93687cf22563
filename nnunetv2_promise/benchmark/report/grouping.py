"""Which scores belong together: label groups, one score for each case, systems with their conditions."""

from __future__ import annotations

import pandas as pd

from nnunetv2_promise.benchmark.results import (
    OBJECT_COLUMNS,
    RUN_COLUMNS,
    SCORE_COLUMNS,
    TIMING_COLUMNS,
    BenchmarkResults,
)
from nnunetv2_promise.errors import UserError

ALL_LABELS = "all labels"
METRICS = {"dice": "Dice", "nsd": "NSD"}
PLAIN_CONDITIONS = ("none", "nearest", "crop", "clicks")
"""Conditions of the comparison; every other one is about robustness."""


def check_results(results: BenchmarkResults) -> None:
    """Check that there is something to report.

    Raises:
        UserError: If there are no scores, a system has none, or the reference is not a system of the comparison.
        ValueError: If a column is missing.
    """
    tables = {"scores": SCORE_COLUMNS, "runs": RUN_COLUMNS, "timings": TIMING_COLUMNS, "objects": OBJECT_COLUMNS}
    for name, columns in tables.items():
        missing = set(columns) - set(getattr(results, name).columns)
        if missing:
            raise ValueError(f"The {name} lack the columns {', '.join(sorted(missing))}.")
    where = f"The benchmark of {results.dataset}"
    if results.scores.empty:
        raise UserError(f"{where} has no scores; predict and evaluate at least one system before the report.")
    unscored = [system for system in results.systems if system not in set(results.scores["system"])]
    if unscored:
        raise UserError(f"{where} has no scores of {', '.join(unscored)}; evaluate them or leave them out.")
    comparable = list(plain_systems(results).index)
    if results.reference not in comparable:
        raise UserError(
            f"{where} has no system '{results.reference}' to compare with; name one of: {', '.join(comparable)}."
        )


def plain_systems(results: BenchmarkResults) -> pd.DataFrame:
    """The systems of the comparison, in their order: those that have scores without a robustness condition.

    Returns:
        Columns ``trainer``, ``plans``, ``condition``, ``points``; the index is the system.
    """
    first = plain_scores(results).drop_duplicates("system").set_index("system")
    present = [system for system in results.systems if system in first.index]
    return first.loc[present, ["trainer", "plans", "condition", "points"]]


def plain_scores(results: BenchmarkResults) -> pd.DataFrame:
    """The scores of the comparison; a system's other rows tell how it takes misplaced clicks."""
    return results.scores[results.scores["condition"].isin(PLAIN_CONDITIONS)]


def label_groups(results: BenchmarkResults) -> list[str]:
    """``"all labels"`` first, where there are several, then each label."""
    labels = [str(label) for label in results.labels]
    return [ALL_LABELS, *labels] if len(labels) > 1 else labels


def in_group(scores: pd.DataFrame, group: str) -> pd.DataFrame:
    """The rows of a label group."""
    return scores if group == ALL_LABELS else scores[scores["label"] == group]


def training_scores(scores: pd.DataFrame, metric: str, *, by: str = "system") -> pd.DataFrame:
    """One score for each case and training: the mean over the labels that the truth of the case has.

    A label that the truth lacks does not count: then every system's score of a case is over the same labels. What is
    falsely found of such a label is in the volumes of false findings.

    Args:
        scores: Rows of one label group.
        metric: Column of ``scores``.
        by: Column whose values become columns.

    Returns:
        Rows are (fold, seed, case), sorted; NaN where the metric is undefined for every label.
    """
    present = scores[scores["truth_mm3"] > 0]
    return present.groupby(["fold", "seed", "case", by], dropna=False)[metric].mean().unstack(by).sort_index()


def case_scores(scores: pd.DataFrame, metric: str, *, by: str = "system") -> pd.DataFrame:
    """One score for each case: ``training_scores`` averaged over the trainings that scored it; rows are cases."""
    return training_scores(scores, metric, by=by).groupby(level="case").mean()
