"""Corrections by hand: curves, areas, clicks to a quality, and the protocol's loop on models that are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from nnunetv2_promise.evaluation import correction_curves
from nnunetv2_promise.evaluation.correction_curves import (
    area_under_curve,
    clicks_to_reach,
    correct_object,
    summarise_objects,
)


class Painter:
    """Paints a ball of one voxel around each click, or wipes it."""

    def __init__(self, shape: tuple[int, int, int], *, accepts_negative: bool = True, start: object = None) -> None:
        self.accepts_negative = accepts_negative
        self.mask = np.zeros(shape, dtype=bool)
        self.start = start
        self.clicks: list[tuple[tuple[float, ...], bool]] = []

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        self.clicks.append((tuple(index_zyx.tolist()), positive))
        if len(self.clicks) == 1 and self.start is not None:
            self.mask = np.array(self.start, dtype=bool)
        else:
            self.mask[tuple(index_zyx.astype(int))] = positive
        return self.mask.copy()


def line(*values: int) -> NDArray[np.bool_]:
    """A row of voxels as a (1, 1, n) mask."""
    return np.array([[values]], dtype=bool)


@pytest.mark.parametrize(
    ("scores", "area"),
    [
        ([0.5, 0.5], 0.5),
        ([0.0, 1.0], 0.5),
        ([0.6, 0.8, 1.0], 0.8),
        ([0.2, 0.4, 0.8, 0.8, 1.0], (0.3 + 0.6 + 0.8 + 0.9) / 4),
    ],
)
def test_area_is_that_of_trapezoids_divided_by_their_number(scores: list[float], area: float) -> None:
    assert area_under_curve(scores) == pytest.approx(area)


def test_area_needs_two_points() -> None:
    with pytest.raises(ValueError, match="needs two numbers of clicks"):
        area_under_curve([0.5])


@pytest.mark.parametrize(
    ("scores", "quality", "expected"),
    [
        ([0.7, 0.85, 0.9], 0.85, (2, True)),
        ([0.9, 0.7, 0.95], 0.85, (1, True)),  # the first time counts
        ([0.7, 0.8], 0.85, (2, False)),
        ([0.85], 0.85, (1, True)),
    ],
)
def test_clicks_to_a_quality(scores: list[float], quality: float, expected: tuple[int, bool]) -> None:
    assert clicks_to_reach(scores, quality) == expected


def test_clicks_go_where_the_mask_is_wrong_and_carry_its_sign() -> None:
    """The first answer covers voxels 4 to 8 of the object 1 to 5: three are missing, three are too many."""
    truth = line(0, 1, 1, 1, 1, 1, 0, 0, 0)
    model = Painter(truth.shape, start=line(0, 0, 0, 0, 1, 1, 1, 1, 1))
    rows = correct_object(model, truth, spacing_zyx_mm=(1, 1, 1), clicks=4, tolerance_mm=0)
    assert model.clicks[0] == ((0.0, 0.0, 3.0), True)
    assert model.clicks[1] == ((0.0, 0.0, 2.0), True)  # of two errors of one size the first
    assert model.clicks[2] == ((0.0, 0.0, 7.0), False)
    assert [row["dice"] for row in rows[:3]] == pytest.approx([4 / 10, 6 / 11, 6 / 10])
    assert [row["clicks"] for row in rows] == [1, 2, 3, 4]
    assert all(row["seconds"] >= 0 for row in rows)


def test_a_model_without_negative_clicks_keeps_its_mask() -> None:
    truth = line(0, 1, 1, 0, 0, 0, 0)
    model = Painter(truth.shape, accepts_negative=False, start=line(0, 1, 1, 1, 1, 1, 1))
    rows = correct_object(model, truth, spacing_zyx_mm=(1, 1, 1), clicks=3)
    assert len(model.clicks) == 1
    assert [row["dice"] for row in rows] == pytest.approx([0.5] * 3)
    assert np.isnan([row["seconds"] for row in rows[1:]]).all()


def test_a_right_mask_is_not_clicked_again() -> None:
    truth = line(0, 1, 1, 0)
    model = Painter(truth.shape, start=truth)
    rows = correct_object(model, truth, spacing_zyx_mm=(1, 1, 1), clicks=3)
    assert len(model.clicks) == 1
    assert [row["dice"] for row in rows] == [1.0] * 3
    assert [row["positive"] for row in rows] == [True] * 3
    assert np.isnan([row["seconds"] for row in rows[1:]]).all()


def test_seconds_are_those_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=iter([100.0, 100.25, 200.0, 203.0]).__next__)
    monkeypatch.setattr(correction_curves, "time", clock)
    truth = line(0, 1, 1, 0)
    rows = correct_object(Painter(truth.shape), truth, spacing_zyx_mm=(1, 1, 1), clicks=2)
    assert [row["seconds"] for row in rows] == [0.25, 3.0]


def test_the_first_click_may_be_given_and_clicks_may_miss() -> None:
    truth = np.zeros((9, 9, 9), dtype=bool)
    truth[3:6, 3:6, 3:6] = True
    model = Painter(truth.shape)
    correct_object(model, truth, spacing_zyx_mm=(1, 1, 1), clicks=2, first_zyx=np.array([5.0, 3.0, 4.0]))
    assert model.clicks == [((5.0, 3.0, 4.0), True), ((4.0, 4.0, 4.0), True)]
    missed = []
    for seed in range(200):
        model = Painter(truth.shape)
        correct_object(model, truth, spacing_zyx_mm=(2, 1, 1), clicks=1, jitter_mm=1.5, rng=np.random.default_rng(seed))
        missed.append(np.array(model.clicks[0][0]) - 4)
    np.testing.assert_allclose(np.std(missed, axis=0) * (2, 1, 1), 1.5, rtol=0.2)
    np.testing.assert_allclose(np.mean(missed, axis=0), 0, atol=0.3)
    with pytest.raises(ValueError, match="needs rng"):
        correct_object(Painter(truth.shape), truth, spacing_zyx_mm=(1, 1, 1), clicks=1, jitter_mm=1.0)


def test_clicks_that_miss_stay_in_the_image() -> None:
    truth = np.ones((3, 4, 5), dtype=bool)
    places = []
    for seed in range(40):
        model = Painter(truth.shape)
        correct_object(model, truth, spacing_zyx_mm=(1, 1, 1), clicks=1, jitter_mm=50, rng=np.random.default_rng(seed))
        places.append(model.clicks[0][0])
    assert np.min(places, axis=0).tolist() == [0, 0, 0]
    assert np.max(places, axis=0).tolist() == [2, 3, 4]


def test_summary_of_objects_by_hand() -> None:
    table = pd.DataFrame(
        [
            {"case": case, "object": 1, "clicks": k, "dice": dice, "nsd": dice / 2, "seconds": 0.1, "positive": True}
            for case, scores in (("a", [0.7, 0.82, 0.91]), ("b", [0.5, 0.5, 0.84]))
            for k, dice in enumerate(scores, start=1)
        ]
    )
    found = summarise_objects(table.sample(frac=1, random_state=0)).set_index("case").loc[["a", "b"]]
    np.testing.assert_allclose(found["dice_auc"], [(0.76 + 0.865) / 2, (0.5 + 0.67) / 2])
    np.testing.assert_allclose(found["nsd_final"], [0.455, 0.42])
    assert found["noc_80"].tolist() == [2, 3]
    assert found["noc_90"].tolist() == [3, 3]
    assert found["reached_90"].tolist() == [True, False]
    assert found["reached_85"].tolist() == [True, False]
    two = summarise_objects(table[table["clicks"] <= 2]).set_index("case").loc[["a", "b"]]
    np.testing.assert_allclose(two["dice_auc"], [0.76, 0.5])
    unnamed = summarise_objects(table.assign(object=np.nan))
    assert len(unnamed) == 2  # what names an object may be empty
    single = summarise_objects(table[table["clicks"] == 1])
    assert single[["dice_auc", "nsd_auc"]].isna().all(axis=None)
    assert single["dice_final"].tolist() == [0.7, 0.5]
