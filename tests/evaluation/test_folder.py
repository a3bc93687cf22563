"""Scores of folders: by hand, against nnU-Net, and what the command refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.cli.evaluate import main
from nnunetv2_promise.evaluation.cases import EvaluationCase, evaluate_case
from nnunetv2_promise.evaluation.folder import evaluate_folder, format_summary, summarize, write_scores

SPACING_XYZ = (0.7, 1.0, 5.0)
SPACING_ZYX = SPACING_XYZ[::-1]
NNUNET_LABELS = {"background": 0, "liver": 1, "tumour": 2}


def box(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*part) for part in ranges)] = True
    return mask


def write_map(path: Path, array: np.ndarray, **header: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(header.get("spacing", SPACING_XYZ))
    image.SetOrigin(header.get("origin", (0.0, 0.0, 0.0)))
    sitk.WriteImage(image, str(path))


def test_volumes_of_missed_and_false_lesions_by_hand(tmp_path: Path) -> None:
    """Voxels of 3.5 mm3: a lesion of 27 is found, one of 8 is missed, one of 12 is false."""
    shape = (12, 12, 12)
    found = box(shape, (0, 3), (0, 3), (0, 3))
    write_map(tmp_path / "truth" / "a.nii.gz", (found | box(shape, (6, 8), (6, 8), (6, 8))).astype(np.uint8))
    write_map(tmp_path / "masks" / "a.nii.gz", (found | box(shape, (9, 11), (0, 3), (9, 11))).astype(np.uint8))
    case = EvaluationCase("a", tmp_path / "masks" / "a.nii.gz", tmp_path / "truth" / "a.nii.gz", {"tumour": 1})
    (row,) = evaluate_case(case)
    assert (row["lesions_found"], row["lesions_missed"], row["lesions_false"]) == (1, 1, 1)
    assert row["false_positive_ml"] == pytest.approx(12 * 3.5 / 1000)
    assert row["false_negative_ml"] == pytest.approx(8 * 3.5 / 1000)
    assert row["truth_mm3"] == pytest.approx(35 * 3.5)
    assert row["prediction_mm3"] == pytest.approx(39 * 3.5)


# cases


def test_evaluate_case_scores_labels_regions_and_volumes(tmp_path: Path) -> None:
    truth, prediction = np.zeros((6, 7, 8), np.uint8), np.zeros((6, 7, 8), np.uint8)
    truth[1:3, 1:3, 1:3], truth[3, 1:3, 1:3] = 1, 2
    prediction[1:3, 1:3, 1:3], prediction[3, 1:3, 1] = 1, 2
    write_map(tmp_path / "t.nii.gz", truth)
    write_map(tmp_path / "p.nii.gz", prediction)
    labels = {"core": 1, "edge": 2, "whole": (1, 2), "absent": 3}
    rows = evaluate_case(EvaluationCase("a", tmp_path / "p.nii.gz", tmp_path / "t.nii.gz", labels))
    assert [(row["case"], row["label"]) for row in rows] == [("a", name) for name in labels]
    scores = [row["dice"] for row in rows]
    assert scores[:3] == pytest.approx([1, 2 * 2 / (4 + 2), 2 * 10 / (12 + 10)])
    assert np.isnan([rows[3]["dice"], rows[3]["nsd"]]).all()
    assert [row["truth_mm3"] for row in rows] == pytest.approx([8 * 3.5, 4 * 3.5, 12 * 3.5, 0])
    assert [row["prediction_mm3"] for row in rows] == pytest.approx([8 * 3.5, 2 * 3.5, 10 * 3.5, 0])


@pytest.mark.parametrize(("scored", "ignored"), [(1, 3), (3, 1)])
def test_evaluate_case_leaves_out_the_ignore_label(scored: int, ignored: int, tmp_path: Path) -> None:
    truth, prediction = np.zeros((4, 4, 8), np.uint8), np.zeros((4, 4, 8), np.uint8)
    truth[1:3, 1:3, 1:4], truth[1:3, 1:3, 4:7] = scored, ignored
    prediction[1:3, 1:3, 1:7] = scored
    write_map(tmp_path / "t.nii.gz", truth)
    write_map(tmp_path / "p.nii.gz", prediction)
    job = {"case": "a", "prediction": tmp_path / "p.nii.gz", "truth": tmp_path / "t.nii.gz", "labels": {"x": scored}}
    (with_ignore,) = evaluate_case(EvaluationCase(**job, ignore_label=ignored, tolerance_mm=0.1))
    (without,) = evaluate_case(EvaluationCase(**job, tolerance_mm=0.1))
    assert (with_ignore["dice"], with_ignore["nsd"]) == (1, 1)
    assert without["dice"] == pytest.approx(2 / 3)
    assert without["nsd"] < 1
    prediction[0, 0, 0] = scored
    write_map(tmp_path / "p.nii.gz", prediction)
    (spilled,) = evaluate_case(EvaluationCase(**job, ignore_label=ignored))
    assert spilled["dice"] == pytest.approx(2 * 12 / (12 + 13))


def test_evaluate_case_uses_spacing_in_array_order(tmp_path: Path) -> None:
    """A shift by one voxel along z is 5 mm, along x 0.7 mm."""
    truth = box((10, 12, 14), (3, 6), (4, 8), (5, 9)).astype(np.uint8)
    write_map(tmp_path / "t.nii.gz", truth)
    scores = []
    for axis in range(3):
        write_map(tmp_path / f"p{axis}.nii.gz", np.roll(truth, 1, axis))
        job = EvaluationCase("a", tmp_path / f"p{axis}.nii.gz", tmp_path / "t.nii.gz", {"x": 1}, tolerance_mm=0.8)
        scores.append(evaluate_case(job)[0]["nsd"])
    assert scores[2] == 1
    assert max(scores[:2]) < 0.9


# folders


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three cases: a is perfect, b half right, c has no tumour and none is predicted."""
    truth = np.zeros((6, 8, 10), np.uint8)
    truth[1:5, 1:7, 1:5], truth[1:5, 1:7, 5:9] = 1, 2
    half, no_tumour = truth.copy(), np.where(truth == 2, 0, truth).astype(np.uint8)
    half[1:5, 1:4, 5:9] = 0
    for case, prediction, true in (("a", truth, truth), ("b", half, truth), ("c", no_tumour, no_tumour)):
        write_map(tmp_path / "predictions" / f"{case}.nii.gz", prediction)
        write_map(tmp_path / "labels" / f"{case}.nii.gz", true)
    content = {"channel_names": {"0": "CT"}, "labels": NNUNET_LABELS, "numTraining": 3, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_evaluate_folder_by_hand(folders: Path) -> None:
    scores = evaluate_folder(folders / "predictions", folders / "labels")
    assert list(zip(scores["case"], scores["label"], strict=True)) == [
        (case, label) for case in "abc" for label in ("liver", "tumour")
    ]
    np.testing.assert_allclose(scores["dice"], [1, 1, 1, 2 / 3, 1, np.nan])
    summary = summarize(scores)
    assert summary["liver"]["dice"] == {"mean": 1, "std": 0, "n": 3}
    tumour = summary["tumour"]["dice"]
    assert tumour == pytest.approx({"mean": 5 / 6, "std": 1 / 6, "n": 2})
    everything = summary["all labels"]["dice"]
    assert everything["mean"] == pytest.approx((4 + 2 / 3) / 5)
    assert everything["n"] == 5
    assert list(summarize(scores.iloc[::-1])) == ["tumour", "liver", "all labels"]
    assert list(summarize(scores[scores["label"] == "liver"])) == ["liver"]


def test_evaluate_folder_agrees_with_nnunet(folders: Path) -> None:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    scores = evaluate_folder(folders / "predictions", folders / "labels")
    for case in "abc":
        files = [str(folders / where / f"{case}.nii.gz") for where in ("labels", "predictions")]
        theirs = compute_metrics(*files, SimpleITKIO(), [1, 2])["metrics"]
        mine = scores[scores["case"] == case]["dice"]
        np.testing.assert_allclose(mine, [theirs[1]["Dice"], theirs[2]["Dice"]])


def test_evaluate_folder_in_two_processes_is_the_same(folders: Path) -> None:
    one = evaluate_folder(folders / "predictions", folders / "labels", num_processes=1)
    two = evaluate_folder(folders / "predictions", folders / "labels", num_processes=2)
    pd.testing.assert_frame_equal(one, two)


def test_evaluate_folder_passes_the_ignore_label_on(folders: Path) -> None:
    labels = {"background": 0, "liver": 1, "ignore": 2}
    (folders / "ignoring.json").write_text(json.dumps({"labels": labels}))
    path = folders / "predictions" / "b.nii.gz"
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    write_map(path, np.where(sitk.GetArrayFromImage(sitk.ReadImage(str(folders / "labels/b.nii.gz"))) == 2, 1, array))
    scores = evaluate_folder(folders / "predictions", folders / "labels", dataset_json=folders / "ignoring.json")
    assert scores["label"].tolist() == ["liver"] * 3
    np.testing.assert_allclose(scores["dice"], 1)


def test_evaluate_folder_only_named_cases(folders: Path) -> None:
    (folders / "predictions" / "a.nii.gz").unlink()
    write_map(folders / "predictions" / "z.nii.gz", np.zeros((6, 8, 10), np.uint8))
    scores = evaluate_folder(folders / "predictions", folders / "labels", cases=["c", "b"])
    assert scores["case"].unique().tolist() == ["b", "c"]


def test_evaluate_folder_decathlon_dataset_json_and_other_endings(folders: Path) -> None:
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    (folders / "dataset.json").write_text(json.dumps({"labels": labels}))
    for case in "abc":
        path = folders / "predictions" / f"{case}.nii.gz"
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
        path.unlink()
    scores = evaluate_folder(folders / "predictions", folders / "labels")
    np.testing.assert_allclose(scores["dice"], [1, 1, 1, 2 / 3, 1, np.nan])


def test_write_scores_csv_and_json(folders: Path) -> None:
    scores = evaluate_folder(folders / "predictions", folders / "labels", tolerance_mm=2)
    csv_path, json_path = write_scores(scores, folders / "out" / "scores", tolerance_mm=2)
    pd.testing.assert_frame_equal(pd.read_csv(csv_path), scores)
    content = json.loads(json_path.read_text(), parse_constant=pytest.fail)
    assert content["tolerance_mm"] == 2
    assert content["cases"][5]["dice"] is None
    assert content["cases"][3]["dice"] == pytest.approx(2 / 3)
    assert content["summary"]["tumour"]["dice"]["n"] == 2
    assert sorted(path.name for path in json_path.parent.iterdir()) == ["evaluation.csv", "evaluation.json"]


def test_summary_is_printed_with_all_three_scores() -> None:
    scores = {
        "dice": {"mean": 0.5, "std": 0.25, "n": 12},
        "nsd": {"mean": 0.75, "std": 0.125, "n": 11},
        "hd95_mm": {"mean": 3.25, "std": 1.5, "n": 10},
    }
    assert format_summary({"liver": scores, "all labels": scores}).splitlines() == [
        "label                  Dice              NSD        HD95 (mm)  cases",
        "liver       0.5000 ± 0.2500  0.7500 ± 0.1250      3.25 ± 1.50     12",
        "all labels  0.5000 ± 0.2500  0.7500 ± 0.1250      3.25 ± 1.50     12",
    ]


def test_command_prints_and_writes(folders: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["-p", str(folders / "predictions"), "-l", str(folders / "labels"), "-np", "1"]
    assert main(arguments) == 0
    assert "0.8333 ± 0.1667" in capsys.readouterr().out
    assert main([*arguments, "-o", str(folders / "out"), "--tolerance", "0.5"]) == 0
    assert json.loads((folders / "out" / "evaluation.json").read_text())["tolerance_mm"] == 0.5


# bad input


def remove_prediction(folders: Path) -> None:
    (folders / "predictions" / "b.nii.gz").unlink()


def remove_truth(folders: Path) -> None:
    (folders / "labels" / "b.nii.gz").unlink()


def move_prediction(folders: Path) -> None:
    write_map(folders / "predictions" / "b.nii.gz", np.zeros((6, 8, 10), np.uint8), origin=(3.0, 0.0, 0.0))


def respace_prediction(folders: Path) -> None:
    write_map(folders / "predictions" / "b.nii.gz", np.zeros((6, 8, 10), np.uint8), spacing=(1.0, 0.7, 5.0))


def resize_prediction(folders: Path) -> None:
    write_map(folders / "predictions" / "b.nii.gz", np.zeros((8, 6, 10), np.uint8))


def write_probabilities(folders: Path) -> None:
    write_map(folders / "predictions" / "b.nii.gz", np.full((6, 8, 10), 0.5, np.float32))


def damage_prediction(folders: Path) -> None:
    (folders / "predictions" / "b.nii.gz").write_bytes(b"damaged")


def duplicate_prediction(folders: Path) -> None:
    write_map(folders / "predictions" / "b.nrrd", np.zeros((6, 8, 10), np.uint8))


def remove_dataset_json(folders: Path) -> None:
    (folders / "dataset.json").unlink()


def empty_dataset_json(folders: Path) -> None:
    (folders / "dataset.json").write_text("{}")


def background_only(folders: Path) -> None:
    (folders / "dataset.json").write_text(json.dumps({"labels": {"background": 0}}))


def contradicting_dataset_json(folders: Path) -> None:
    (folders / "predictions" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1}}))


