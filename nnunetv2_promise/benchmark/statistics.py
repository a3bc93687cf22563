"""Statistics of scores over cases and trainings; pure functions on arrays and series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
NESTED_RESAMPLES = 1999
SEED = 0
SAME = 1e-9
"""Scores lie between 0 and 1; what is nearer than this differs by rounding only."""


@dataclass(frozen=True)
class Summary:
    """The scores of one system.

    Attributes:
        n: Cases with a defined score.
        mean: NaN without cases.
        sd: Standard deviation over cases of the population (divided by n), as in ``evaluation.folder.summarize``.
        ci_low: Lower end of the confidence interval of the mean; see ``interval``.
        ci_high: Upper end.
    """

    n: int
    mean: float
    sd: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Comparison:
    """A system against a baseline on the cases that both have a score for.

    Attributes:
        pairs: Number of these cases.
        difference: Mean of system minus baseline; NaN without pairs.
        ci_low: Lower end of its confidence interval; see ``interval``.
        ci_high: Upper end.
        better: Cases in which the system is better by more than rounding.
        equal: Cases without a difference.
        worse: Cases in which the system is worse.
        effect: Matched-pairs rank-biserial correlation, see ``rank_biserial``.
        p: Two-sided, of the Wilcoxon signed-rank test over cases; NaN below two pairs.
        trainings: Number of trainings of each that were compared.
        p_trainings: Two-sided, of the mixed model; see ``mixed_model_p``.
    """

    pairs: int
    difference: float
    ci_low: float
    ci_high: float
    better: int
    equal: int
    worse: int
    effect: float
    p: float
    trainings: int
    p_trainings: float


def summarize(values: ArrayLike | pd.Series) -> Summary:
    """Mean, standard deviation and confidence interval of the mean.

    Args:
        values: (n,) scores of cases, or a series with the levels ``fold``, ``seed`` and ``case``; NaN is left out.
    """
    of_case = _of_cases(values)
    if not of_case.size:
        return Summary(0, np.nan, np.nan, np.nan, np.nan)
    return Summary(of_case.size, float(of_case.mean()), float(of_case.std()), *interval(values))


def interval(values: ArrayLike | pd.Series) -> tuple[float, float]:
    """95 % confidence interval of the mean: over trainings and cases if there are several trainings, else over cases.

    Args:
        values: As for ``summarize``.
    """
    several = isinstance(values, pd.Series) and values.index.nlevels == 3 and len(_trainings(values.dropna())) > 1
    return nested_interval(values) if several else bootstrap_interval(values)  # type: ignore[arg-type]


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
    if np.ptp(defined) < SAME:
        return float(defined.mean()), float(defined.mean())
    found = stats.bootstrap(
        (defined,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        batch=max(1, 2_000_000 // defined.size),
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def nested_interval(values: pd.Series) -> tuple[float, float]:
    """95 % percentile interval of the mean over cases; resamples folds, within each its seeds, then its cases.

    Cases of one training share its luck. Resampling cases alone would treat them as independent.

    Args:
        values: Scores with the index levels ``fold``, ``seed`` and ``case``; a case counts where every seed of its fold
            has a score of it.
    """
    folds = [part.unstack("seed").dropna().to_numpy() for _, part in values.groupby(level="fold")]  # (cases, seeds)
    folds = [part for part in folds if part.size]
    if sum(len(part) for part in folds) < 2:
        return np.nan, np.nan
    rng = np.random.default_rng(SEED)
    sums, counts = np.zeros(NESTED_RESAMPLES), np.zeros(NESTED_RESAMPLES)
    for _ in folds:
        drawn = rng.integers(len(folds), size=NESTED_RESAMPLES)
        for number, scores in enumerate(folds):
            here = drawn == number
            cases = rng.integers(scores.shape[0], size=(here.sum(), scores.shape[0]))
            seeds = rng.integers(scores.shape[1], size=(here.sum(), scores.shape[1]))
            sums[here] += scores[cases[:, :, None], seeds[:, None, :]].mean(axis=2).sum(axis=1)
            counts[here] += scores.shape[0]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(sums / counts, (tail, 100 - tail))
    return float(low), float(high)


def compare(system: pd.Series, baseline: pd.Series) -> Comparison:
    """A system against a baseline, case by case and training by training.

    Args:
        system: Scores with the index levels ``fold``, ``seed`` and ``case``.
        baseline: The same of the baseline; what only one of the two has is left out. The trainings of one fold and
            seed are a pair.
    """
    differences = (system - baseline).dropna()
    of_case = _of_cases(differences)
    if not of_case.size:
        return Comparison(0, np.nan, np.nan, np.nan, 0, 0, 0, np.nan, np.nan, 0, np.nan)
    changed = np.where(np.abs(of_case) < SAME, 0, np.sign(of_case))
    return Comparison(
        of_case.size,
        float(of_case.mean()),
        *interval(differences),
        better=int((changed == 1).sum()),
        equal=int((changed == 0).sum()),
        worse=int((changed == -1).sum()),
        effect=rank_biserial(of_case),
        p=wilcoxon_p(of_case),
        trainings=len(_trainings(differences)),
        p_trainings=mixed_model_p(differences),
    )


def mixed_model_p(differences: pd.Series) -> float:
    """Two-sided p that two methods differ, over trainings and cases: a linear mixed model, fitted by REML.

    The system is the fixed effect; case and training are random. A case's own level is in both of its scores and drops
    out of their difference, so the model is fitted to differences: an intercept (the effect of the system), a random
    effect of each pair of trainings and, with several seeds, one of each case. The intercept is tested with Student's
    t with as many degrees of freedom as there are pairs of trainings, less one, since only trainings tell how much
    trainings vary.

    Args:
        differences: System minus baseline, index levels ``fold``, ``seed`` and ``case``; NaN is left out.

    Returns:
        NaN with fewer than two pairs of trainings, and where nothing varies.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, SingularMatrixWarning

    table = differences.dropna().rename("difference").reset_index()
    pairs = len(_trainings(differences.dropna()))
    if pairs < 2:
        return np.nan
    if np.ptp(table["difference"]) < SAME:
        return 1.0 if abs(table["difference"].iloc[0]) < SAME else np.nan
    table["difference"] /= table["difference"].std()  # numbers near 1 are easier to fit
    random = {"training": "0 + C(seed)"}
    if table["seed"].nunique() > 1:
        random["case"] = "0 + C(case)"
    model = MixedLM.from_formula("difference ~ 1", table, groups="fold", re_formula="0", vc_formula=random)
    with warnings.catch_warnings():
        # A variance of zero lies at the border of what can be fitted, and is a fine answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", SingularMatrixWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        # Nelder and Mead's search: with few trainings those that follow the gradient stop far from the best fit.
        fitted = model.fit(reml=True, method="nm")
    t = fitted.fe_params.iloc[0] / fitted.bse_fe.iloc[0]
    return float(2 * stats.t.sf(abs(t), pairs - 1))


