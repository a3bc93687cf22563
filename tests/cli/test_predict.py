"""Prediction with stock ``nnUNetv2_predict`` and with ``nnUNetv2_promise_predict``; what both do with bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from commands import DATASET_ID, PLANS, Workspace

from nnunetv2_promise.cli import predict as command
from nnunetv2_promise.prompts.schema import PROMPTS_VARIABLE, Prompt, save_prompt_file

ONE = "ProMISeTrainer_1epoch"
PROMPTS = {
    "scan_008": [Prompt(label="organ", points=((6.0, 5.0, 4.0),)), Prompt(label="cancer", points=((14.0, 12.0, 8.0),))],
    "scan_009": [Prompt(label=2, points=((14.0, 12.0, 8.0), (13.0, 11.0, 7.5)))],
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.json"
    save_prompt_file(path, PROMPTS, coordinates="voxel")
    return path


@pytest.fixture
def own_model(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The trained model for commands that run in this process."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, trained.environment()[name])
    monkeypatch.delenv(PROMPTS_VARIABLE, raising=False)
    return trained


def arguments(workspace: Workspace, output: Path, *more: str | Path) -> list[str]:
    fixed = ["-i", workspace.images, "-o", output, "-d", DATASET_ID, "-tr", ONE, "-p", PLANS, "-device", "cpu"]
    return [str(part) for part in (*fixed, *more)]


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in sorted(folder.glob("*.nii.gz"))}


@pytest.mark.parametrize("mirroring", [(), ("--disable_tta",)])
def test_stock_and_own_prediction_are_equal(
    own_model: Workspace, prompts: Path, tmp_path: Path, mirroring: tuple[str, ...]
) -> None:
    stock = tmp_path / "stock"
    options = ("-c", "3d_fullres", "-f", "0", "-npp", "1", "-nps", "1", *mirroring)
    own_model.run("nnUNetv2_predict", *arguments(own_model, stock, *options), **{PROMPTS_VARIABLE: str(prompts)})
    own = tmp_path / "own"
    options = ("--prompts", str(prompts), "-np", "1", "--save_probabilities", *mirroring)
    assert command.main(arguments(own_model, own, *options)) == 0
    first, second = masks(stock), masks(own)
    assert list(first) == list(second) == ["scan_008.nii.gz", "scan_009.nii.gz"]
    for name in first:
        # float16 sums of the stock sliding window round differently; only logits next to zero may flip.
        assert (first[name] != second[name]).mean() < 1e-3
        image = sitk.ReadImage(str(own_model.images / name.replace(".nii", "_0000.nii")))
        mask = sitk.ReadImage(str(own / name))
        assert mask.GetSize() == image.GetSize()
        assert mask.GetDirection() == image.GetDirection()
        assert mask.GetOrigin() == image.GetOrigin()
        probabilities = np.load(own / name.replace(".nii.gz", ".npz"))["probabilities"]
        assert probabilities.shape == (3, *second[name].shape)
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
    assert not list(own.glob(".partial_*"))
    assert {file.name for file in own.iterdir()} >= {"plans.json", "dataset.json"}


def test_mirror_images_vote_unless_they_are_disabled(own_model: Workspace, prompts: Path, tmp_path: Path) -> None:
    found = []
    for number, options in enumerate(([], ["--disable_tta"])):
        out = tmp_path / str(number)
        fixed = ("--prompts", prompts, "-np", "1", "--save_probabilities")
        assert command.main(arguments(own_model, out, *fixed, *options)) == 0
        found.append(np.load(out / "scan_008.npz")["probabilities"])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_continue_keeps_what_is_there(own_model: Workspace, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command.main(arguments(own_model, out, "--prompts", prompts, "-np", "1")) == 0
    kept = out / "scan_008.nii.gz"
    kept.write_bytes(b"mine")
    (out / "scan_009.nii.gz").unlink()
    assert command.main(arguments(own_model, out, "--prompts", prompts, "-np", "1", "--continue_prediction")) == 0
    assert kept.read_bytes() == b"mine"
    assert (out / "scan_009.nii.gz").is_file()


def test_model_travels_as_a_zip_and_stock_prediction_finds_the_file_beside_the_images(
    own_model: Workspace, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "model.zip"
    own_model.run(
        "nnUNetv2_export_model_to_zip", "-d", DATASET_ID, "-o", archive, "-c", "3d_fullres", "-f", "0", "-tr", ONE,
        "-p", PLANS,
    )  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own_model.run("nnUNetv2_install_pretrained_model_from_zip", archive, nnUNet_results=str(elsewhere))
    images = tmp_path / "images"
    shutil.copytree(own_model.images, images)
    shutil.copy(prompts, images / "prompts.json")
    model = elsewhere / own_model.model(ONE).relative_to(own_model.results)
    own_model.run(
        "nnUNetv2_predict_from_modelfolder", "-i", images, "-o", tmp_path / "stock", "-m", model, "-f", "0",
        "-device", "cpu", "-npp", "1", "-nps", "1",
    )  # fmt: skip
    assert len(masks(tmp_path / "stock")) == 2
    monkeypatch.setenv("nnUNet_results", str(elsewhere))
    assert command.main(arguments(own_model, tmp_path / "own", "--prompts", prompts, "-np", "1")) == 0
    assert len(masks(tmp_path / "own")) == 2


def test_nnunets_model_selection_and_evaluation_work(trained: Workspace, tmp_path: Path) -> None:
    done = trained.run(
        "nnUNetv2_promise_find_best_configuration", DATASET_ID, "-tr", ONE, "-p", PLANS, "-f", "0",
        "--disable_ensembling", "-np", "1",
    )  # fmt: skip
    assert "nnUNetv2_predict" in done.stdout  # nnU-Net's own function has run
    determined = trained.model(ONE) / "crossval_results_folds_0" / "postprocessing.pkl"
    assert load_pickle(str(determined)) == ([], [])
    validation = trained.model(ONE) / "fold_0" / "validation"
    output = tmp_path / "summary.json"
    trained.run(
        "nnUNetv2_evaluate_folder", trained.preprocessed / "gt_segmentations", validation, "-djfile",
        trained.model(ONE) / "dataset.json", "-pfile", trained.model(ONE) / "plans.json", "-o", output, "-np", "1",
        "--chill",
    )  # fmt: skip
    expected = json.loads((validation / "summary.json").read_text())["foreground_mean"]["Dice"]
    assert json.loads(output.read_text())["foreground_mean"]["Dice"] == pytest.approx(expected)


def edited_checkpoint(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        file = model / "fold_0" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=False)
        edit(content)
        torch.save(content, file)

    return change


class Harmful:
    """Anything that is no weight."""


def truncate(path: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        file = model / path
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return change


def remove(path: str) -> Callable[[Path], None]:
    return lambda model: (model / path).unlink()


BROKEN_MODELS = [
    ("no checkpoint", remove("fold_0/checkpoint_final.pth"), "checkpoint_final.pth does not exist"),
    ("no plans", remove("plans.json"), "plans.json does not exist"),
    ("no dataset.json", remove("dataset.json"), "dataset.json does not exist"),
    ("plans cut off", truncate("plans.json"), "plans.json is not valid JSON"),
    ("plans of something else", lambda m: (m / "plans.json").write_text("{}"), "has no 'configurations'"),
    ("checkpoint cut off", truncate("fold_0/checkpoint_final.pth"), "checkpoint_final.pth is damaged"),
    ("empty", lambda m: (m / "fold_0" / "checkpoint_final.pth").write_bytes(b""), "checkpoint_final.pth is damaged"),
    ("holds code", edited_checkpoint(lambda c: c.update(extra=Harmful())), "could run code"),
    ("no weights", edited_checkpoint(lambda c: c.pop("network_weights")), "has no 'network_weights'"),
    ("another trainer's", edited_checkpoint(lambda c: c.update(trainer_name="nnUNetTrainer")), "takes no prompts"),
    (
        "another network's",
        edited_checkpoint(lambda c: c["network_weights"].pop(next(iter(c["network_weights"])))),
        "lacks the weight",
    ),
    (
        "misshapen weight",
        edited_checkpoint(lambda c: c["network_weights"].update({next(iter(c["network_weights"])): torch.zeros(3, 3)})),
        "has shape",
    ),
    ("plans that changed", lambda m: relabel(m / "plans.json"), "other plans than"),
]


def relabel(plans_file: Path) -> None:
    plans = json.loads(plans_file.read_text())
    settings = plans["configurations"]["3d_fullres"]["promise"]
    settings["target"] = "label" if settings["target"] == "object" else "object"
    plans_file.write_text(json.dumps(plans))


@pytest.mark.parametrize(("name", "damage", "sentence"), BROKEN_MODELS, ids=[row[0] for row in BROKEN_MODELS])
def test_broken_models(
    name: str,
    damage: Callable[[Path], None],
    sentence: str,
    own_model: Workspace,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    shutil.copytree(own_model.model(ONE), model, ignore=shutil.ignore_patterns("validation", "fold_1"))
    damage(model)
    out = tmp_path / "out"
    code = command.main(arguments(own_model, out, "-m", model, "--prompts", prompts))
    assert_one_sentence(code, sentence, capsys)
    assert not list(out.glob("*")) if out.exists() else True


def assert_one_sentence(code: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert code == 2
    assert len(lines) == 1, error
    assert sentence in lines[0]
    assert "Traceback" not in error


BAD_ARGUMENTS = [
    (["-i", "nowhere"], "nowhere is not a folder"),
    (["-i", "{empty}"], "holds no image named CASE_0000.nii.gz"),
    (["-i", "{two_channels}"], "the model needs scan_008_0000.nii.gz"),
    (["-i", "{not_an_image}"], "scan_008_0000.nii.gz"),
    (["-i", "{nan}"], "scan_008_0000.nii.gz has NaN"),
    (["-i", "{cut_off}"], "scan_008_0000.nii.gz cannot be read"),
    (["-i", "{flat}"], "scan_008_0000.nii.gz"),
    (["-o", "{a_file}"], "is a file; name a folder"),
    (["-d", "999"], "No dataset 999"),
    (["-d", "Dataset999_None"], "There is no model folder"),
    (["-tr", "ProMISeTrainer"], "There is no model folder"),
    (["-c", "2d"], "There is no model folder"),
    (["-f", "4"], "fold_4"),
    (["-f", "first"], "a fold is a number or 'all'"),
    (["-chk", "checkpoint_worst.pth"], "checkpoint_worst.pth does not exist"),
    (["-np", "0"], "at least one process"),
    (["-device", "cuda"], "no CUDA device"),
    (["--prompts", "{missing}"], "missing.json does not exist"),
    (["--prompts", "{not_json}"], "not_json.json is not valid JSON"),
    (["--prompts", "{other_case}"], "does not list case 'scan_008'"),
    (["--prompts", "{extra_case}"], "prompts for case 'scan_999'"),
    (["--prompts", "{outside}"], "outside of the image"),
    (["--prompts", "{unknown_label}"], "'spleen' is not a foreground label"),
    (["--prompts", "{negative}"], "object 1 has negative points, but this model takes points and scribbles only"),
    (["--prompts", "{box}"], "object 1 has a box, but this model takes points and scribbles only"),
    (["--prompts", "{masked}"], "object 1 has a previous mask, but this model takes points and scribbles only"),
]


@pytest.fixture
def bad_things(own_model: Workspace, tmp_path: Path) -> dict[str, Path]:
    """Named bad folders and files; image folders hold scan_008 only."""
    image = sitk.ReadImage(str(own_model.images / "scan_008_0000.nii.gz"))
    names = ("empty", "two_channels", "not_an_image", "nan", "cut_off", "flat")
    things = {name: tmp_path / name for name in names}
    for name in names:
        things[name].mkdir()
    good = own_model.images / "scan_008_0000.nii.gz"
    shutil.copy(good, things["two_channels"] / "scan_008_0000.nii.gz")
    shutil.copy(good, things["two_channels"] / "scan_008_0001.nii.gz")
    (things["not_an_image"] / "scan_008_0000.nii.gz").write_text("no image")
    (things["cut_off"] / "scan_008_0000.nii.gz").write_bytes(good.read_bytes()[:2000])
    holed = sitk.Cast(image, sitk.sitkFloat32)
    holed[1, 2, 3] = float("nan")
    sitk.WriteImage(holed, str(things["nan"] / "scan_008_0000.nii.gz"))
    sitk.WriteImage(image[:, :, 3], str(things["flat"] / "scan_008_0000.nii.gz"))
    (tmp_path / "a_file").write_text("")
    (tmp_path / "not_json.json").write_text("{")
    save_prompt_file(tmp_path / "other_case.json", {"scan_009": PROMPTS["scan_009"]}, coordinates="voxel")
    save_prompt_file(tmp_path / "extra_case.json", PROMPTS | {"scan_999": []}, coordinates="voxel")
    outside = PROMPTS | {"scan_008": [Prompt(label="organ", points=((6.0, 5.0, 60.0),))]}
    save_prompt_file(tmp_path / "outside.json", outside, coordinates="voxel")
    spleen = PROMPTS | {"scan_009": [Prompt(label="spleen", points=((1.0, 1.0, 1.0),))]}
    save_prompt_file(tmp_path / "unknown_label.json", spleen, coordinates="voxel")
    refused = {
        "negative": Prompt("organ", ((6.0, 5.0, 4.0),), negative_points=((1.0, 1.0, 1.0),)),
        "box": Prompt("organ", box=(1.0, 1.0, 1.0, 4.0, 4.0, 4.0)),
        "masked": Prompt("organ", ((6.0, 5.0, 4.0),), previous_mask="mask.nii.gz"),
    }
    for name, prompt in refused.items():
        save_prompt_file(tmp_path / f"{name}.json", PROMPTS | {"scan_008": [prompt]}, coordinates="voxel")
    files = ("missing", "not_json", "other_case", "extra_case", "outside", "unknown_label", *refused)
    return things | {"a_file": tmp_path / "a_file"} | {name: tmp_path / f"{name}.json" for name in files}


@pytest.mark.parametrize(("changes", "sentence"), BAD_ARGUMENTS, ids=[" ".join(row[0]) for row in BAD_ARGUMENTS])
def test_bad_arguments(
    changes: list[str],
    sentence: str,
    own_model: Workspace,
    bad_things: dict[str, Path],
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if changes[0] == "-device" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    if changes[0] == "-i":
        prompts = tmp_path / "only_008.json"
        save_prompt_file(prompts, {"scan_008": PROMPTS["scan_008"]}, coordinates="voxel")
    out = tmp_path / "out"
    values = [value.format(**bad_things) for value in changes]
    code = command.main([*arguments(own_model, out, "--prompts", prompts, "-np", "1"), *values])
    assert_one_sentence(code, sentence, capsys)
    assert not out.exists() or not list(out.iterdir())


def test_full_disk(own_model: Workspace, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        code = command.main(arguments(own_model, out, "--prompts", prompts, "-np", "1"))
        left = list(out.glob("*.nii.gz"))
        unreadable = [file for file in left if sitk.ReadImage(str(file)).GetSize() != (24, 28, 20)]
    finally:
        subprocess.run(["umount", str(out)], check=True)
    assert_one_sentence(code, str(out), capsys)
    assert len(left) < 2
    assert not unreadable


def test_no_results_folder(
    own_model: Workspace, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("nnUNet_results")
    code = command.main(arguments(own_model, tmp_path / "out", "--prompts", prompts))
    assert_one_sentence(code, "nnUNet_results is not set", capsys)
