"""ProMISe that corrects, through stock ``nnUNetv2_train`` and from Python."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from commands import DATASET_ID, PLANS, Workspace

from nnunetv2_promise import InteractiveSession
from nnunetv2_promise.cli.predict import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.schema import PROMPTS_VARIABLE, Prompt, save_prompt_file
from nnunetv2_promise.trainers import ProMISeInteractiveTrainer

TRAINER = "ProMISeInteractiveTrainer_1epoch"


@pytest.fixture(scope="module")
def correcting(trained: Workspace) -> Workspace:
    """Trained from a plain model's weights, which lack the parts that correct."""
    plain = trained.model("ProMISeTrainer_1epoch") / "fold_0" / "checkpoint_final.pth"
    done = trained.train(TRAINER, "-pretrained_weights", str(plain))
    assert "Loading pretrained weights" in done.stdout
    assert "Pseudo dice at 1 to 6 clicks" in done.stdout
    return trained


def test_validation_holds_the_dice_of_every_click(correcting: Workspace) -> None:
    folder = correcting.model(TRAINER) / "fold_0" / "validation"
    found = json.loads((folder / "corrections.json").read_text())
    split = json.loads((correcting.preprocessed / "splits_final.json").read_text())[0]
    assert {row["case"] for row in found["objects"]} == set(split["val"])
    assert all(len(row["dice"]) == found["clicks"] == 6 for row in found["objects"] + found["labels"])
    mean = np.mean([row["dice"] for row in found["objects"]], axis=0)
    np.testing.assert_allclose(found["mean_dice"]["objects"], mean)


