"""Tables of scores keep their names and their undefined cells; single masks are scored against single objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunetv2_promise.benchmark.scores_of_clicks import score_object
from nnunetv2_promise.benchmark.scoring import read_scores


def test_a_case_called_na_keeps_its_name_and_empty_cells_are_undefined(tmp_path: Path) -> None:
    written = pd.DataFrame(
        {
            "case": ["NA", "1", "nan"],
            "label": ["null", "tumour", "None"],
            "dice": [0.5, np.nan, 1.0],
            "hd95_mm": [np.nan] * 3,
            "holds_click": [True, False, True],
        }
    )
    written.to_csv(tmp_path / "scores.csv", index=False)
    found = read_scores(tmp_path / "scores.csv")
    assert found["case"].tolist() == ["NA", "1", "nan"]
    assert found["label"].tolist() == ["null", "tumour", "None"]
    np.testing.assert_array_equal(found["dice"], [0.5, np.nan, 1.0])
    assert found["hd95_mm"].isna().all()
    assert found["hd95_mm"].dtype == float
    assert found["holds_click"].tolist() == [True, False, True]


def test_a_network_that_ignores_clicks_and_segments_everything_comes_out_badly() -> None:
    """Its union has Dice 1; each prompt's own mask tells that it is about all objects at once."""
    truth = np.zeros((1, 4, 30), np.int32)
    truth[..., 0:4], truth[..., 10:20], truth[..., 25:28] = 1, 2, 3
    everything = truth > 0
    scores = [
        score_object(
            everything,
            truth == number,
            np.where(truth == number, 0, truth),
            np.array([0.0, 1.0, float(column)]),
            spacing_zyx_mm=(1.0, 1.0, 1.0),
            tolerance_mm=1.0,
        )
        for number, column in ((1, 2), (2, 15), (3, 26))
    ]
    assert [score["dice"] for score in scores] == pytest.approx([2 * 4 / 21, 2 * 10 / 27, 2 * 3 / 20])
    assert [score["wrong_object"] for score in scores] == [True, False, True]
    assert all(score["holds_click"] for score in scores)
    # In plates of one voxel surfaces are as volumes: those of the other objects agree with nothing.
    assert [score["nsd"] for score in scores] == pytest.approx([score["dice"] for score in scores], abs=0.05)
    nothing = np.zeros_like(everything)
    missed = score_object(nothing, truth == 1, truth, np.zeros(3), spacing_zyx_mm=(1.0, 1.0, 1.0), tolerance_mm=1.0)
    assert missed == {"dice": 0.0, "nsd": 0.0, "wrong_object": False, "holds_click": False}