def odd_label_value(folders: Path) -> None:
    (folders / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1.5}}))


BAD_FOLDERS = [
    (remove_prediction, r"predictions has no prediction for 1 case\(s\): b"),
    (remove_truth, r"labels has no true label map for 1 case\(s\): b"),
    (move_prediction, r"b\.nii\.gz and truth .* differ in origin"),
    (respace_prediction, "differ in spacing"),
    (resize_prediction, r"differ in size \(10, 6, 8\) and \(10, 8, 6\)"),
    (write_probabilities, r"predictions/b\.nii\.gz has the value .*, which is not a whole number"),
    (damage_prediction, r"predictions/b\.nii\.gz cannot be read"),
    (duplicate_prediction, r"has both b\.nii\.gz and b\.nrrd"),
    (remove_dataset_json, "No dataset.json in or above"),
    (empty_dataset_json, r"dataset\.json has no 'labels'"),
    (background_only, "declares no foreground label"),
    (contradicting_dataset_json, "declare different labels"),
    (odd_label_value, "label 'tumour' has the value 1.5"),
]


@pytest.mark.parametrize(("spoil", "expected"), BAD_FOLDERS)
def test_command_bad_input_gives_one_sentence(
    spoil: Any, expected: str, folders: Path, capsys: pytest.CaptureFixture
) -> None:
    spoil(folders)
    output = folders / "out"
    arguments = ["-p", str(folders / "predictions"), "-l", str(folders / "labels"), "-o", str(output), "-np", "1"]
    assert main(arguments) == 2
    _, *errors = capsys.readouterr().err.split("Error: ")
    assert len(errors) == 1
    assert re.search(expected, errors[0].splitlines()[0])
    assert not output.exists()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["-p", "nowhere"], "nowhere does not exist"),
        (["-l", "nowhere"], "nowhere does not exist"),
        (["--dataset_json", "nowhere.json"], "nowhere.json does not exist"),
        (["--cases", "a", "q"], r"no true label map for 1 case"),
    ],
)
def test_command_bad_option_gives_one_sentence(
    option: list[str], expected: str, folders: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["-p", str(folders / "predictions"), "-l", str(folders / "labels"), "-np", "1", *option]
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--tolerance", "-1"], ["--tolerance", "nan"], ["--tolerance", "x"], ["-np", "0"], ["-np", "x"], ["-q"]]
)
def test_command_argparse_refuses(option: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["-p", "p", "-l", "l", *option])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_evaluate_real_labels_against_themselves_and_shifted(shared: Path, tmp_path: Path) -> None:
    task = shared / "data" / "Task04_Hippocampus"
    files = sorted((task / "labelsTr").glob("hippocampus_*.nii.gz"))[:3]
    if not files:
        pytest.skip("no Task04_Hippocampus in shared/data")
    for path in files:
        image = sitk.ReadImage(str(path))
        shifted = sitk.GetImageFromArray(np.roll(sitk.GetArrayFromImage(image), 2, axis=0))
        shifted.CopyInformation(image)
        for folder, content in (("truth", image), ("same", image), ("shifted", shifted)):
            (tmp_path / folder).mkdir(exist_ok=True)
            sitk.WriteImage(content, str(tmp_path / folder / path.name))
    options = {"dataset_json": task / "dataset.json", "tolerance_mm": 1.0}
    same = evaluate_folder(tmp_path / "same", tmp_path / "truth", **options)
    assert same["label"].unique().tolist() == ["Anterior", "Posterior"]
    np.testing.assert_allclose(same[["dice", "nsd"]], 1)
    shifted_scores = evaluate_folder(tmp_path / "shifted", tmp_path / "truth", **options)
    assert shifted_scores["dice"].between(0.4, 0.95).all()
    assert shifted_scores["nsd"].between(0.3, 0.99).all()
