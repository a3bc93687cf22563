"""Masks from arrays: who shares a window, and what is refused, with networks whose answer is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from test_prediction_geometry import DATASET, PATCH, RADIUS_MM, SPACING_ZYX_MM, BallNetwork, plans

import nnunetv2_promise
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference import segment as segment_module
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.prompts.schema import Prompt

SHAPE = (40, 48, 56)


class EncodingBall(torch.nn.Module):
    """``BallNetwork`` in two steps, counting how often it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.ball = BallNetwork()
        self.encodings = 0

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.encodings += 1
        return image

    def decode(self, encoded: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return self.ball(encoded, points)

    def forward(self, image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(image), points)


def model(network: torch.nn.Module | None = None, transpose: tuple[int, ...] = (0, 1, 2)) -> PromptedModel:
    manager = PlansManager(plans(list(transpose)))
    configuration = manager.get_configuration("3d_fullres")
    prompted = PromptedNetwork(network or EncodingBall(), patch_size=PATCH, heads=3)
    return PromptedModel(prompted, [], manager, configuration, DATASET)


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, SHAPE).astype(np.float32)


def ball(click_xyz: tuple[float, ...]) -> np.ndarray:
    """Distance of each voxel from a click, in mm."""
    index = np.indices(SHAPE).reshape(3, -1).T
    away = (index - np.array(click_xyz)[::-1]) * np.array(SPACING_ZYX_MM)
    return np.linalg.norm(away, axis=1).reshape(SHAPE)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_each_click_gets_its_mask_and_near_clicks_share_an_encoding(transpose: tuple[int, ...]) -> None:
    loaded = model(transpose=transpose)
    clicks = [(28, 24, 20), (30, 25, 21), (29, 23, 19)]
    prompts = [Prompt(label="tumour", points=(click,)) for click in clicks]
    masks = nnunetv2_promise.segment(loaded, image(), SPACING_ZYX_MM[::-1], prompts)
    if transpose == (0, 1, 2):
        assert loaded.network.network.encodings == 1
    for click, mask in zip(clicks, masks, strict=True):
        distance = ball(click)
        assert mask.shape == SHAPE
        assert mask[distance < RADIUS_MM - 1.8].all()
        assert not mask[distance > RADIUS_MM + 1.8].any()