def wilcoxon_p(differences: ArrayLike) -> float:
    """Two-sided p of the Wilcoxon signed-rank test (scipy's, with its choice of the exact or approximate method).

    Zero differences are left out, as Wilcoxon did. If all are zero nothing speaks against the systems being equal and
    p is 1.

    Args:
        differences: (n,) system minus baseline; NaN is left out.

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
    case that differs, -1 if it is worse in every such case, 0 if both balance or all differences are zero.

    Args:
        differences: (n,) system minus baseline; NaN is left out.

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
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p_values, dtype=float)
    corrected = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], method="holm")[1]
    return corrected


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p that the signed-rank test can give: all of ``pairs`` differences have one sign."""
    return min(1.0, 2.0 ** (1 - pairs))


def _of_cases(values: ArrayLike | pd.Series) -> NDArray[np.float64]:
    """Defined scores, one for each case: the mean over its trainings."""
    if isinstance(values, pd.Series) and values.index.nlevels == 3:
        values = values.dropna().groupby(level="case").mean()
    return _defined(values)


def _trainings(values: pd.Series) -> pd.Index:
    return values.index.droplevel("case").unique()


def _defined(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    return array[~np.isnan(array)]


def _without_zeros(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nonzero differences, rounded so that differences that are equal on paper tie."""
    rounded = np.round(differences, 9)
    return rounded[rounded != 0]
