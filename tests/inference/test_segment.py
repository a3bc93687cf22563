"""Masks from arrays, and what is said of each object, with networks whose answer is known."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from test_prediction_geometry import DATASET, PATCH, RADIUS_MM, SPACING_ZYX_MM, BallNetwork, plans

import nnunetv2_promise
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.case_segmentation import segment_case, segment_objects
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


@pytest.mark.parametrize("mirror_axes", [(), (1, 2)])
def test_previous_mask_is_corrected_and_kept_elsewhere(mirror_axes: tuple[int, ...]) -> None:
    """One part of the mask lies in the window around the click, the other one far away from it."""
    made = model(CorrectingBall())
    made._mirror_axes = mirror_axes
    before = np.zeros(SHAPE, bool)
    before[8:16, 8:16, 8:16] = True
    before[30:36, 36:44, 44:52] = True
    wrong = Prompt(label="tumour", negative_points=((8, 12, 12),))
    (mask,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [wrong], previous_masks=[before])
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


def test_expected_dice_is_that_of_models_that_correct() -> None:
    one, two = voxel_prompt((20, 24, 28)), VoxelPrompt(1, np.array([[20.0, 24, 28], [21, 24, 28]]))
    found = segment_case(model(CorrectingBall()), image()[None], PROPERTIES, [one, two]).objects
    assert [item.expected_dice for item in found] == [1, 1]
    assert np.isnan(segment_case(model(), image()[None], PROPERTIES, [one]).objects[0].expected_dice)


def test_previous_masks_that_do_not_fit_are_one_sentence() -> None:
    click = Prompt(label=1, points=((5, 5, 5),))
    mask = np.zeros(SHAPE, bool)
    for made, prompt, masks, sentence in (
        (model(), click, [mask], "click 1 has a previous mask, but this model takes points and scribbles only"),
        (model(CorrectingBall()), click, [mask[1:]], "must share one grid"),
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
    (short,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [place])
    (long,) = nnunetv2_promise.segment(made, image(), SPACING_ZYX_MM[::-1], [Prompt(label="tumour", points=(place,))])
    assert short.any()
    np.testing.assert_array_equal(short, long)


def test_wrong_arrays_and_clicks_are_one_sentence() -> None:
    loaded = model()
    click = Prompt(label=1, points=((5, 5, 5),))
    for arguments, sentence in (
        ((image()[None].repeat(2, 0), (1, 1, 1), [click]), "with 1 channel"),
        ((image()[None][:0], (1, 1, 1), [click]), "with 1 channel"),
        ((image() * np.nan, (1, 1, 1), [click]), "NaN"),
        ((image(), (1, 1, 0), [click]), "three positive numbers"),
        ((image(), (1, 1, 1, 1), [click]), "three positive numbers"),
        ((image(), (1, 1, 1), [(5, 5, 5)]), "several labels"),
        ((image(), (1, 1, 1), [Prompt(label="liver", points=((5, 5, 5),))]), "is not a foreground label"),
        ((image(), (1, 1, 1), [Prompt(label=1, points=((5, 5, 40),))]), r"outside of the image of \(56, 48, 40\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            nnunetv2_promise.segment(loaded, *arguments)


def test_importing_the_package_stays_light() -> None:
    code = "import sys, nnunetv2_promise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def voxel_prompt(zyx: tuple[float, ...], label_head: int = 1) -> VoxelPrompt:
    return VoxelPrompt(label_head=label_head, points_zyx=np.array([zyx], float), name="Case 'a', object 1")


PROPERTIES = {"spacing": list(SPACING_ZYX_MM)}


def test_click_in_the_zeros_around_the_scan_gives_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    padded = np.zeros((1, *SHAPE), np.float32)
    padded[0, :10, :12, :14] = 100
    with caplog.at_level(logging.WARNING):
        masks = segment_case(model(), padded, PROPERTIES, [voxel_prompt((30, 30, 30)), voxel_prompt((5, 5, 5))])
    assert masks.objects[0].found is None
    assert masks.objects[1].holds_click
    assert caplog.records[0].getMessage().startswith("Case 'a', object 1: its clicks lie in")
    inside, beside = voxel_prompt((5, 5, 5)), voxel_prompt((11, 5, 5))  # near enough to share a window
    for prompts in ([inside, beside], [beside, inside]):
        found = segment_objects(model(), padded, PROPERTIES, prompts)
        assert [item.found is None for item in found] == [prompt is beside for prompt in prompts]


class Corner(EncodingBall):
    """Always answers with the patch's corner."""

    def decode(self, encoded: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(1, 2, *encoded.shape[2:])
        logits[:, 1] = -5
        logits[:, 1, 1:3, 1:3, 1:3] = 5
        return logits


def test_mask_that_misses_its_click_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        masks = segment_case(model(Corner()), image()[None], PROPERTIES, [voxel_prompt((20, 24, 28))])
    assert not masks.objects[0].holds_click
    assert masks.objects[0].found is not None
    assert "does not hold its click" in caplog.text


class Everything(EncodingBall):
    """Everything is foreground."""

    def decode(self, encoded: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        ones = torch.ones(1, 1, *encoded.shape[2:])
        return torch.cat([-ones, ones], 1)


@pytest.mark.parametrize("intensity", [100, 2])
def test_cut_mask_grows_to_the_scan_and_is_said_where_it_cannot(
    intensity: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The logit is a tenth of the intensity: certain, or hardly more than even."""
    scan = np.full((1, *SHAPE), -intensity, np.float32)
    scan[0, 14:26, 18:30, 4:52] = intensity  # longer than a window, whose length is 32
    masks = segment_case(model(Half()), scan, PROPERTIES, [voxel_prompt((20, 24, 28))])
    assert np.array_equal(masks.labels, scan[0] > 0)
    assert not masks.objects[0].touches_edge
    assert not caplog.text
    long = np.full((1, 40, 48, 400), 100, np.float32)
    with caplog.at_level(logging.WARNING):
        masks = segment_case(model(Everything()), long, PROPERTIES, [voxel_prompt((20, 24, 200))])
    assert masks.objects[0].touches_edge
    assert "may be cut off" in caplog.text


def test_two_overlapping_objects_keep_both_masks() -> None:
    clicks = [voxel_prompt((20, 24, 28), 1), voxel_prompt((20, 24, 28), 2)]
    for prompts in (clicks, clicks[::-1]):
        masks = segment_case(model(), image()[None], PROPERTIES, prompts)
        first, second = (item.found for item in masks.objects)
        assert np.array_equal(first.mask, second.mask)
        assert set(np.unique(masks.labels)) == {0, 1}  # equally probable: the first label


class Half(torch.nn.Module):
    """Foreground where the weight says so; a negative weight sees its first patch only."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        foreground = image[:, :1] * self.weight.clamp(min=0) * 10
        if self.weight < 0:
            foreground = foreground - 1
            foreground[:, :, 2:-2, 2:-2, 2:-2] = 1
        return torch.cat([torch.zeros_like(foreground), foreground], 1)


def test_probability_is_the_mean_over_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    """The logit is a tenth of the intensity: 2 in one half of the object, 4 in the other."""
    scan = np.full((1, *SHAPE), -100, np.float32)
    (nothing,) = segment_case(model(Half()), scan, PROPERTIES, [voxel_prompt((20, 24, 28))]).objects
    assert nothing.found is None
    assert np.isnan(nothing.mean_probability)
    assert "its mask is empty" in caplog.text
    scan[0, 18:22, 22:26, 26:28], scan[0, 18:22, 22:26, 28:30] = 20, 40
    (found,) = segment_case(model(Half()), scan, PROPERTIES, [voxel_prompt((20, 24, 28))]).objects
    assert found.mean_probability == pytest.approx((1 / (1 + np.exp(-2)) + 1 / (1 + np.exp(-4))) / 2)
