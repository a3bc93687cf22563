"""``nnUNetv2_promise_benchmark`` as a user runs it, on a small dataset."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import preloaded
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from benchmark_workspace import QUICK, BenchmarkWorkspace, make_benchmark_workspace, reported_scores
from clickable_workspace import Clickable
from commands import DATASET, PLANS

from nnunetv2_promise.cli import benchmark as command
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.weights.weight_files import read_weight_file

FOLDS = ("-f", "0", "1")
UNET, CLICKED, NEAREST = "QuickUNet", "QuickProMISe, 1 click", "QuickUNet + 1 click"
COSTS = ("train_seconds", "peak_memory", "seconds", "hours")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkWorkspace:
    return make_benchmark_workspace(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="module")
def finished(quick: BenchmarkWorkspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainers and two folds, undisturbed."""
    output = tmp_path_factory.mktemp("finished") / "out"
    quick.run(output, *FOLDS)
    return output


def test_every_system_is_scored_on_the_held_out_cases(quick: BenchmarkWorkspace, finished: Path) -> None:
    scores = reported_scores(finished)
    splits = json.loads((quick.workspace.preprocessed / "splits_final.json").read_text())
    assert set(scores["system"]) == {UNET, CLICKED, NEAREST}
    for (_, fold), rows in scores.groupby(["system", "fold"]):
        assert sorted(set(rows["case"])) == sorted(splits[int(fold)]["val"])
        assert set(rows["label"]) == {"organ", "cancer"}
    assert len(scores) == 3 * 2 * sum(len(splits[fold]["val"]) for fold in (0, 1))
    assert scores.loc[scores["system"] != UNET, "click_offset_mm"].notna().any()


