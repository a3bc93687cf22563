"""How well a model can be corrected, click by click, as the field evaluates it.

Clicks are made on the error of the last mask and are kept (they nest: the first k of them are those that a user with k
clicks would have made). Dice@k and NSD@k follow the CVPR 2025 challenge on interactive segmentation, the number of
clicks to a quality (NoC) and the share of failures (NoF) the work on interactive segmentation before it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunetv2_promise.evaluation.metrics import DEFAULT_TOLERANCE_MM, dice, normalized_surface_dice
from nnunetv2_promise.prompts.corrections import next_click

QUALITIES = (0.80, 0.85, 0.90)
"""Dice that NoC and NoF are about."""


class Clickable(Protocol):
    """A model with an image, which one object is clicked on."""

    accepts_negative: bool
    """Whether it can be told what does not belong to the object; else such clicks leave the mask as it is."""

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        """Add a click, (3,) in (z, y, x), to those before it.

        Returns:
            (D, H, W) bool, the mask after it.
        """


def correct_object(
    model: Clickable,
    truth_zyx: NDArray[np.bool_],
    *,
    spacing_zyx_mm: Sequence[float],
    clicks: int,
    first_zyx: NDArray[np.float64] | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    jitter_mm: float = 0.0,
    rng: np.random.Generator | None = None,
) -> list[dict[str, Any]]:
    """Click on one object until it is right or the clicks are spent.

    Args:
        model: Has no click yet.
        truth_zyx: (D, H, W) bool, the object.
        spacing_zyx_mm: Spacing in array axis order.
        clicks: Number of clicks.
        first_zyx: (3,) index of the first click, so that systems share it; None: where the protocol clicks.
        tolerance_mm: Of the surface Dice.
        jitter_mm: Standard deviation, along each axis, by which a click misses where it was meant to be.
        rng: Of the jitter; needed with one.

    Returns:
        One row for each number of clicks k = 1, 2, ...: ``clicks``, ``dice``, ``nsd``, ``seconds`` (of the answer to
        click k; NaN where none was made) and ``positive``. A mask that is right is not clicked again, its scores stay.
    """
    mask, rows = np.zeros(truth_zyx.shape, dtype=bool), []
    for number in range(1, clicks + 1):
        wanted = next_click(truth_zyx, mask, spacing_zyx_mm)
        seconds, positive = np.nan, True
        if wanted is not None:
            index, positive = np.array(wanted[0], dtype=float), wanted[1]
            if number == 1 and first_zyx is not None:
                index = np.asarray(first_zyx, dtype=float)
            if positive or model.accepts_negative:
                start = time.perf_counter()
                mask = model.add_click(_jittered(index, jitter_mm, spacing_zyx_mm, truth_zyx.shape, rng), positive)
                seconds = time.perf_counter() - start
        nsd = normalized_surface_dice(mask, truth_zyx, spacing_zyx_mm=spacing_zyx_mm, tolerance_mm=tolerance_mm)
        row = {"clicks": number, "dice": dice(mask, truth_zyx), "nsd": nsd, "seconds": seconds, "positive": positive}
        rows.append(row)
    return rows


def area_under_curve(scores: Sequence[float]) -> float:
    """Area under the curve of scores over clicks by the trapezoidal rule, divided by its width.

    Args:
        scores: At 1, 2, ... clicks, at least two.

    Returns:
        Between the lowest and the highest score.
    """
    values = np.asarray(scores, dtype=float)
    if values.size < 2:
        raise ValueError(f"The area under a curve needs two numbers of clicks, not {values.size}.")
    return float((values[1:] + values[:-1]).mean() / 2)


def clicks_to_reach(scores: Sequence[float], quality: float) -> tuple[int, bool]:
    """The first number of clicks whose score is at least ``quality``, and whether there is one; else all of them.

    Args:
        scores: At 1, 2, ... clicks.
        quality: To reach.
    """
    reached = np.flatnonzero(np.asarray(scores, dtype=float) >= quality)
    return (int(reached[0]) + 1, True) if reached.size else (len(scores), False)


def summarise_objects(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each object.

    Args:
        table: Rows of ``correct_object`` with columns that name the object.

    Returns:
        The naming columns, ``dice_auc``, ``nsd_auc`` (NaN with one click), ``dice_final``, ``nsd_final``, and for each
        of ``QUALITIES`` ``noc_80``, ``reached_80``, ...
    """
    measured = {"clicks", "dice", "nsd", "seconds", "positive"}
    names = [name for name in table.columns if name not in measured]
    rows = []
    for key, part in table.sort_values("clicks").groupby(names, sort=False, dropna=False):
        row = dict(zip(names, key, strict=True))
        for metric in ("dice", "nsd"):
            scores = part[metric].to_list()
            row[f"{metric}_auc"] = area_under_curve(scores) if len(scores) > 1 else np.nan
            row[f"{metric}_final"] = scores[-1]
        for quality in QUALITIES:
            number, reached = clicks_to_reach(part["dice"].to_list(), quality)
            row |= {f"noc_{100 * quality:.0f}": number, f"reached_{100 * quality:.0f}": reached}
        rows.append(row)
    return pd.DataFrame(rows)


def _jittered(
    index_zyx: NDArray[np.float64],
    jitter_mm: float,
    spacing_zyx_mm: Sequence[float],
    shape_zyx: Sequence[int],
    rng: np.random.Generator | None,
) -> NDArray[np.float64]:
    """A click that misses; it stays in the image."""
    if not jitter_mm:
        return index_zyx
    if rng is None:
        raise ValueError("jitter_mm needs rng; pass numpy.random.default_rng(seed).")
    moved = index_zyx + rng.normal(0, jitter_mm, 3) / np.asarray(spacing_zyx_mm)
    return np.clip(np.rint(moved), 0, np.asarray(shape_zyx) - 1)
