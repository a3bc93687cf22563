"""The report's sentences: what was compared with what, and how far the numbers can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import ALL_LABELS, plain_scores, plain_systems
from nnunetv2_promise.benchmark.report.names import system_names, trainer_name
from nnunetv2_promise.benchmark.results import BenchmarkResults
from nnunetv2_promise.benchmark.statistics import smallest_p
from nnunetv2_promise.evaluation.tolerances import tolerances_of, warnings_of

FEW_PAIRS = 20


def notes(results: BenchmarkResults, comparison: pd.DataFrame, tests: pd.DataFrame | None) -> list[str]:
    """Plain sentences that stand before every number.

    Args:
        results: Of the benchmark.
        comparison: From ``tables.comparison_table``.
        tests: From ``tables.primary_table``.
    """
    return [
        _scope(results),
        _parts(results),
        *_clicks(results),
        *_given(results),
        _mirroring(results),
        *_tolerances(results),
        *_absent(results),
        *_skipped(results),
        *_uneven(comparison),
        *_tests(results, tests),
    ]


def _scope(results: BenchmarkResults) -> str:
    scores = plain_scores(results)
    cases, folds, labels = scores["case"].nunique(), scores["fold"].nunique(), list(results.labels)
    seeds = scores["seed"].nunique()
    trained = f"{_count(cases, 'case')} in {_count(folds, 'fold')}"
    trained += f", {seeds} trainings for each fold" if seeds > 1 else ""
    named = f"label {labels[0]}" if len(labels) == 1 else f"{len(labels)} labels ({', '.join(labels)})"
    return (
        f"Every method trained here saw the same cases of {results.dataset}; all are scored on the same others: "
        f"{trained}, {named}. Budget: {results.budget}. "
        f"Dice and normalised surface Dice (NSD, tolerance {results.tolerance_in_words}) lie between 0 and 1; "
        "higher is better."
    )


def _parts(results: BenchmarkResults) -> str:
    """Where the scored cases come from, and who has seen their labels."""
    folds = {
        part: [fold for fold, name in sorted(results.parts.items()) if name == part] for part in ("test", "validation")
    }
    named = [
        f"the {part} part of the split in fold{'s' if len(found) > 1 else ''} {_listed(map(str, found))}"
        for part, found in folds.items()
        if found
    ]
    where = f"The scored cases are {' and '.join(named)}. " if named else ""
    chosen = (
        "Trainings use validation cases to choose nothing that is scored here (the last checkpoint counts). "
        if folds["validation"]
        else ""
    )
    several = f"Up to {results.jobs} trainings ran at the same time, which slows those that share a device. "
    jobs = several if results.jobs > 1 else "Trainings ran one at a time. "
    return (
        f"{where}{chosen}{jobs}Planning (spacing, intensities, sizes of objects) saw images and label maps of every "
        "case, the scored ones too; training saw those of its own part."
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
    yield from _cropped(trainers)


def _cropped(trainers: Mapping[str, str]) -> Iterator[str]:
    if "crop" in trainers:
        yield (
            f"{trainers['crop']} with “crop around”: the same networks, run once on the patch around each click and "
            "nowhere else."
        )


def _given(results: BenchmarkResults) -> Iterator[str]:
    """What others made."""
    trained = set(results.runs["trainer"])
    given = dict.fromkeys(trainer_name(t) for t in plain_systems(results)["trainer"] if t not in trained)
    if given and trained:
        yield f"{_listed(given)}: made elsewhere, used as it is. Which cases its maker has seen cannot be checked here."


def _mirroring(results: BenchmarkResults) -> str:
    if results.disable_tta:
        return "At prediction no network was shown mirror images (--disable_tta), so scores are lower than usual."
    return (
        "At prediction the answers to mirror images of a scan were averaged, as nnU-Net does, where the training "
        "mirrored. Models that correct do without where masks are corrected, and nnInteractive's engine, which runs "
        "clickable U-Nets, always does."
    )


def _tolerances(results: BenchmarkResults) -> list[str]:
    scores = plain_scores(results)
    one = scores[scores["system"] == scores["system"].iloc[0]].drop_duplicates(["case", "label"])
    return warnings_of(one, tolerances_of(results.labels, results.tolerance_mm, results.label_tolerances_mm))


def _absent(results: BenchmarkResults) -> Iterator[str]:
    scores = plain_scores(results)
    absent = scores[scores["truth_mm3"] == 0]
    if len(absent):
        count = absent.drop_duplicates(["case", "label"]).shape[0]
        yield (
            f"{_count(count, 'label')} of a case {'is' if count == 1 else 'are'} not in the truth. Dice and NSD are of "
            "labels that the truth has, the same for every system; what is falsely found elsewhere is in the volume of "
            "false findings."
        )


def _skipped(results: BenchmarkResults) -> Iterator[str]:
    for (condition, fold), cases in results.skipped.items():
        yield f"Clicks “{condition}” could not be had in fold {fold} for {_listed(cases)}: {next(iter(cases.values()))}"


def _uneven(comparison: pd.DataFrame) -> Iterator[str]:
    """Means over different cases cannot be compared as they stand."""
    first = comparison[comparison["label"] == comparison["label"].iloc[0]]
    if first["dice_n"].nunique() > 1:
        listed = _listed(f"{name}: {n}" for name, n in zip(first["name"], first["dice_n"], strict=True))
        yield (
            f"Systems have scores in different numbers of cases ({listed}), so their means are over different cases; "
            "differences and tests are over the cases that both have."
        )


def _tests(results: BenchmarkResults, tests: pd.DataFrame | None) -> Iterator[str]:
    names = system_names(results)
    if tests is None or tests["pairs"].max() < 2:
        yield (
            "No comparison was declared, so nothing is tested: declared are promptable methods against "
            f"{names[results.reference]} with the same clicks, and variants of Table 2 against its baseline. "
            "All numbers are descriptive."
        )
        return
    families = tests.groupby(["metric", "points"]).size()
    yield (
        "Tested are only the declared comparisons: a promptable method against the reference with the same clicks, and "
        "a variant of Table 2 against its baseline. Holm's correction is over those with one metric and number of "
        f"clicks ({_listed(str(n) for n in sorted(families.unique()))} each). All else is descriptive."
    )
    pairs = int(tests["pairs"].min())
    if pairs < FEW_PAIRS:
        yield (
            f"With {_count(pairs, 'pair')} the tests over cases have little power: the smallest p that can come out is "
            f"{smallest_p(pairs):.2g} before the correction. A large p does not show that methods are equally good."
        )
    if tests["trainings"].max() < 2:
        yield (
            "Each method was trained once, so “p, cases” and the intervals say nothing about how another training "
            "would turn out; that needs several folds or --training_seeds."
        )
    else:
        yield (
            "“p, cases” is the two-sided Wilcoxon signed-rank test over cases, with these networks. “p, trainings” "
            "is a linear mixed model with random trainings and cases: whether the methods would differ if they were "
            "trained again. Intervals resample trainings, then cases."
        )


def averaging(results: BenchmarkResults) -> str:
    """How a case's score and the tables' means come about."""
    labels = f"Under “{ALL_LABELS}” the score of a case is the mean over labels. " if len(results.labels) > 1 else ""
    return (
        f"{labels}Mean ± standard deviation over cases, and the 95 % bootstrap interval of the mean. HD95: mean of the "
        "95 % Hausdorff distance where truth and mask both have the label. Lesion F1: components that overlap by more "
        "than a tenth of their union. False +, −: volume of components without any overlap, for each case."
    )


def corrected(results: BenchmarkResults) -> str:
    """How corrections were made, and what their numbers are."""
    missed = f" Each click misses by {results.jitter_mm:g} mm along each axis (sd)." if results.jitter_mm else ""
    return (
        "Each click goes where the last mask is wrong: on the deepest voxel of the largest error, positive where the "
        f"object is missing, else negative. The first goes to the middle of the object.{missed} Models that correct "
        "get the last mask and all clicks; others get all positive clicks so far, and keep their mask at a negative "
        "one. A case counts with the mean over its objects. AUC: area under the curve over clicks, divided by its "
        "width. NoC@q: clicks until Dice reaches q %, all of them where it does not; NoF@q: share of objects that "
        "never reach it. Seconds are those of the answer to one click."
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