class CorrectingBall(EncodingBall):
    """Adds a ball around each positive click to the mask so far, and takes one around each negative click away."""

    labels = 1

    def __init__(self) -> None:
        super().__init__()
        self.corrections = object()

    def decode_and_rate(
        self, image: torch.Tensor, coords: torch.Tensor, *, point_labels: torch.Tensor, **prompt: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logit = prompt.get("previous_logits", torch.full((1, 1, *image.shape[2:]), -30.0))[0, 0]
        for coord, positive in zip(coords[0], point_labels[0], strict=True):
            near = self.ball(image, coord[None, None])[0, 1]
            logit = torch.maximum(logit, near) if positive else torch.minimum(logit, -near)
        return torch.stack([torch.zeros_like(logit), logit])[None], torch.ones(1)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
def test_a_model_that_corrects_takes_clicks_in_their_order(
    transpose: tuple[int, ...], mirror_axes: tuple[int, ...]
) -> None:
    made = model(CorrectingBall(), transpose)
    made._mirror_axes = mirror_axes
    first, far, wrong, again = (14, 14, 14), (42, 34, 26), (18, 14, 14), (26, 14, 14)
    prompt = Prompt(label="tumour", points=(first, far, again), negative_points=(wrong,), order="++-+")
    (mask,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [prompt])
    # Signed distances: negative inside. The last click comes after the negative one, so its ball stays whole.
    wanted = np.maximum(np.minimum(ball(first), ball(far)) - RADIUS_MM, RADIUS_MM - ball(wrong))
    wanted = np.minimum(wanted, ball(again) - RADIUS_MM)
    assert mask[wanted < -1.8].all()
    assert not mask[wanted > 1.8].any()
    assert made.network.network.encodings < 20


class FaintBall(BallNetwork):
    """The same ball, of which nothing is certain."""

    def forward(self, image: torch.Tensor, points: torch.Tensor, **prompt: torch.Tensor) -> torch.Tensor:
        return super().forward(image, points, **prompt) / 20


@pytest.mark.parametrize("kind", [BallNetwork, FaintBall])
def test_corrected_mask_that_is_cut_gets_a_larger_window(kind: type[BallNetwork]) -> None:
    """The window around the first click ends behind voxel 35 of x; the second one's ball goes on to voxel 40."""
    made = model(CorrectingBall())
    made.network.network.ball = kind()
    first, second = (20, 24, 20), (32, 24, 20)
    (mask,) = nnunetv2_promise.segment(
        made, image(), SPACING_ZYX_MM[::-1], [Prompt(label="tumour", points=(first, second))]
    )
    distance = np.minimum(ball(first), ball(second))
    assert mask[distance < RADIUS_MM - 1.8].all()
    assert not mask[distance > RADIUS_MM + 1.8].any()


@pytest.mark.parametrize("kind", [BallNetwork, FaintBall])
def test_corrected_mask_that_is_not_cut_keeps_its_window_and_its_encoding(kind: type[BallNetwork]) -> None:
    made = model(CorrectingBall())
    made.network.network.ball = kind()
    clicks = ((28, 24, 20), (30, 24, 20))
    (mask,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [Prompt(label="tumour", points=clicks)])
    assert made.network.network.encodings == 1
    assert mask[np.minimum(*map(ball, clicks)) < RADIUS_MM - 1.8].all()


@pytest.mark.parametrize(("mirror_axes", "value"), [((), 1), ((1, 2), -1)])
def test_previous_mask_is_corrected_and_kept_elsewhere(mirror_axes: tuple[int, ...], value: int) -> None:
    """One part of the mask lies in the window around the click, the other one far away; what is not 0 is marked."""
    made = model(CorrectingBall())
    made._mirror_axes = mirror_axes
    before = np.zeros(SHAPE, bool)
    before[8:16, 8:16, 8:16] = True
    before[30:36, 36:44, 44:52] = True
    wrong = Prompt(label="tumour", negative_points=((8, 12, 12),))
    (mask,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [wrong], previous_masks=[before * value])
    expected = before & (ball((8, 12, 12)) > RADIUS_MM)
    assert expected.sum() < before.sum()
    away = np.abs(ball((8, 12, 12)) - RADIUS_MM) > 1.8
    np.testing.assert_array_equal(mask[away], expected[away])


def test_scribble_is_its_places_clicked_at_once() -> None:
    made = model(CorrectingBall())
    line = ((14, 14, 14), (14, 22, 14))
    drawn = Prompt(label="tumour", scribbles=(line,))
    (mask,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [drawn])
    distance = np.min([ball((14, y, 14)) for y in range(14, 23)], axis=0)
    assert mask[distance < RADIUS_MM - 1.8].all()
    assert not mask[distance > RADIUS_MM + 1.8].any()
    (plain,) = nnunetv2_promise.segment(model(), image(), SPACING_ZYX_MM[::-1], [drawn])
    np.testing.assert_array_equal(plain, mask)


def test_previous_masks_that_do_not_fit_are_one_sentence() -> None:
    click = Prompt(label=1, points=((5, 5, 5),))
    mask = np.zeros(SHAPE, bool)
    for made, prompt, masks, sentence in (
        (model(), click, [mask], "click 1 has a previous mask, but this model takes points and scribbles only"),
        (model(CorrectingBall()), click, [mask[1:]], "must share one grid"),
        (model(CorrectingBall()), click, [np.pad(mask, 1)], "must share one grid"),
        (model(CorrectingBall()), click, [], "one for each object"),
        (model(CorrectingBall()), click, [mask, mask], "has 2 entries and clicks 1; give one for each object"),
        (model(CorrectingBall()), Prompt(1, ((5, 5, 5),), previous_mask="m.nii.gz"), None, "as previous_masks="),
        (model(CorrectingBall()), Prompt(1, box=(1, 1, 1, 4, 4, 4)), None, "click 1 has a box"),
    ):
        with pytest.raises(UserError, match=sentence):
            nnunetv2_promise.segment(made, image(), (1, 1, 1), [prompt], previous_masks=masks)


def test_a_plain_model_refuses_clicks_that_correct() -> None:
    prompt = Prompt(label="tumour", points=((14, 14, 14),), negative_points=((18, 14, 14),))
    with pytest.raises(UserError, match="click 1 has negative points, but this model takes points and scribbles only"):
        nnunetv2_promise.segment(model(), image(), SPACING_ZYX_MM[::-1], [prompt])
    prompt = Prompt(label="tumour", points=(), negative_points=((18, 14, 14),))
    with pytest.raises(UserError, match="first click is negative"):
        nnunetv2_promise.segment(model(CorrectingBall()), image(), SPACING_ZYX_MM[::-1], [prompt])


class SizedBall(EncodingBall):
    """A ball of another radius, of which nothing is certain: the logit changes by 0.05 in a millimetre."""

    def __init__(self, radius_mm: float) -> None:
        super().__init__()
        self.larger = torch.tensor([0.0, radius_mm - RADIUS_MM]).view(1, 2, 1, 1, 1)

    def decode(self, encoded: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return (super().decode(encoded, points) + self.larger) / 20


@pytest.mark.parametrize(("axis", "near", "far"), [(0, 6, 7), (1, 7, 8), (2, 8, 9)])
def test_clicks_within_a_quarter_of_the_patch_share_its_encoding(axis: int, near: int, far: int) -> None:
    """The patch has 24 x 28 x 32 voxels; balls of 5 mm end well within it."""
    for apart, encodings in ((near, 1), (-near, 1), (far, 2), (-far, 2)):
        loaded = model(SizedBall(5.0))
        clicks = np.array([[20, 24, 28], [20, 24, 28]])
        clicks[1, axis] += apart
        prompts = [Prompt(label="tumour", points=(tuple(map(float, click[::-1])),)) for click in clicks]
        masks = nnunetv2_promise.segment(loaded, image(), SPACING_ZYX_MM[::-1], prompts)
        assert loaded.network.network.encodings == encodings
        for click, mask in zip(clicks, masks, strict=True):
            assert np.argwhere(mask).mean(0) == pytest.approx(click)


@pytest.mark.parametrize(
    ("axis", "edge_mm", "near", "far"), [(2, 1.0, (22, 37), (21, 38)), (1, 1.15, (18, 33), (17, 34))]
)
def test_clicks_share_an_encoding_around_the_middle_of_the_first_objects_clicks(
    axis: int, edge_mm: float, near: tuple[int, int], far: tuple[int, int]
) -> None:
    """The middle lies between two voxels; a quarter of the patch has 8 voxels, or 7.6 where they are shorter."""
    spacing = np.array(SPACING_ZYX_MM)
    spacing[axis] = edge_mm
    for place, encodings in ((near[0], 1), (near[1], 1), (far[0], 2), (far[1], 2)):
        loaded = model(SizedBall(5.0))
        clicks = np.array([[20, 24, 28]] * 3)
        clicks[1, axis] += 3
        clicks[2, axis] = place
        first, second, other = map(tuple, clicks[:, ::-1].tolist())
        prompts = [Prompt(label="tumour", points=(first, second)), Prompt(label="tumour", points=(other,))]
        masks = nnunetv2_promise.segment(loaded, image(), spacing[::-1], prompts)
        assert loaded.network.network.encodings == encodings
        assert np.argwhere(masks[1]).mean(0) == pytest.approx(clicks[2], abs=0.5)  # voxels are resampled


def test_single_clicks_share_an_encoding_of_a_model_that_corrects_as_well() -> None:
    """The third click lies too far from the first."""
    loaded = model(CorrectingBall())
    places = (28, 30, 12)
    prompts = [Prompt(label="tumour", points=((x, 24, 20),)) for x in places]
    masks = nnunetv2_promise.segment(loaded, image(), SPACING_ZYX_MM[::-1], prompts)
    assert loaded.network.network.encodings == 2
    for x, mask in zip(places, masks, strict=True):
        assert np.argwhere(mask).mean(0) == pytest.approx([20, 24, x])


def test_mask_that_a_shared_window_cuts_gets_a_window_of_its_own() -> None:
    """The window around the first click ends behind voxel 35 of x; the second one's ball goes on to voxel 38."""
    clicks = [(20, 24, 20), (27, 24, 20)]
    prompts = [Prompt(label="tumour", points=(click,)) for click in clicks]
    masks = nnunetv2_promise.segment(model(SizedBall(12.0)), image(), SPACING_ZYX_MM[::-1], prompts)
    for click, mask in zip(clicks, masks, strict=True):
        assert mask[ball(click) < 12 - 1.8].all()
        assert not mask[ball(click) > 12 + 1.8].any()


def test_far_clicks_on_one_object_get_windows_of_their_own() -> None:
    """The window is as long as the patch, 32 voxels of x; the other object's click lies near one of them."""
    loaded = model()
    first, far, near = (10, 10, 10), (46, 38, 30), (11, 10, 10)
    prompts = [Prompt(label="tumour", points=(first, far)), Prompt(label="tumour", points=(near,))]
    masks = nnunetv2_promise.segment(loaded, image(), SPACING_ZYX_MM[::-1], prompts)
    assert loaded.network.network.encodings == 3
    for mask, distance in zip(masks, (np.minimum(ball(first), ball(far)), ball(near)), strict=True):
        assert mask[distance < RADIUS_MM - 1.8].all()
        assert not mask[distance > RADIUS_MM + 1.8].any()


@pytest.mark.parametrize("corrected", [0, 1])
def test_clicks_that_correct_do_not_share_a_window(corrected: int) -> None:
    right, wrong = (16, 14, 14), (8, 14, 14)
    prompts = [Prompt(label="tumour", points=(right,)), Prompt(label="tumour", points=(right,))]
    prompts[corrected] = Prompt(label="tumour", points=(right,), negative_points=(wrong,))
    masks = nnunetv2_promise.segment(model(CorrectingBall()), image(), SPACING_ZYX_MM[::-1], prompts)
    for number, mask in enumerate(masks):
        outside = ball(right) - RADIUS_MM
        if number == corrected:
            outside = np.maximum(outside, RADIUS_MM - ball(wrong))
        assert mask[outside < -1.8].all()
        assert not mask[outside > 1.8].any()


def test_places_alone_are_clicks_where_there_is_one_label() -> None:
    made = model()
    made.dataset_json = DATASET | {"labels": {"background": 0, "tumour": 1}}
    place = (14, 14, 14)
    (short,) = nnunetv2_promise.segment(made, image()[None], SPACING_ZYX_MM[::-1], [place])
    (long,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [Prompt(label="tumour", points=(place,))])
    assert short.any()
    np.testing.assert_array_equal(short, long)


class OnlyCysts(EncodingBall):
    """Of two labels it answers to the second one only."""

    labels = 2

    def forward(self, image: torch.Tensor, points: torch.Tensor, *, label_index: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(image), points) * (label_index == 1)


@pytest.mark.parametrize(("label", "found"), [("tumour", False), (1, False), ("cyst", True), (2, True)])
def test_the_network_is_told_the_label_of_a_click(label: str | int, found: bool) -> None:
    click = Prompt(label=label, points=((28, 24, 20),))
    (mask,) = nnunetv2_promise.segment(model(OnlyCysts()), image(), SPACING_ZYX_MM[::-1], [click])
    assert mask.any() == found


def test_a_model_is_loaded_from_its_first_fold_unless_told_otherwise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fold_0/checkpoint_final\.pth does not exist"):
        nnunetv2_promise.load_model(tmp_path)
    with pytest.raises(UserError, match=r"fold_3/checkpoint_final\.pth does not exist"):
        nnunetv2_promise.load_model(str(tmp_path), folds=[3])
    with pytest.raises(UserError, match=r"fold_0/checkpoint_final\.pth does not exist"):
        nnunetv2_promise.segment(tmp_path, image(), SPACING_ZYX_MM[::-1], [(5, 5, 5)])


@pytest.mark.parametrize(
    ("asked", "gpu", "device"),
    [(None, True, "cuda"), (None, False, "cpu"), ("cpu", True, "cpu"), ("mps", False, "mps")],
)
def test_a_model_goes_to_the_device_that_was_asked_for_or_to_a_gpu(
    asked: str | None, gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SimpleNamespace(check_checkpoints=lambda: None)
    monkeypatch.setattr(segment_module, "open_model_folder", lambda *_, **__: folder)
    monkeypatch.setattr(PromptedModel, "load", lambda *loaded, use_mirroring: (*loaded, use_mirroring))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    loaded: Any = nnunetv2_promise.load_model("folder", device=asked)
    assert loaded == (folder, torch.device(device), True)
    loaded = nnunetv2_promise.load_model("folder", device=asked, use_mirroring=False)
    assert loaded == (folder, torch.device(device), False)


def test_wrong_arrays_and_clicks_are_one_sentence() -> None:
    loaded = model()
    click = Prompt(label=1, points=((5, 5, 5),))
    for arguments, sentence in (
        ((image()[None].repeat(2, 0), (1, 1, 1), [click]), "with 1 channel"),
        ((image()[None][:0], (1, 1, 1), [click]), "with 1 channel"),
        ((image()[None, None], (1, 1, 1), [click]), r"shape \(1, 1, 40, 48, 56\); .* with 1 channel"),
        ((np.ones((1, 30)), (1, 1, 1), [click]), r"shape \(1, 30\); .* with 1 channel"),
        ((image() * np.nan, (1, 1, 1), [click]), "NaN"),
        ((image(), (1, 1, 0), [click]), "three positive numbers"),
        ((image(), (1, 1, 1, 1), [click]), "three positive numbers"),
        ((image(), (1, 1), [click]), "three positive numbers"),
        ((image(), (1, -1, 1), [click]), "three positive numbers"),
        ((image(), (1, 1, float("inf")), [click]), "three positive numbers"),
        ((image(), (1, 1, 1), [(5, 5, 5)]), "several labels"),
        ((image(), (1, 1, 1), [Prompt(label="liver", points=((5, 5, 5),))]), "is not a foreground label"),
        ((image(), (1, 1, 1), [Prompt(label=1, points=((5, 5, 40),))]), r"outside of the image of \(56, 48, 40\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            nnunetv2_promise.segment(loaded, *arguments)


def test_importing_the_package_stays_light() -> None:
    code = "import sys, nnunetv2_promise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