def test_session_clicks_undoes_and_encodes_a_patch_once(correcting: Workspace) -> None:
    path = sorted(correcting.images.glob("*_0000.nii.gz"))[0]
    image = sitk.ReadImage(str(path))
    session = InteractiveSession(correcting.model(TRAINER), device="cpu")
    labels = json.loads((correcting.preprocessed / "dataset.json").read_text())["labels"]
    label = max(labels, key=lambda name: labels[name])
    session.set_image(sitk.GetArrayFromImage(image), image.GetSpacing(), label=label)
    middle = [size // 2 for size in image.GetSize()]
    first = session.add_point(middle)
    assert first.shape == sitk.GetArrayFromImage(image).shape
    encodings = session._patches.encodings
    second = session.add_point([middle[0] + 1, middle[1], middle[2]], positive=False)
    assert session._patches.encodings == encodings
    assert 0 <= session.expected_dice <= 1
    np.testing.assert_array_equal(session.undo(), first)
    np.testing.assert_array_equal(session.add_point([middle[0] + 1, middle[1], middle[2]], positive=False), second)
    session.reset(label=label, previous_mask=np.ones_like(first))
    session.add_scribble([middle, middle], positive=False)
    assert session._patches.encodings == encodings
    for wrong, words in (
        (lambda: session.add_box([0, 0, 0, 1, 1, 1]), "takes clicks and no boxes"),
        (lambda: session.add_point([10**4, 0, 0]), "lies outside of the image"),
        (lambda: session.reset(label=label, previous_mask=np.ones((2, 2, 2))), "must share one grid"),
        (lambda: session.reset(label="nobody"), "nobody"),
    ):
        with pytest.raises(UserError, match=words):
            wrong()


def test_plain_model_refuses_a_negative_click(correcting: Workspace) -> None:
    image = sitk.ReadImage(str(sorted(correcting.images.glob("*_0000.nii.gz"))[0]))
    session = InteractiveSession(correcting.model("ProMISeTrainer_1epoch"), device="cpu")
    with pytest.raises(UserError, match="call set_image first"):
        session.add_point((1, 1, 1))
    session.set_image(sitk.GetArrayFromImage(image), image.GetSpacing(), label=1)
    session.add_point([size // 2 for size in image.GetSize()])
    with pytest.raises(UserError, match="takes no negative click"):
        session.add_point([size // 2 for size in image.GetSize()], positive=False)


def test_stock_and_own_prediction_correct_alike(correcting: Workspace, tmp_path: Path) -> None:
    """Clicks of both signs, a scribble and a mask; the other image has an object with one click."""
    names = sorted(path.name[: -len("_0000.nii.gz")] for path in correcting.images.glob("*_0000.nii.gz"))
    image = sitk.ReadImage(str(correcting.images / f"{names[0]}_0000.nii.gz"))
    x, y, z = (size // 2 for size in image.GetSize())
    before = sitk.Cast(image * 0, sitk.sitkUInt8)
    before[x - 2 : x + 3, y - 2 : y + 3, z - 2 : z + 3] = 1
    sitk.WriteImage(before, str(tmp_path / "before.nii.gz"))
    once = Prompt(label="organ", points=((x, y, z),))
    signed = once.with_click((x + 1, y, z), positive=False).with_click((x - 1, y, z), positive=True)
    drawn = Prompt("cancer", negative_points=((x, y, z),), scribbles=(((x, y, z), (x, y + 2, z)),))
    prompts = {names[0]: [signed, replace(drawn, previous_mask="before.nii.gz")], names[1]: [once]}
    save_prompt_file(tmp_path / "prompts.json", prompts, coordinates="voxel")
    model = ("-d", DATASET_ID, "-c", "3d_fullres", "-f", "0", "-tr", TRAINER, "-p", PLANS, "-device", "cpu")
    found = []
    for command, more in (("nnUNetv2_promise_predict", ["--instances"]), ("nnUNetv2_predict", ["-npp", "1"])):
        output = tmp_path / command
        correcting.run(
            command, "-i", correcting.images, "-o", output, *model, "--save_probabilities", *more,
            **{PROMPTS_VARIABLE: str(tmp_path / "prompts.json")},
        )  # fmt: skip
        found.append([np.load(output / f"{name}.npz")["probabilities"] for name in names])
    for own, stock in zip(*found, strict=True):
        np.testing.assert_allclose(stock, own, atol=5e-3)  # sums in float16; a correction changes more
    table = pd.read_csv(tmp_path / "nnUNetv2_promise_predict" / "objects.csv")
    assert list(table["label"]) == ["organ", "cancer", "organ"]
    assert table["expected_dice"].between(0, 1).all()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (
            Prompt("organ", box=(1, 1, 1, 4, 4, 4)),
            "has a box, but this model takes points, negative points, scribbles and",
        ),
        (Prompt("organ", negative_points=((4, 4, 4),)), "the first click is negative and there is no mask to correct"),
        (Prompt("organ", ((4, 4, 4),), previous_mask="moved.nii.gz"), "moved.nii.gz differ in origin"),
        (Prompt("organ", ((4, 4, 4),), previous_mask="absent.nii.gz"), "absent.nii.gz does not exist"),
    ],
)
def test_prompts_without_meaning_end_in_one_sentence(
    correcting: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt: Prompt, words: str
) -> None:
    image = sitk.ReadImage(str(min(correcting.images.glob("*_0000.nii.gz"))))
    image.SetOrigin((500.0, 0.0, 0.0))
    sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8), str(tmp_path / "moved.nii.gz"))
    names = sorted(path.name[: -len("_0000.nii.gz")] for path in correcting.images.glob("*_0000.nii.gz"))
    save_prompt_file(tmp_path / "p.json", {key: [prompt] for key in names}, coordinates="voxel")
    files = [
        "-i",
        correcting.images,
        "-o",
        tmp_path / "out",
        "-m",
        correcting.model(TRAINER),
        "--prompts",
        tmp_path / "p.json",
    ]
    assert main([*map(str, files), "-device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert words in error
    assert not (tmp_path / "out").exists()


def test_checkpoint_holds_the_parts_that_correct(correcting: Workspace) -> None:
    content = torch.load(correcting.model(TRAINER) / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert "network.corrections.seg_layers.point_signs" in content["network_weights"]


@pytest.mark.parametrize(("share", "singles"), [(0.0, (0, 40)), (0.5, (160, 240)), (1.0, (400, 400))])
def test_a_share_of_the_steps_starts_with_one_click_as_a_user_does(
    share: float, singles: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProMISeInteractiveTrainer, "single_click_share", share)
    trainer = ProMISeInteractiveTrainer.__new__(ProMISeInteractiveTrainer)
    torch.manual_seed(0)
    drawn = [trainer._draw_points() for _ in range(400)]
    assert singles[0] <= drawn.count((1, 0)) <= singles[1]
    if share < 1:
        assert {points for points, _ in drawn} == set(range(1, 11))
        assert {noise for _, noise in drawn} == set(range(11))
