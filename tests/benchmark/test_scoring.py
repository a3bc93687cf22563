"""Tables of scores keep their names and their undefined cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

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
