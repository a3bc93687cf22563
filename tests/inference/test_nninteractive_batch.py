"""A prompt file through nnInteractive's stock engine: what it is asked, what is written, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from clickable_workspace import CLICKABLE_PLANS, TRAINER, Clickable
from commands import DATASET_ID

from nnunetv2_promise import InteractiveSession
from nnunetv2_promise.cli.predict import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.engine_prompts import ClickedObject, clicked_objects, kinds_taken, label_heads
from nnunetv2_promise.inference.nninteractive_batch import draw_scribble, label_map, segment_objects
from nnunetv2_promise.network_architectures import InteractiveUNet
from nnunetv2_promise.planning.nninteractive_folder import NNInteractiveFolder, read_nninteractive_folder
from nnunetv2_promise.prompts.locate import LocatedPrompt
from nnunetv2_promise.prompts.schema import Prompt, PromptFile, save_prompt_file


class _Engine:
    """Records what it is asked; a click marks its voxel."""

    def __init__(self, network: object = None) -> None:
        self.calls: list[tuple] = []
        self.network = network

    def set_image(self, image):
        self.shape = image.shape[1:]

    def set_target_buffer(self, buffer):
        self.buffer = buffer

    def reset_interactions(self):
        self.calls.append(("reset",))
        self.buffer[:] = 0

    def add_initial_seg_interaction(self, mask):
        self.calls.append(("mask", int(mask.sum())))

    def add_bbox_interaction(self, box, positive):
        self.calls.append(("box", box, positive))

    def add_scribble_interaction(self, image, positive):
        self.calls.append(("scribble", int(image.sum()), positive))

    def add_point_interaction(self, point, positive):
        self.calls.append(("point", point, positive))
        self.buffer[point] = positive


def test_all_prompts_of_an_object_are_applied_in_order(tmp_path: Path):
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / "m.nii.gz"))
    full = LocatedPrompt(
        label=None,
        index_zyx=np.array([[1.0, 2, 3], [3, 3, 3]]),
        negative_index_zyx=np.array([[0.4, 0, 0]]),
        positive=np.array([True, False, True]),
        box_zyx=np.array([[0.0, 0, 1], [2, 2, 3]]),
        scribbles_zyx=(np.array([[4.0, 4, 4]]),),
        previous_mask=tmp_path / "m.nii.gz",
    )
    plain = LocatedPrompt(label=None, index_zyx=np.array([[5.0, 5, 5]]))
    engine = _Engine()
    objects = [ClickedObject(1, full), ClickedObject(2, plain)]
    masks = segment_objects(engine, np.ones((1, 6, 6, 6), np.float32), objects)
    assert engine.calls == [
        ("reset",),
        ("mask", 8),
        ("box", [[0, 3], [0, 3], [1, 4]], True),
        ("scribble", 1, True),
        ("point", (1, 2, 3), True),
        ("point", (0, 0, 0), False),
        ("point", (3, 3, 3), True),
        ("reset",),
        ("point", (5, 5, 5), True),
    ]
    assert [int(one.sum()) for one in masks] == [2, 1]


class _UNet(InteractiveUNet):
    """Records which label it is asked for."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.seen: list[int | None] = []

    def ask_for(self, label: int | None) -> None:
        self.seen.append(label)


def test_the_network_is_told_each_object_s_label():
    plain = LocatedPrompt(label=None, index_zyx=np.array([[5.0, 5, 5]]))
    engine = _Engine(_UNet())
    objects = [ClickedObject(7, plain, head=1), ClickedObject(9, plain), ClickedObject(3, plain, head=0)]
    segment_objects(engine, np.ones((1, 6, 6, 6), np.float32), objects)
    assert engine.network.seen == [1, None, 0]


