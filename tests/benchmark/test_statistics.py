"""Statistics of the benchmark against scipy, hand-computed cases and properties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from nnunetv2_promise.benchmark.statistics import (
    bootstrap_interval,
    compare,
    holm,
    mixed_model_p,
    nested_interval,
    rank_biserial,
    smallest_p,
    summarize,
    wilcoxon_p,
)

NAN = math.nan
SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def same(found: Sequence[float], expected: Sequence[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "n", "mean", "sd"),
    [
        ([], 0, NAN, NAN),
        ([NAN, NAN], 0, NAN, NAN),
        ([0.7], 1, 0.7, 0.0),
        ([0.2, 0.4], 2, 0.3, 0.1),
        ([0.0, 0.0, 0.0, 1.0], 4, 0.25, math.sqrt(3) / 4),
        ([0.5, NAN, 0.9], 2, 0.7, 0.2),
    ],
)
def test_mean_and_population_sd_by_hand(values: list[float], n: int, mean: float, sd: float) -> None:
    for found in (summarize(values), summarize(pd.Series(values, dtype=float))):
        assert found.n == n
        same((found.mean, found.sd), (mean, sd))


@pytest.mark.parametrize(
    ("values", "interval"),
    [([], (NAN, NAN)), ([0.7], (NAN, NAN)), ([0.7, NAN], (NAN, NAN)), ([0.25] * 5, (0.25, 0.25)), ([0, 1], (0, 1))],
)
def test_interval_where_there_is_nothing_to_resample(values: list[float], interval: tuple[float, float]) -> None:
    same(bootstrap_interval(values), interval)


def test_interval_is_scipys_and_the_same_every_time() -> None:
    values = np.random.default_rng(3).beta(8, 2, size=40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", random_state=np.random.default_rng(0)
    )
    found = bootstrap_interval([*values, NAN])
    same(found, expected.confidence_interval)
    assert found == bootstrap_interval(values)


def test_interval_of_many_values_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(4).uniform(size=2000)
    half = 1.96 * values.std() / math.sqrt(values.size)
    np.testing.assert_allclose(
        bootstrap_interval(values), (values.mean() - half, values.mean() + half), atol=0.05 * half
    )


@settings(max_examples=40, deadline=None)
@given(SCORES)
def test_interval_lies_within_the_values(values: list[float]) -> None:
    low, high = bootstrap_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def exact_p(differences: Sequence[float]) -> float:
    """Signed-rank p from its definition: the share of sign patterns at least as extreme as the one found."""
    ranks = stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    found = abs(ranks[np.asarray(differences) > 0].sum() - middle)
    patterns = itertools.product((0, 1), repeat=len(ranks))
    return float(np.mean([abs(np.dot(signs, ranks) - middle) >= found - 1e-9 for signs in patterns]))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([], NAN),
        ([0.1], NAN),
        ([NAN, 0.1], NAN),
        ([0.0, 0.0], 1.0),
        ([0.0] * 30, 1.0),
        ([0.1, 0.2], 0.5),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2 / 32),
        ([-0.1, 0.2, 0.3, 0.4, 0.5], 4 / 32),
        ([0.1, -0.2, 0.3], 6 / 8),
    ],
)
def test_signed_rank_p_by_hand(differences: list[float], p: float) -> None:
    same([wilcoxon_p(differences)], [p])


@pytest.mark.parametrize("seed", range(5))
def test_signed_rank_p_is_the_share_of_sign_patterns(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.3, 1, size=11)
    assert wilcoxon_p(differences) == pytest.approx(exact_p(differences))


def test_signed_rank_p_is_scipys_for_many_pairs() -> None:
    differences = np.round(np.random.default_rng(0).normal(0.02, 0.1, size=120), 2)
    assert (differences == 0).any()
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences[differences != 0]).pvalue)


def test_differences_that_are_equal_on_paper_tie() -> None:
    differences = [0.3 - 0.2, 0.3 - 0.4, 0.5 - 0.4, 0.9 - 0.8]
    assert len(set(np.abs(differences))) > 1
    assert rank_biserial(differences) == pytest.approx(0.5)
    assert wilcoxon_p(differences) == pytest.approx(exact_p([1, -1, 1, 1]))


@pytest.mark.parametrize(
    ("differences", "effect"),
    [
        ([], NAN),
        ([0.0, 0.0], 0.0),
        ([0.3], 1.0),
        ([-0.3, -0.1], -1.0),
        ([0.1, -0.2], -1 / 3),  # ranks 1 and 2: (1 - 2) / 3
        ([0.3, 0.2, -0.1], 2 / 3),  # (3 + 2 - 1) / 6
        ([0.0, 0.3, 0.2, -0.1], 2 / 3),  # a zero has no rank
        ([0.2, -0.2], 0.0),  # both share rank 1.5
        ([0.1, 0.1, -0.1, 0.4], 0.6),  # ranks 2, 2, 2, 4: (8 - 2) / 10
        ([NAN, 0.3, -0.1], 1 / 3),
    ],
)
def test_effect_by_hand(differences: list[float], effect: float) -> None:
    same([rank_biserial(differences)], [effect])


@settings(max_examples=50, deadline=None)
@given(SCORES)
def test_effect_is_odd_and_bounded_and_does_not_mind_the_order(values: list[float]) -> None:
    differences = np.array(values) - 0.5
    effect = rank_biserial(differences)
    assert -1 <= effect <= 1
    assert rank_biserial(-differences) == pytest.approx(-effect)
    assert rank_biserial(differences[::-1]) == pytest.approx(effect)


def test_p_does_not_mind_which_system_is_the_reference() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, size=9)
    assert wilcoxon_p(-differences) == pytest.approx(wilcoxon_p(differences))


def test_effect_agrees_with_scipys_statistic() -> None:
    differences = np.random.default_rng(7).normal(0.5, 1, size=25)
    positive = stats.wilcoxon(differences, alternative="greater").statistic
    total = 25 * 26 / 2
    assert rank_biserial(differences) == pytest.approx((positive - (total - positive)) / total)


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 x 0.01; 2 x 0.03; 1 x 0.04 raised to 0.06
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.01, 0.01, 0.01, 0.01], [0.04] * 4),
        ([NAN, 0.01, NAN, 0.02], [NAN, 0.02, NAN, 0.02]),
        ([NAN], [NAN]),
        ([0.02, 0.001, 0.2], [0.04, 0.003, 0.2]),
    ],
)
def test_holm_by_hand(p: list[float], corrected: list[float]) -> None:
    same(holm(p), corrected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(p: list[float]) -> None:
    """Holm's paper: from the smallest p on, reject while p <= alpha / (number of hypotheses left)."""
    alpha = 0.05
    rejected: set[int] = set()
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - step) > alpha:
            break
        rejected.add(int(index))
    corrected = holm(p)
    assert set(np.flatnonzero(corrected <= alpha)) == rejected
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()


