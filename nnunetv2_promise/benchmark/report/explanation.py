"""The report's sentences: what was compared with what, and how far the numbers can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import ALL_LABELS, METRICS, plain_scores, plain_systems
from nnunetv2_promise.benchmark.report.names import system_names, trainer_name
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import smallest_p

FEW_PAIRS = 20


def notes(results: BenchmarkResults, comparison: pd.DataFrame) -> list[str]:
    """Plain sentences that stand before every number.

    Args:
        results: Of the benchmark.
        comparison: From ``tables.comparison_table``.
    """
    return [
        _scope(results),
        *_clicks(results),
        *_undefined(results),
        *_uneven(comparison),
        *_tests(results, comparison),
    ]


def _scope(results: BenchmarkResults) -> str:
    scores = plain_scores(results)
    cases, folds, labels = scores["case"].nunique(), scores["fold"].nunique(), list(results.labels)
    named = f"label {labels[0]}" if len(labels) == 1 else f"{len(labels)} labels ({', '.join(labels)})"
    return (
        f"Every method was trained on the same cases of {results.dataset} and scored on the same others: "
        f"{_count(cases, 'case')} in {_count(folds, 'fold')}, {named}. Budget: {results.budget}. "
        f"Dice and normalised surface Dice (NSD, tolerance {results.tolerance_mm:g} mm) lie between 0 and 1; "
        "higher is better."
    )


def _clicks(results: BenchmarkResults) -> Iterator[str]:
    """What each kind of system is told about the truth."""
    systems = plain_systems(results)
    trainers = {
        kind: _listed(dict.fromkeys(trainer_name(trainer) for trainer in rows["trainer"]))
        for kind, rows in systems.groupby("condition", sort=False)
    }
    if "clicks" in trainers:
        yield (
            f"{trainers['clicks']}: promptable. Each gets clicks that were taken from the ground truth of the scored "
            "cases, on every object of every label. They tell it that an object is there, which label it has and "
            "roughly where it is."
        )
    if "none" in trainers:
        unlike = " The comparison with a promptable method is unequal for that reason." if "clicks" in trainers else ""
        yield f"{trainers['none']}: given the image alone, without any click.{unlike}"
    if "nearest" in trainers:
        yield (
            f"{trainers['nearest']} with “+ click(s)”: the same masks, cut down afterwards to the components nearest "
            "to the very clicks that the promptable methods get, so that false findings elsewhere do not count. "
            "Of the two, these rows are the fair comparison with a promptable method."
        )


def _undefined(results: BenchmarkResults) -> Iterator[str]:
    scores = plain_scores(results)
    undefined = scores[scores["dice"].isna()]
    if len(undefined):
        yield (
            f"{len(undefined)} of {len(scores)} scores are undefined, because neither truth nor prediction has the "
            "label in that case. They are left out, not counted as 0 or 1."
        )
        if {"none", "clicks"} <= set(scores["condition"]):
            yield (
                "Where a label is absent, a method without clicks that finds it all the same scores 0; a promptable "
                "one is not asked there."
            )
    else:
        yield "Every score is defined; none was left out."


def _uneven(comparison: pd.DataFrame) -> Iterator[str]:
    """Means over different cases cannot be compared as they stand."""
    first = comparison[comparison["label"] == comparison["label"].iloc[0]]
    if first["dice_n"].nunique() > 1:
        listed = _listed(f"{name}: {n}" for name, n in zip(first["name"], first["dice_n"], strict=True))
        yield (
            f"Systems have scores in different numbers of cases ({listed}), so their means are over different cases; "
            "differences and tests are over the cases that both have."
        )


def _tests(results: BenchmarkResults, comparison: pd.DataFrame) -> Iterator[str]:
    names = system_names(plain_systems(results)["trainer"].to_dict())
    others = comparison[(comparison["label"] == comparison["label"].iloc[0])].dropna(subset=["dice_p"])
    if not len(others):
        yield "No test was made: there is no second system, or fewer than two cases with a score of both."
        return
    correction = (
        f"Holm's correction is over the {len(others)} comparisons of one metric and label group"
        if len(others) > 1
        else "with one comparison Holm's correction changes nothing"
    )
    yield (
        f"Each system is tested against {names[results.reference]}, case by case, with the two-sided Wilcoxon "
        f"signed-rank test; {correction}. The effect is the matched-pairs rank-biserial correlation: 1 if the system "
        "is better in every case, −1 if it is worse in every case."
    )
    pairs = int(others["dice_pairs"].min())
    if pairs < FEW_PAIRS:
        yield (
            f"With {_count(pairs, 'pair')} the tests have little power: only differences that go the same way in "
            f"almost every case can show. The smallest p that can come out is {smallest_p(pairs):.2g} before and "
            f"{min(1.0, len(others) * smallest_p(pairs)):.2g} after the correction. "
            "A large p is no sign that methods are equally good."
        )
    if plain_scores(results)["fold"].nunique() > 1:
        yield (
            "Cases of one fold share a trained network and folds share training cases, so cases are not fully "
            "independent; intervals and p say nothing about how another training would turn out."
        )


def averaging(results: BenchmarkResults) -> str:
    """How a case's score and the tables' means come about."""
    if len(results.labels) == 1:
        return "Mean ± standard deviation over cases, and the 95 % bootstrap interval of the mean."
    return (
        f"Under “{ALL_LABELS}” the score of a case is the mean over its labels where defined. Mean ± standard "
        "deviation over cases, and the 95 % bootstrap interval of the mean."
    )


def metric_name(metric: str) -> str:
    """``"Dice"`` or ``"NSD"``."""
    return dict(zip(METRICS, ("Dice", "NSD"), strict=True))[metric]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