@pytest.mark.parametrize(
    ("own", "named", "expected"),
    [
        ({"background": 0, "organ": 1, "tumour": 2}, {"background": 0, "organ": 1, "tumour": 2}, {1: 0, 2: 1}),
        ({"background": 0, "tumour": 2, "organ": 1, "ignore": 3}, {"tumour": 5, "vessel": 1}, {5: 1}),
        ({"background": 0, "whole": (1, 2), "core": 2}, {"whole": 1, "core": 2}, {}),
        ({"background": 0, "object": 1}, {"background": 0, "tumour": 1}, {}),
    ],
    ids=["the same labels", "other values", "regions", "a model for any object"],
)
def test_labels_are_those_of_the_model_by_name(own: dict, named: dict, expected: dict):
    folder = NNInteractiveFolder(Path("m"), {}, {"labels": own}, {}, Path("c"), "3d_fullres", {})
    assert label_heads(folder, named) == expected


def test_prompts_name_their_label_to_the_model(clickable: Clickable):
    folder = read_nninteractive_folder(clickable.model)
    image = min(clickable.workspace.images.glob("*_0000.nii.gz"))
    prompts = tuple(Prompt(label, points=((6, 6, 4),)) for label in ("cancer", 1, 9))
    objects = clicked_objects(PromptFile(Path("p.json"), "voxel", {"a": prompts}), "a", [image], folder)
    assert [(item.label, item.head) for item in objects] == [(2, 1), (1, 0), (9, None)]


def test_a_voxel_of_several_objects_belongs_to_the_first():
    nothing = LocatedPrompt(label=None, index_zyx=np.empty((0, 3)))
    first, second = np.zeros((2, 1, 1, 3), dtype=bool)
    first[..., :2], second[..., 1:] = True, True
    labels = label_map([first, second], [ClickedObject(2, nothing), ClickedObject(1, nothing)], (1, 1, 3))
    assert labels.ravel().tolist() == [2, 2, 1]


def test_a_scribble_is_a_line_three_voxels_wide():
    canvas = draw_scribble(np.array([[4.0, 4, 1], [4, 4, 6]]), (9, 9, 9))
    assert canvas.sum() == 3 * 3 * 8
    assert canvas[3:6, 3:6, :8].all()


@pytest.mark.parametrize(
    ("info", "kinds"),
    [
        ({}, ["points", "negative_points", "box", "scribbles", "previous_mask"]),
        (
            {
                "supported_interactions": dict.fromkeys(("scribble", "bbox2d", "bbox3d"), False),
                "supports_initial_label": False,
            },
            ["points", "negative_points"],
        ),
    ],
)
def test_a_missing_capability_counts_as_one_that_is_there(info: dict, kinds: list[str]):
    assert kinds_taken(info) == kinds


def test_a_deep_box_is_refused_by_a_model_of_flat_ones(clickable: Clickable):
    """As nnInteractive's published model is one."""
    folder = read_nninteractive_folder(clickable.model)
    folder.inference_info["supported_interactions"] = {"bbox2d": True, "bbox3d": False}
    image = min(clickable.workspace.images.glob("*_0000.nii.gz"))
    for box, deep in (((1, 1, 1, 4, 4, 4), True), ((1, 1, 2, 4, 4, 2.3), False)):
        file = PromptFile(Path("p.json"), "voxel", {"a": (Prompt(1, box=box),)})
        if deep:
            with pytest.raises(UserError, match=r"case 'a', object 1, field 'box': .* in one slice only"):
                clicked_objects(file, "a", [image], folder)
        else:
            assert len(clicked_objects(file, "a", [image], folder)) == 1


@pytest.fixture
def clicks(clickable: Clickable, tmp_path: Path) -> Path:
    """Two objects in each test image, the first one corrected by a negative click."""
    objects = (
        Prompt(label=1, points=((6, 6, 4),), negative_points=((20, 20, 15),)),
        Prompt(label="cancer", points=((14, 12, 8),)),
    )
    cases = {path.name[: -len("_0000.nii.gz")]: objects for path in sorted(clickable.workspace.images.glob("*_0000*"))}
    save_prompt_file(tmp_path / "clicks.json", cases, coordinates="voxel")
    return tmp_path / "clicks.json"


