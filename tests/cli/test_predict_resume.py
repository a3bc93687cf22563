"""Prediction that is killed, meets a bad case, or is asked for more than before: nothing is lost or done twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from commands import DATASET_ID, PLANS, Workspace

from nnunetv2_promise.cli import predict as command
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file

ONE = "ProMISeTrainer_1epoch"
PROMPTS = [Prompt(label="organ", points=((6.0, 5.0, 4.0),)), Prompt(label="cancer", points=((14.0, 12.0, 8.0),))]


@pytest.fixture
def many(trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An input folder with eight cases and their clicks."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, trained.environment()[name])
    folder = tmp_path / "many"
    folder.mkdir()
    source = sitk.ReadImage(str(trained.images / "scan_008_0000.nii.gz"))
    for number in range(8):
        sitk.WriteImage(source + number, str(folder / f"case_{number}_0000.nii.gz"))
    save_prompt_file(folder / "prompts.json", {f"case_{n}": PROMPTS for n in range(8)}, coordinates="voxel")
    return folder


def arguments(images: Path, output: Path, *more: str) -> list[str]:
    model = ["-d", DATASET_ID, "-tr", ONE, "-p", PLANS, "-device", "cpu", "-np", "1"]
    return ["-i", str(images), "-o", str(output), *model, *more]


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in sorted(folder.glob("*.nii.gz"))}


EVERYTHING = ("--continue_prediction", "--save_probabilities", "--instances")


def kill_when(workspace: Workspace, images: Path, output: Path, published: int, delay: float) -> None:
    """Run the command and kill it a little after so many masks are there; with none, after its folder is there."""
    program = Path(sys.executable).with_name("nnUNetv2_promise_predict")
    with subprocess.Popen(
        [str(program), *arguments(images, output, *EVERYTHING)],
        env=workspace.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < deadline:
            if output.is_dir() and len(list(output.glob("*.nii.gz"))) >= published:
                break
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)


def written(output: Path) -> dict[Path, int]:
    """When each file was written of the cases whose mask is there."""
    cases = [path.name.removesuffix(".nii.gz") for path in output.glob("*.nii.gz")]
    files = [file for case in cases for file in (*output.glob(f"{case}.*"), *output.glob(f"instances/{case}/*"))]
    return {file.relative_to(output): file.stat().st_mtime_ns for file in files}


def assert_same_case(case: str, first: Path, second: Path) -> None:
    """The same masks, of the case and of each object, and the same probabilities."""
    names = [f"{case}.nii.gz", *(str(path.relative_to(first)) for path in first.glob(f"instances/{case}/*.nii.gz"))]
    assert len(names) == 1 + len(PROMPTS)
    for name in names:
        assert np.array_equal(
            *(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name))) for folder in (first, second))
        )
    assert np.array_equal(*(np.load(folder / f"{case}.npz")["probabilities"] for folder in (first, second)))


def check_kills(workspace: Workspace, images: Path, tmp_path: Path, published: list[int]) -> None:
    """Kill after so many masks each time, and compare with an undisturbed prediction."""
    whole, output = tmp_path / "whole", tmp_path / "killed"
    assert command.main(arguments(images, whole, *EVERYTHING)) == 0
    rng = random.Random(len(published))
    for number in published:
        there = written(output)
        kill_when(workspace, images, output, number, rng.random() * 0.2)
        assert written(output).items() >= there.items()
        for name in masks(output):
            assert_same_case(name.removesuffix(".nii.gz"), whole, output)
    there = written(output)
    assert there
    assert command.main(arguments(images, output, *EVERYTHING)) == 0
    assert written(output).items() >= there.items()
    assert not list(output.glob(".partial_*"))
    assert list(masks(output)) == [f"case_{number}.nii.gz" for number in range(8)]
    for number in range(8):
        assert_same_case(f"case_{number}", whole, output)
    assert (output / "objects.csv").read_bytes() == (whole / "objects.csv").read_bytes()


def test_killed_prediction_resumes_where_it_was(trained: Workspace, many: Path, tmp_path: Path) -> None:
    check_kills(trained, many, tmp_path, [3])


@pytest.mark.slow
def test_prediction_killed_ten_times_gives_the_same_masks(trained: Workspace, many: Path, tmp_path: Path) -> None:
    check_kills(trained, many, tmp_path, [0, 0, 1, 1, 2, 3, 4, 5, 6, 7])


def test_bad_case_does_not_take_the_others_with_it(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (many / "case_3_0000.nii.gz").read_bytes()
    (many / "case_3_0000.nii.gz").write_bytes(good[: len(good) * 2 // 3])
    output = tmp_path / "out"
    assert command.main(arguments(many, output)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "1 case(s) failed (case_3)" in errors[0]
    assert "case_3_0000.nii.gz cannot be read" in errors[0]
    assert len(masks(output)) == 7
    (many / "case_3_0000.nii.gz").write_bytes(good)
    assert command.main(arguments(many, output, "--continue_prediction")) == 0
    assert len(masks(output)) == 8


def test_leftovers_of_killed_runs_go_and_those_of_living_ones_stay(many: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    output = tmp_path / "out"
    for name in (".partial_dead", ".partial_alive"):
        (output / name / "case_1").mkdir(parents=True)
    with FileLock(output / ".partial_alive" / "lock"):
        assert command.main(arguments(many, output)) == 0
        assert [path.name for path in output.glob(".partial_*")] == [".partial_alive"]


def test_continuing_makes_the_files_that_were_not_asked_for_before(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert command.main(arguments(many, output)) == 0
    before = masks(output)
    assert command.main(arguments(many, output, "--continue_prediction", "--save_probabilities", "--instances")) == 0
    for name, mask in masks(output).items():
        assert np.array_equal(mask, before[name])
        probabilities = np.load(output / name.replace(".nii.gz", ".npz"))["probabilities"]
        assert np.array_equal(probabilities.argmax(0), mask)
    table = pd.read_csv(output / "objects.csv")
    assert list(table["case"]) == [f"case_{number}" for number in range(8) for _ in PROMPTS]
    assert list(table["label"][:2]) == ["organ", "cancer"]
    assert table["expected_dice"].isna().all()  # the model expects nothing
    spacing = sitk.ReadImage(str(many / "case_0_0000.nii.gz")).GetSpacing()
    for row in table.itertuples():
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(output / row.file)))
        assert row.volume_ml == pytest.approx(mask.sum() * np.prod(spacing) / 1000, abs=1e-6)
        inside = np.argwhere(mask)
        extents = (np.ptp(inside, axis=0) + 1)[::-1] * spacing if len(inside) else (0, 0, 0)
        assert (row.extent_x_mm, row.extent_y_mm, row.extent_z_mm) == pytest.approx(extents, abs=1e-3)
        x, y, z = (int(v) for v in PROMPTS[row.object - 1].points[0])
        assert row.holds_click == bool(mask[z, y, x])
        assert not row.volume_ml or 0.5 <= row.mean_probability <= 1


def test_prompt_file_is_parsed_once(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2_promise.prompts import parsing, schema

    parsed = []
    read = parsing.read_strict_json
    for module in (parsing, schema):
        if hasattr(module, "read_strict_json"):
            monkeypatch.setattr(module, "read_strict_json", lambda path: parsed.append(path) or read(path))
    assert command.main(arguments(many, tmp_path / "out")) == 0
    assert len(parsed) == 1


def test_unit_of_spacing_is_questioned_before_weights_are_loaded(
    trained: Workspace, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2_promise.inference.prompted_model import PromptedModel

    monkeypatch.setattr(PromptedModel, "load", lambda *_: pytest.fail("weights were loaded"))
    source = sitk.ReadImage(str(many / "case_5_0000.nii.gz"))
    for factor in (0.001, 1000.0):
        source.SetSpacing([factor, factor, 1.5 * factor])
        sitk.WriteImage(source, str(many / "case_5_0000.nii.gz"))
        assert command.main(arguments(many, tmp_path / "out")) == 2
        error = capsys.readouterr().err
        assert "case_5_0000.nii.gz has a spacing of" in error
        assert "the model was trained at" in error
    assert not (tmp_path / "out").exists()


def test_second_channel_on_another_grid_is_refused(
    trained: Workspace, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused from headers: the model of two channels needs no weights for that."""
    import shutil

    model = tmp_path / "model"
    shutil.copytree(trained.model(ONE), model, ignore=shutil.ignore_patterns("validation", "fold_1"))
    dataset = json.loads((model / "dataset.json").read_text())
    dataset["channel_names"] = {"0": "T1", "1": "T2"}
    (model / "dataset.json").write_text(json.dumps(dataset))
    first = sitk.ReadImage(str(many / "case_0_0000.nii.gz"))
    x, y, z = first.GetSpacing()
    changes = {
        "size": lambda image: image[:-2],
        "spacing": lambda image: image.SetSpacing((2 * x, 2 * y, 2 * z)),
        "origin": lambda image: image.SetOrigin([value + 20 for value in image.GetOrigin()]),
        "direction": lambda image: image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    }
    for number in range(8):
        shutil.copy(many / f"case_{number}_0000.nii.gz", many / f"case_{number}_0001.nii.gz")
    for word, change in changes.items():
        second = sitk.Image(first)
        second = change(second) or second
        sitk.WriteImage(second, str(many / "case_0_0001.nii.gz"))
        assert command.main(arguments(many, tmp_path / "out", "-m", str(model))) == 2
        error = capsys.readouterr().err
        assert "case_0_0001.nii.gz" in error
        assert word in error
    assert not (tmp_path / "out").exists()