def trained(values: Sequence[Sequence[Sequence[float]]]) -> pd.Series:
    """Scores by fold, seed and case; every fold has cases of its own."""
    found = {
        (fold, seed, f"{fold}_{case}"): score
        for fold, seeds in enumerate(values)
        for seed, cases in enumerate(seeds)
        for case, score in enumerate(cases)
    }
    series = pd.Series(found)
    return series.rename_axis(["fold", "seed", "case"])


def test_comparison_is_system_minus_baseline_over_pairs_with_both_scores() -> None:
    system = trained([[[0.9, 0.8, NAN, 0.7, 0.2, 0.1 + 0.2]]])
    baseline = trained([[[0.5, 0.7, 0.1, NAN, 0.4, 0.3]]])  # the last differs by rounding
    found = compare(system, baseline)
    assert (found.pairs, found.better, found.equal, found.worse) == (4, 2, 1, 1)
    assert found.difference == pytest.approx((0.4 + 0.1 - 0.2) / 4)
    assert found.effect == pytest.approx((3 + 1 - 2) / 6)
    assert found.p == pytest.approx(exact_p([0.4, 0.1, -0.2]))
    assert (found.ci_low, found.ci_high) == bootstrap_interval((system - baseline).dropna())
    assert found.trainings == 1
    assert math.isnan(found.p_trainings)
    mirrored = compare(baseline, system)
    assert (mirrored.difference, mirrored.effect, mirrored.p) == pytest.approx(
        (-found.difference, -found.effect, found.p)
    )