def _command(clickable: Clickable, clicks: Path, output: Path, model: Path | list[str] | None = None) -> list[str]:
    """``model`` is a folder, or the options that name one."""
    named = model if isinstance(model, list) else ["-m", str(model or clickable.model)]
    files = ["-i", clickable.workspace.images, "-o", output, "--prompts", clicks]
    return [*map(str, files), *named, "-device", "cpu"]


def test_predict_runs_a_folder_through_the_engine(
    clickable: Clickable, clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "masks"
    assert main([*_command(clickable, clicks, output), "--instances"]) == 0
    table = pd.read_csv(output / "objects.csv")
    assert list(table["label"]) == ["organ", "cancer"] * 2
    assert table[["mean_probability", "expected_dice"]].isna().all(axis=None)  # the engine gives masks only
    for row in table.itertuples():
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(output / row.file))) > 0
        x, y, z = ((6, 6, 4), (14, 12, 8))[row.object - 1]
        assert row.holds_click == mask[z, y, x]
        assert (row.volume_ml > 0) == mask.any()
    for image in clickable.workspace.images.glob("*_0000.nii.gz"):
        case = image.name[: -len("_0000.nii.gz")]
        mask, scan = sitk.ReadImage(str(output / f"{case}.nii.gz")), sitk.ReadImage(str(image))
        assert mask.GetSpacing() == pytest.approx(scan.GetSpacing())
        assert mask.GetSize() == scan.GetSize()
        assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1, 2}
    monkeypatch.setenv("nnUNet_results", str(clickable.workspace.results))
    named = ["-d", DATASET_ID, "-tr", TRAINER, "-p", CLICKABLE_PLANS]
    assert main([*_command(clickable, clicks, output, named), "--continue_prediction"]) == 0


def test_sessions_of_promise_name_who_drives_a_folder_of_nninteractive(clickable: Clickable):
    with pytest.raises(UserError, match="for nnInteractive's engine; use nnUNetv2_promise_predict"):
        InteractiveSession(clickable.model, device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "plans.json").unlink(), "plans.json does not exist"),
        (lambda folder: (folder / "fold_0" / "checkpoint_final.pth").unlink(), "checkpoint_final.pth does not exist"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "dataset.json is not valid JSON"),
    ],
)
def test_a_folder_with_a_missing_file_ends_in_one_sentence(
    clickable: Clickable, clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, words: str
):
    folder = tmp_path / "model"
    shutil.copytree(clickable.model, folder, ignore=shutil.ignore_patterns("validation", "*.png"))
    change(folder)
    assert main(_command(clickable, clicks, tmp_path / "masks", folder)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"label": 1, "box": [1, 1, 1, 4, 4, 4]}, "has a box"),
        ({"label": "liver", "points": [[1, 1, 1]]}, "label 'liver' is unknown"),
        ({"label": 1, "points": [[99, 1, 1]]}, "lies outside of the image"),
    ],
)
def test_wrong_prompts_end_in_one_sentence(
    clickable: Clickable, clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt: dict, words: str
):
    content = json.loads(clicks.read_text()) | {"version": 2}
    first = next(iter(content["cases"]))
    content["cases"][first] = [prompt]
    clicks.write_text(json.dumps(content))
    assert main(_command(clickable, clicks, tmp_path / "masks")) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"), [(["-f", "0", "1"], "runs one fold"), (["--save_probabilities"], "gives masks only")]
)
def test_what_the_engine_cannot_do_ends_in_one_sentence(
    clickable: Clickable, clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options, words: str
):
    assert main([*_command(clickable, clicks, tmp_path / "masks"), *options]) == 2
    assert words in capsys.readouterr().err
