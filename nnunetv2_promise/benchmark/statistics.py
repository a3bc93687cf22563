"""Statistics of scores over cases; pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 0
_SAME = 1e-9
"""Scores lie between 0 and 1; what is nearer than this differs by rounding only."""


@dataclass(frozen=True)
class Summary:
    """The scores of one system.

    Attributes:
        n: Cases with a defined score.
        mean: NaN without cases.
        sd: Standard deviation of the population (divided by n), as in ``evaluation.folder.summarize``.
        ci_low: Lower end of the confidence interval of the mean; NaN below two cases.
        ci_high: Upper end.
    """

    n: int
    mean: float
    sd: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Comparison:
    """A system against a reference on the cases that both have a score for.

    Attributes:
        pairs: Number of these cases.
        difference: Mean of system minus reference; NaN without pairs.
        p: Two-sided, of the Wilcoxon signed-rank test; NaN below two pairs.
        effect: Matched-pairs rank-biserial correlation, see ``rank_biserial``.
    """

    pairs: int
    difference: float
    p: float
    effect: float


def summarize(values: ArrayLike) -> Summary:
    """Mean, standard deviation and confidence interval of the mean.

    Args:
        values: (n,) scores; NaN is left out.
    """
    defined = _defined(values)
    if not defined.size:
        return Summary(0, np.nan, np.nan, np.nan, np.nan)
    return Summary(defined.size, float(defined.mean()), float(defined.std()), *bootstrap_interval(defined))


def bootstrap_interval(values: ArrayLike) -> tuple[float, float]:
    """95 % bootstrap confidence interval of the mean: bias-corrected and accelerated, 9999 resamples, seeded.

    Efron, "Better bootstrap confidence intervals", JASA 1987. One value says nothing about its spread: the interval is
    NaN. Equal values have no spread to resample: the interval is that value.

    Args:
        values: (n,) scores; NaN is left out.
    """
    defined = _defined(values)
    if defined.size < 2:
        return np.nan, np.nan
    if np.ptp(defined) < _SAME:
        return float(defined.mean()), float(defined.mean())
    interval = stats.bootstrap(
        (defined,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        batch=max(1, 2_000_000 // defined.size),
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare(system: ArrayLike, reference: ArrayLike) -> Comparison:
    """A system against a reference, case by case.

    Args:
        system: (n,) scores.
        reference: (n,) scores of the same cases in the same order; pairs with a NaN are left out.
    """
    differences = _defined(_differences(system, reference))
    if not differences.size:
        return Comparison(0, np.nan, np.nan, np.nan)
    mean = float(differences.mean())
    return Comparison(differences.size, mean, wilcoxon_p(differences), rank_biserial(differences))


def wilcoxon_p(differences: ArrayLike) -> float:
    """Two-sided p of the Wilcoxon signed-rank test (scipy's, with its choice of the exact or approximate method).

    Zero differences are left out, as Wilcoxon did. If all are zero nothing speaks against the systems being equal and
    p is 1.

    Args:
        differences: (n,) system minus reference; NaN is left out.

    Returns:
        NaN below two pairs.
    """
    defined = _defined(differences)
    if defined.size < 2:
        return np.nan
    nonzero = _without_zeros(defined)
    return float(stats.wilcoxon(nonzero).pvalue) if nonzero.size else 1.0


def rank_biserial(differences: ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation (Kerby, "The simple difference formula", 2014).

    The differences that are not zero are ranked by size, ties sharing their mean rank. The effect is the share of the
    rank sum that belongs to positive differences minus the share of negative ones: 1 if the system is better in every
    case, -1 if it is worse in every case, 0 if both balance or all differences are zero.

    Args:
        differences: (n,) system minus reference; NaN is left out.

    Returns:
        NaN without pairs.
    """
    defined = _defined(differences)
    if not defined.size:
        return np.nan
    nonzero = _without_zeros(defined)
    if not nonzero.size:
        return 0.0
    ranks = stats.rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's step-down correction (Holm, "A simple sequentially rejective multiple test procedure", 1979).

    Args:
        p_values: Of one family of tests; a NaN is no test, does not count and stays NaN.

    Returns:
        (n,) corrected p in the given order, at most 1.
    """
    p = np.asarray(p_values, dtype=float)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    factors = np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return corrected


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p that the signed-rank test can give: all of ``pairs`` differences have one sign."""
    return min(1.0, 2.0 ** (1 - pairs))


def _defined(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    return array[~np.isnan(array)]


def _differences(system: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    first, second = (np.asarray(values, dtype=float) for values in (system, reference))
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} scores of the system cannot be paired with {second.shape} of the reference.")
    return first - second


def _without_zeros(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nonzero differences, rounded so that differences that are equal on paper tie."""
    rounded = np.round(differences, 9)
    return rounded[rounded != 0]