def test_comparison_without_pairs_is_undefined() -> None:
    found = compare(trained([[[NAN, 0.5]]]), trained([[[0.5, NAN]]]))
    assert (found.pairs, found.better, found.equal, found.worse, found.trainings) == (0,) * 5
    assert np.isnan([found.difference, found.ci_low, found.ci_high, found.effect, found.p, found.p_trainings]).all()


def test_a_case_counts_once_with_the_mean_over_its_trainings() -> None:
    found = summarize(trained([[[0.2, 0.4], [0.4, 0.4]], [[0.9], [0.9]]]))
    assert found.n == 3
    assert found.mean == pytest.approx((0.3 + 0.4 + 0.9) / 3)


def slow_nested_interval(values: list[np.ndarray], resamples: int) -> NDArray:
    """The same by a loop over folds, seeds and cases; arrays are (seeds, cases)."""
    rng = np.random.default_rng(1)
    means = []
    for _ in range(resamples):
        scores: list[float] = []
        for fold in rng.integers(len(values), size=len(values)):
            seeds, cases = values[fold].shape
            drawn = rng.integers(seeds, size=seeds)
            scores += [values[fold][drawn, case].mean() for case in rng.integers(cases, size=cases)]
        means.append(np.mean(scores))
    return np.percentile(means, (2.5, 97.5))


def test_intervals_resample_trainings_and_then_cases() -> None:
    rng = np.random.default_rng(5)
    values = [0.7 + rng.normal(0, 0.1) + rng.normal(0, 0.05, (3, 8)) for _ in range(4)]
    series = trained(values)
    found = nested_interval(series)
    np.testing.assert_allclose(found, slow_nested_interval(values, 3000), atol=0.01)
    assert found == nested_interval(series)
    same(nested_interval(1 - series), (1 - found[1], 1 - found[0]))  # as much is cut off above as below
    of_cases = bootstrap_interval(series.groupby(level="case").mean())
    assert found[1] - found[0] > 1.5 * (of_cases[1] - of_cases[0])
    assert summarize(series).ci_low == found[0]
    two = series[:16]  # of one fold
    assert (summarize(two).ci_low, summarize(two).ci_high) == nested_interval(two) != bootstrap_interval(two)


def test_intervals_of_trainings_need_a_second_case() -> None:
    assert np.isnan(nested_interval(trained([[[0.2], [0.4]]]))).all()
    assert nested_interval(trained([[[0.2]], [[0.4]]])) == pytest.approx((0.2, 0.4))


@pytest.mark.parametrize("values", [[[[0, 0, 0, 0, 1, 1, 1, 1]]], [[[0, 0]] * 4 + [[1, 1]] * 4]])
def test_as_many_cases_are_drawn_as_there_are_and_as_many_trainings(values: list[list[list[float]]]) -> None:
    """Eight draws of 0 or 1, of cases or of seeds: each end of a binomial distribution is cut off at 2.5 %."""
    low, high = stats.binom.ppf((0.025, 0.975), 8, 0.5) / 8
    assert nested_interval(trained(values)) == pytest.approx((low, high))


