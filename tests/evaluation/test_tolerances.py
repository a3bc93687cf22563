"""Tolerances of single labels, and the warning where one says little."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.cli.evaluate import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.metrics import dice, hausdorff_distance_95, normalized_surface_dice
from nnunetv2_promise.evaluation.tolerances import (
    LARGEST_SHARE,
    in_words,
    median_diameters_mm,
    split_tolerances,
    tolerances_of,
    warnings_of,
)

LABELS = {"organ": 1, "tumour": 2, "both": (1, 2)}


def row(label: str, truth_mm3: float, found: int, missed: int) -> dict[str, object]:
    return {"label": label, "truth_mm3": truth_mm3, "lesions_found": found, "lesions_missed": missed}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], (5.0, {})),
        ([("", 2.0)], (2.0, {})),
        ([("tumour", 1.0)], (5.0, {"tumour": 1.0})),
        ([("2", 1.0), ("", 3.0)], (3.0, {"2": 1.0})),
    ],
)
def test_what_the_option_means(given: list[tuple[str, float]], expected: tuple[float, dict[str, float]]) -> None:
    assert split_tolerances(given, 5.0) == expected


@pytest.mark.parametrize(("given", "named"), [([("", 1.0), ("", 2.0)], "all labels"), ([("a", 1.0)] * 2, "a")])
def test_a_tolerance_is_given_once(given: list[tuple[str, float]], named: str) -> None:
    with pytest.raises(UserError, match=f"names .*{named} twice"):
        split_tolerances(given, 5.0)


def test_labels_are_named_by_name_or_value() -> None:
    assert tolerances_of(LABELS, 5.0, {"2": 1.0, "both": 3.0}) == {"organ": 5.0, "tumour": 1.0, "both": 3.0}
    with pytest.raises(UserError, match="there is no label liver; name one of: organ \\(1\\)"):
        tolerances_of(LABELS, 5.0, {"liver": 1.0})
    assert in_words(5.0, {"tumour": 1.5}) == "5 mm, tumour 1.5 mm"


def test_median_is_over_objects_and_a_ball_has_its_own_diameter() -> None:
    ball = 4 / 3 * math.pi * 5**3  # 10 mm
    small = ball / 8  # 5 mm
    scores = pd.DataFrame([row("a", ball, 1, 0), row("a", 3 * small, 1, 2), row("a", 0.0, 0, 0), row("b", ball, 0, 1)])
    assert median_diameters_mm(scores) == pytest.approx({"a": 5.0, "b": 10.0})


def test_a_six_millimetre_cube_beside_the_truth_has_dice_0_and_a_high_nsd_at_5_mm_which_is_warned_of() -> None:
    truth = np.zeros((20, 20, 20), dtype=bool)
    truth[5:11, 5:11, 5:11] = True
    moved = np.roll(truth, 6, axis=2)
    common = {"spacing_zyx_mm": (1, 1, 1)}
    assert dice(moved, truth) == 0
    assert normalized_surface_dice(moved, truth, tolerance_mm=5, **common) == pytest.approx(0.79, abs=0.005)
    assert hausdorff_distance_95(moved, truth, **common) == 6  # tells that nothing agrees
    scores = pd.DataFrame([row("cube", 216.0, 1, 0)])
    (sentence,) = warnings_of(scores, {"cube": 5.0})
    assert "label cube, 5 mm, exceeds a third of the median diameter of its objects (7.4 mm)" in sentence
    assert warnings_of(scores, {"cube": 2.47}) == []
    assert len(warnings_of(scores, {"cube": 2.49})) == 1
    assert warnings_of(scores, {"cube": 2.0}) == []
    third = median_diameters_mm(scores)["cube"] * LARGEST_SHARE
    assert warnings_of(scores, {"cube": third}) == []
    assert len(warnings_of(scores, {"cube": third + 1e-9})) == 1


def test_command_scores_each_label_with_its_tolerance_and_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = np.zeros((20, 20, 40), np.uint8)
    truth[5:11, 5:11, 5:11], truth[5:11, 5:11, 25:31] = 1, 2
    for name, array in (("truth", truth), ("prediction", np.roll(truth, 3, axis=2))):
        (tmp_path / name).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name / "a.nii.gz"))
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "organ": 1, "tumour": 2}}')
    folders = ["-p", str(tmp_path / "prediction"), "-l", str(tmp_path / "truth"), "-np", "1"]
    assert main([*folders, "-o", str(tmp_path / "scores"), "--tolerance", "3", "tumour=1"]) == 0
    printed = capsys.readouterr().out
    assert "HD95 (mm)" in printed
    assert "for label organ, 3 mm, exceeds a third" in printed
    assert "for label tumour" not in printed
    scores = pd.read_csv(tmp_path / "scores" / "evaluation.csv").set_index("label")
    assert scores.loc["organ", "nsd"] == 1
    assert scores.loc["tumour", "nsd"] < 0.8
    assert scores.loc["organ", "hd95_mm"] == 3
    assert main([*folders, "--tolerance", "liver=1"]) == 2
    assert "there is no label liver" in capsys.readouterr().err