def test_scores_are_those_of_the_masks(quick: BenchmarkWorkspace, finished: Path) -> None:
    scores = reported_scores(finished)
    row = scores[(scores["system"] == CLICKED) & (scores["fold"] == 1) & (scores["label"] == "organ")].iloc[0]
    folder = finished / "units" / f"QuickProMISe__{PLANS}" / "fold_1" / "predictions" / "clicks_1"
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{row['case']}.nii.gz"))) == 1
    truth_file = finished / "inputs" / "fold_1" / "labels" / f"{row['case']}.nii.gz"
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(truth_file))) == 1
    assert row["dice"] == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def test_the_report_stands_on_its_own(finished: Path) -> None:
    page = (finished / "report" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    for text in (UNET, CLICKED, NEAREST, "nnUNetv2_train", "export nnUNet_raw"):
        assert text in page, text
    assert (finished / "report" / "table1.csv").is_file()


def test_costs_are_measured(finished: Path) -> None:
    cost = json.loads((finished / "units/QuickUNet__nnUNetPlans/fold_0/training_cost.json").read_text())
    assert cost["device"] == "cpu"
    assert 1e8 < cost["peak_memory_bytes"] < 2e10
    assert cost["seconds"] > 1


def test_a_second_run_does_nothing_twice(quick: BenchmarkWorkspace, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if "report" not in path.parts}
    report = (finished / "report" / "report.html").read_bytes()
    quick.run(finished, *FOLDS)
    files = {".lock", ".json"}
    after = {path: path.stat().st_mtime_ns for path in before if path.is_file() and path.suffix not in files}
    assert after == {path: before[path] for path in after}
    assert (finished / "report" / "report.html").read_bytes() == report


def test_dry_run_prints_the_commands_and_writes_nothing(quick: BenchmarkWorkspace, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = quick.run(output, *FOLDS, "--dry_run")
    lines = done.stdout.splitlines()
    assert f"nnUNetv2_train 77 3d_fullres 1 -tr QuickProMISe -p {PLANS} -device cpu" in lines
    assert sum(line.startswith("nnUNetv2_train") for line in lines) == 4
    assert lines[0].startswith("nnUNetv2_promise_benchmark -d 77 ")
    assert lines[0].endswith(" --prepare_only")
    assert not output.exists()


def test_printed_commands_work_as_printed(quick: BenchmarkWorkspace, finished: Path, tmp_path: Path) -> None:
    """Those of a finished benchmark's first fold, its trainings left out, give the very masks and scores again."""
    scores = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.glob("units/*/fold_0/scores/*.csv")
    }
    done = quick.run(finished, "-f", "0", "--dry_run")
    kept = [line for line in done.stdout.splitlines() if not line.startswith(("nnUNetv2_train", "#"))]
    environment = quick.environment()
    for line in kept:
        words = shlex.split(line.replace(str(finished / "units"), str(tmp_path / "units")))
        if words[0] == "export":
            environment |= dict([words[1].split("=", 1)])
        elif words[0].startswith("nnUNetv2_"):
            program = Path(sys.executable).with_name(words[0])
            preloaded.run([str(program), *words[1:]], env=environment, timeout=800).check_returncode()
        else:
            subprocess.run(words, env=environment, check=True, timeout=800, capture_output=True)
    for condition in (
        "QuickUNet__nnUNetPlans/fold_0/predictions/nearest_1",
        f"QuickProMISe__{PLANS}/fold_0/predictions/clicks_1",
    ):
        for mask in (finished / "units" / condition).glob("*.nii.gz"):
            again = sitk.ReadImage(str(tmp_path / "units" / condition / mask.name))
            assert np.array_equal(sitk.GetArrayFromImage(again), sitk.GetArrayFromImage(sitk.ReadImage(str(mask))))
    assert len(scores) > 2
    for path, (before, written) in scores.items():
        assert path.read_bytes() == before
        assert path.stat().st_mtime_ns > written


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Titles of the steps that a call did and did not find done."""
    return [
        line.split("] ", 1)[1]
        for line in done.stdout.splitlines()
        if "] " in line and ": " not in line.split("] ", 1)[1]
    ]


def test_nothing_is_redone_for_processes_or_a_moved_folder(
    quick: BenchmarkWorkspace, finished: Path, tmp_path: Path
) -> None:
    plans = {path: path.read_bytes() for path in quick.workspace.preprocessed.glob("*Plans.json")}
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished, moved, symlinks=True)
    command = quick.command(moved, *FOLDS)
    command[command.index("-np") + 1] = "2"
    done = subprocess.run(command, env=quick.environment(), capture_output=True, text=True, check=True, timeout=800)
    assert ran(done) == []
    assert {path: path.read_bytes() for path in plans} == plans


def unet_fold(quick: BenchmarkWorkspace) -> Path:
    return quick.workspace.results / DATASET / "QuickUNet__nnUNetPlans__3d_fullres" / "fold_0"


def test_a_model_that_was_trained_again_is_noticed(quick: BenchmarkWorkspace, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output, symlinks=True)
    checkpoint = (
        (quick.workspace.results / DATASET / "QuickUNet__nnUNetPlans__3d_fullres") / "fold_0" / "checkpoint_final.pth"
    )
    before = checkpoint.read_bytes()
    content = torch.load(checkpoint, weights_only=False)
    content["network_weights"] = {key: value * 0.9 for key, value in content["network_weights"].items()}
    torch.save(content, checkpoint)
    try:
        done = quick.run(output, *FOLDS)
    finally:
        checkpoint.write_bytes(before)
    assert {"Predict", "Score (none)"} <= set(ran(done))
    assert "Train" not in ran(done)
    assert len([title for title in ran(done) if title == "Predict"]) == 1


def test_a_model_that_has_seen_a_scored_case_is_refused(
    quick: BenchmarkWorkspace, finished: Path, tmp_path: Path
) -> None:
    """The split was replaced after training, and the benchmark goes to a new folder."""
    file = quick.workspace.preprocessed / "splits_final.json"
    before = file.read_text()
    folds = json.loads(before)
    folds[0]["train"][0], folds[0]["val"][0] = folds[0]["val"][0], folds[0]["train"][0]
    seen = folds[0]["val"][0]
    file.write_text(json.dumps(folds))
    try:
        ours = quick.run(tmp_path / "ours", "-f", "0", check=False, trainers=(f"QuickProMISe:{PLANS}",))
        record = (
            (quick.workspace.results / DATASET / "QuickUNet__nnUNetPlans__3d_fullres")
            / "fold_0"
            / "training_record.json"
        )
        aside = record.rename(record.with_suffix(".aside"))  # as nnU-Net's own trainer leaves its folder
        theirs = quick.run(tmp_path / "theirs", "-f", "0", check=False, trainers=("QuickUNet",))
        aside.rename(record)
    finally:
        file.write_text(before)
    assert ours.returncode == theirs.returncode == 2
    assert f"it has seen case '{seen}', which would be scored" in ours.stderr
    assert "was trained on other cases than fold 0" in theirs.stderr
    assert not list(tmp_path.rglob("scores/*.csv"))


def test_a_cut_off_mask_is_named(quick: BenchmarkWorkspace, finished: Path) -> None:
    unit = finished / "units" / "QuickUNet__nnUNetPlans" / "fold_0"
    mask = next((unit / "predictions" / "none").glob("*.nii.gz"))
    whole = mask.read_bytes()
    mask.write_bytes(whole[:100])
    (unit / "done" / "score_none.json").unlink()
    done = quick.run(finished, *FOLDS, check=False)
    mask.write_bytes(whole)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: 1 of 4 units failed")
    assert mask.name in last
    quick.run(finished, *FOLDS)


def test_corrections_crops_and_models_of_others_are_added(
    quick: BenchmarkWorkspace, finished: Path, clickable: Clickable, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output, symlinks=True)
    model = f"Zero={clickable.model}"
    more = ("--corrections", "2", "--jitter", "1", "--crop", "--tolerance", "2", "--nninteractive", model)
    done = quick.run(output, *FOLDS, *more)
    assert "Train" not in ran(done)
    report = output / "report"
    scores = reported_scores(output)
    assert {UNET, CLICKED, NEAREST, "QuickUNet, crop around 1 click", "Zero, 1 click"} == set(scores["system"])
    # Every system that takes clicks is asked whether it obeyed them.
    obeyed = pd.read_csv(report / "object_scores.csv")
    assert set(obeyed["system"]) == set(scores["system"]) - {UNET}
    clicked = pd.read_csv(report / "correction_scores.csv", dtype={"case": str})
    assert set(clicked["system"]) == {"QuickUNet", "QuickProMISe", "Zero"}
    assert set(clicked["clicks"]) == {1, 2}
    of_objects = clicked.groupby("system")[["case", "label", "object"]].apply(lambda part: len(part.drop_duplicates()))
    assert of_objects.nunique() == 1
    assert (clicked.groupby(["system", "clicks"]).size().unstack() == of_objects.iloc[0]).all(axis=None)
    seconds = clicked[clicked["clicks"] == 1].groupby("system")["seconds"]
    assert seconds.count().to_dict() == {"QuickUNet": 0, "QuickProMISe": of_objects.iloc[0], "Zero": of_objects.iloc[0]}
    content = json.loads((report / "report.json").read_text())
    assert [row["name"] for row in content["corrections"]] == ["QuickUNet, cut down by clicks", "QuickProMISe", "Zero"]
    assert any("Zero: made elsewhere" in sentence for sentence in content["notes"])
    assert ran(quick.run(output, *FOLDS, "--tolerance", "2")) == []  # what earlier calls asked for stays


def test_more_clicks_are_added_without_training_again(quick: BenchmarkWorkspace, finished: Path) -> None:
    done = finished / "units" / f"QuickProMISe__{PLANS}" / "fold_0" / "done"
    before = {path.name: path.stat().st_mtime_ns for path in done.iterdir()}
    quick.run(finished, "-f", "0", "--prompts", "3", trainers=(QUICK[1],))
    scores = reported_scores(finished)
    after = {path.name: path.stat().st_mtime_ns for path in done.iterdir()}
    assert after.items() > before.items()
    # What earlier calls asked for stays: the other trainer, the other fold, one click.
    assert set(scores["system"]) == {UNET, CLICKED, NEAREST, "QuickProMISe, 3 clicks", "QuickUNet + 3 clicks"}
    assert set(scores["fold"]) == {0, 1}


def test_a_failed_training_is_named_and_the_others_go_on(quick: BenchmarkWorkspace, tmp_path: Path) -> None:
    broken = quick.trainers / "broken.py"
    broken.write_text(
        "from nnunetv2_promise.trainers.restartable import RestartableTraining\n\n\n"
        "class BrokenUNet(RestartableTraining):\n"
        "    def initialize(self):\n        raise RuntimeError('no such luck')\n"
    )
    output = tmp_path / "out"
    done = quick.run(output, "-f", "0", check=False, trainers=("BrokenUNet", "QuickUNet"))
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "1 of 2 units failed" in last
    assert "logs/train.txt" in last
    assert "Traceback" not in done.stderr
    assert (output / "units" / "QuickUNet__nnUNetPlans" / "fold_0" / "done" / "score_none.json").is_file()
    assert not (output / "report").exists()


def test_masks_of_anyone_are_scored_beside_the_others(
    quick: BenchmarkWorkspace, finished: Path, tmp_path: Path
) -> None:
    output, masks = tmp_path / "out", tmp_path / "masks"
    shutil.copytree(finished, output, symlinks=True)
    masks.mkdir()
    for truth in finished.glob("inputs/fold_*/labels/*.nii.gz"):
        shutil.copy(truth, masks / truth.name)
    quick.run(output, "-f", "0", "--masks", f"Expert={masks}")
    scores = reported_scores(output)
    of_expert = scores[(scores["system"] == "Expert") & (scores["truth_mm3"] > 0)]
    assert set(of_expert["fold"]) == {0, 1}
    assert (of_expert["dice"] == 1).all()
    refused = quick.run(output, "-f", "0", "--masks", "Expert=/nowhere", check=False)
    assert "give NAME=FOLDER" in refused.stderr


def test_several_trainings_of_a_fold_differ_by_their_seed(quick: BenchmarkWorkspace, tmp_path: Path) -> None:
    output = tmp_path / "out"
    quick.run(output, "-f", "0", "--training_seeds", "2", trainers=(QUICK[1],))
    scores = reported_scores(output)
    assert set(scores["seed"]) == {0, 1}
    assert (scores["seed"] == 0).sum() == (scores["seed"] == 1).sum()
    checkpoint = Path(quick.workspace.model(QUICK[1].partition(":")[0]).name, "fold_0", "checkpoint_final.pth")
    folders = (quick.workspace.results, output / "nnUNet_results_seed_1")
    first, second = (read_weight_file(folder / DATASET / checkpoint)["network_weights"] for folder in folders)
    assert any(not torch.equal(value, second[name]) for name, value in first.items())
    record = next((output / "nnUNet_results_seed_1").rglob("training_record.json"))
    assert json.loads(record.read_text())["seed"] == 1


def test_a_full_disk_leaves_no_half_report(quick: BenchmarkWorkspace, finished: Path) -> None:
    report = finished / "report"
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(report)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        done = quick.run(finished, *FOLDS, check=False)
        left = [path.name for path in report.iterdir() if path.suffix == ".html" or path.name.startswith(".partial")]
    finally:
        subprocess.run(["umount", str(report)], check=True)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: {report}")
    assert "No space left on device" in last
    assert left == []


def test_ctrl_c_ends_the_training_at_once(quick: BenchmarkWorkspace, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        quick.command(output, "-f", "2"),
        env=quick.environment(),
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = output / "units" / "QuickUNet__nnUNetPlans" / "fold_2" / "logs" / "train.txt"
    until = time.monotonic() + 120
    while not (log.is_file() and "Using device" in log.read_text()):
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not (output / "units" / "QuickUNet__nnUNetPlans" / "fold_2" / "done" / "train.json").exists()


BAD = [
    (["-tr", "NoSuchTrainer"], "nnU-Net finds no such trainer"),
    (["-tr", "QuickUNet", "QuickUNet"], "named twice"),
    (["-tr", "QuickUNet:NoSuchPlans"], "has no plans NoSuchPlans"),
    (["-tr", "QuickUNet", "--minutes", "1"], "no QuickUNet_limited"),
    (["-tr", "QuickUNet", "--reference", "nnUNetTrainer"], "none of the trainers"),
    (["-tr", "QuickUNet", "-f", "5"], "has the folds 0 to 4"),
    (["-tr", "QuickUNet", "--nninteractive", "."], "not a model folder of nnInteractive"),
    (["-tr", "QuickUNet", "--jitter", "2"], "give both"),
    (["-tr", "QuickUNet", "--tolerance", "2", "3"], "twice"),
    (["-tr", "QuickUNet", "--tolerance", "liver=3"], "there is no label liver"),
    (["-tr", "QuickUNet", "-c", "3d_lowres"], "no configuration 3d_lowres"),
    (["-tr", "QuickUNet", "-d", "78"], "No dataset 078"),
    (["-tr", "QuickUNet", "-device", "cuda"], "no CUDA device"),
    (["-tr", "QuickUNet", "--cluster", "slurm"], "sbatch"),
]


@pytest.mark.parametrize(("options", "expected"), BAD)
def test_bad_input_is_one_sentence(
    quick: BenchmarkWorkspace,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    expected: str,
) -> None:
    for name, value in quick.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["-d", "77", "-device", "cpu", "-o", str(tmp_path / "out"), *options]
    assert command.main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("Error: ")
    assert expected in message
    assert "\n" not in message
    assert not (tmp_path / "out" / "units").exists()


@pytest.mark.parametrize("options", [["-f", "all"], ["--minutes", "0"], ["--minutes", "1", "--epochs", "2"]])
def test_arguments_that_make_no_sense_are_refused_at_once(options: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        command.main(["-d", "77", *options])
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--seed", "1"), "was made with seed 0, now it is 1"),
        (("--disable_tta",), "was made with disable_tta False, now it is True"),
    ],
)
def test_results_of_other_settings_stay_apart(
    options: tuple[str, ...], expected: str, quick: BenchmarkWorkspace, finished: Path
) -> None:
    done = quick.run(finished, *FOLDS, *options, check=False)
    assert done.returncode == 2
    assert expected in done.stderr


def test_a_refused_submission_leaves_the_settings_that_queued_jobs_read(
    quick: BenchmarkWorkspace, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output, symlinks=True)
    for name, value in quick.environment().items():
        monkeypatch.setenv(name, value)

    def refuse(*_: object) -> None:
        raise UserError("SLURM refused a job (no partition); change --partition.")

    monkeypatch.setattr("nnunetv2_promise.benchmark.cluster.slurm.check_submission", lambda *_: None)
    monkeypatch.setattr("nnunetv2_promise.benchmark.cluster.slurm.submit", refuse)
    before = (output / "benchmark.json").read_bytes()
    more = [*FOLDS, "--prompts", "2", "--tolerance", "3", "--cluster", "slurm"]
    assert command.main(quick.command(output, *more)[1:]) == 2
    assert (output / "benchmark.json").read_bytes() == before


def test_a_changed_split_is_noticed(quick: BenchmarkWorkspace, finished: Path) -> None:
    file = quick.workspace.preprocessed / "splits_final.json"
    before = file.read_text()
    folds = json.loads(before)
    folds[0]["train"], folds[0]["val"] = folds[0]["val"], folds[0]["train"]
    file.write_text(json.dumps(folds))
    try:
        done = quick.run(finished, *FOLDS, check=False)
    finally:
        file.write_text(before)
    assert done.returncode == 2
    assert "fold 0 has changed" in done.stderr


@pytest.mark.parametrize(
    ("kills", "folds"), [(1, ("0",)), pytest.param(10, ("0", "1"), marks=pytest.mark.slow)], ids=["once", "ten times"]
)
def test_killed_and_started_again_it_gives_the_same_scores(
    quick: BenchmarkWorkspace, finished: Path, tmp_path: Path, kills: int, folds: tuple[str, ...]
) -> None:
    output, results = tmp_path / "out", tmp_path / "results"
    environment = quick.environment(nnUNet_results=str(results))
    results.mkdir()
    command, chance = quick.command(output, "-f", *folds), random.Random(4)
    for _ in range(kills):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(8, 25))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment, check=True, timeout=800, capture_output=True)
    undisturbed = reported_scores(finished)
    # Another test has added clicks to the undisturbed benchmark.
    same = undisturbed["fold"].isin(map(int, folds)) & (undisturbed["points"] <= 1)
    undisturbed = undisturbed[same].reset_index(drop=True)
    pd.testing.assert_frame_equal(reported_scores(output), undisturbed)
    if len(folds) == 1:
        return
    tables = [pd.read_csv(folder / "report" / "table1.csv") for folder in (output, finished)]
    first, second = (
        table.loc[table["points"] <= 1, [n for n in table.columns if not any(cost in n for cost in COSTS)]]
        for table in tables
    )
    second = second.reset_index(drop=True)
    assert len(first.columns) > 5
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
def test_every_system_of_table_1_on_a_budget(quick: BenchmarkWorkspace, tmp_path: Path) -> None:
    prompted = (f"SAMAdapter3DTrainer:{PLANS}", f"ProMISeTrainer:{PLANS}")
    others = ("nnUNetTrainer", "UXNet3DTrainer", "nnFormerTrainer", "SwinUNETRTrainer")
    output = tmp_path / "out"
    quick.run(output, "-f", "0", "--minutes", "0.2", "--robustness", trainers=(*others, *prompted))
    table = pd.read_csv(output / "report" / "table1.csv")
    assert set(table["system"]) == {
        *others,
        *(f"{name} + 1 click" for name in others),
        "SAMAdapter3DTrainer, 1 click",
        "ProMISeTrainer, 1 click",
    }
    assert np.isfinite(table["dice_mean"]).all()
    assert {"seed1", "border", "outside_2mm", "wrong"} <= set(reported_scores(output)["condition"])