def test_mixed_model_of_balanced_trainings_is_the_t_test_of_their_means() -> None:
    """One seed, trainings that differ by more than cases do: only the folds' mean differences count."""
    rng = np.random.default_rng(2)
    differences = [[rng.normal(0.03, 0.05) + rng.normal(0, 0.02, 12)] for _ in range(6)]
    expected = stats.ttest_1samp([np.mean(fold) for fold in differences], 0).pvalue
    assert mixed_model_p(trained(differences)) == pytest.approx(expected, rel=1e-3)


def test_mixed_model_of_trainings_that_do_not_vary_counts_cases() -> None:
    """Three folds with one mean: trainings have no variance, the degrees of freedom stay those of folds."""
    fold = np.array([0.14, 0.34, 0.15, 0.10, 0.21])
    differences = np.tile(fold, 3)
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(15))
    assert mixed_model_p(trained([[fold]] * 3)) == pytest.approx(2 * stats.t.sf(t, 2), rel=1e-3)


def test_mixed_model_counts_a_case_once_that_two_seeds_share() -> None:
    """Cases differ, seeds hardly do: the second seed tells little more than the first."""
    case = np.array([0.14, 0.34, 0.15, 0.10, 0.21])
    noise = np.array([0.02, -0.02, 0.01, -0.01, 0.0])
    t = case.mean() / (np.tile(case, 3).std(ddof=1) / math.sqrt(15))
    assert mixed_model_p(trained([[case + noise, case - noise]] * 3)) == pytest.approx(2 * stats.t.sf(t, 5), rel=0.01)


def test_mixed_model_needs_a_second_training() -> None:
    assert math.isnan(mixed_model_p(trained([[[0.0, 0.0, 0.0]]])))
    assert math.isnan(mixed_model_p(trained([[[0.1, 0.1]], [[0.1, 0.1]]])))  # nothing varies
    assert math.isnan(mixed_model_p(trained([[[0.1, 0.2, 0.3]]])))
    assert mixed_model_p(trained([[[0.0, 0.0]], [[0.0, 0.0]]])) == 1.0


@pytest.mark.parametrize(("folds", "seeds"), [(5, 1), (1, 3)])
def test_equal_methods_are_told_apart_in_five_per_cent_though_trainings_vary(folds: int, seeds: int) -> None:
    """Trainings spread by 0.02: the test over cases alone rejects far too often, the mixed model does not."""
    rng, rounds, cases = np.random.default_rng(0), 150, 40 // folds
    rejected = {"cases": 0, "trainings": 0}
    for _ in range(rounds):
        level = rng.normal(0.8, 0.1, (folds, 1, cases))
        system, baseline = (
            trained(level + rng.normal(0, 0.02, (folds, seeds, 1)) + rng.normal(0, 0.02, (folds, seeds, cases)))
            for _ in range(2)
        )
        differences = system - baseline
        rejected["cases"] += wilcoxon_p(differences.groupby(level="case").mean()) < 0.05
        rejected["trainings"] += mixed_model_p(differences) < 0.05
    assert rejected["cases"] > 0.3 * rounds
    # Eleven or fewer of 150 are found in 90 % of such simulations of a test that rejects in exactly 5 %.
    assert rejected["trainings"] <= stats.binom.ppf(0.9, rounds, 0.05)


def test_mixed_model_finds_a_difference_that_every_training_shows() -> None:
    rng = np.random.default_rng(3)
    differences = 0.1 + rng.normal(0, 0.02, (5, 2, 1)) + rng.normal(0, 0.03, (5, 2, 8))
    assert mixed_model_p(trained(differences)) < 0.001


@pytest.mark.parametrize("pairs", range(2, 9))
def test_smallest_p_is_that_of_differences_of_one_sign(pairs: int) -> None:
    assert smallest_p(pairs) == pytest.approx(wilcoxon_p(np.arange(1, pairs + 1) / 10))


@pytest.mark.parametrize("pairs", [0, 1])
def test_smallest_p_is_1_where_no_sign_can_differ(pairs: int) -> None:
    assert smallest_p(pairs) == 1
