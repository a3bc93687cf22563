"""What is said of every object of a case, its label map and its probabilities, with networks whose answer is known."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from test_prediction_geometry import SPACING_ZYX_MM
from test_segment import SHAPE, CorrectingBall, EncodingBall, image, model

from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.case_segmentation import segment_case, segment_objects

PROPERTIES = {"spacing": list(SPACING_ZYX_MM)}


def voxel_prompt(zyx: tuple[float, ...], label_head: int = 1) -> VoxelPrompt:
    return VoxelPrompt(label_head=label_head, points_zyx=np.array([zyx], float), name="Case 'a', object 1")


def test_click_in_the_zeros_around_the_scan_gives_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    padded = np.zeros((1, *SHAPE), np.float32)
    padded[0, :10, :12, :14] = 100
    with caplog.at_level(logging.WARNING):
        masks = segment_case(model(), padded, PROPERTIES, [voxel_prompt((30, 30, 30)), voxel_prompt((5, 5, 5))])
    nothing, found = masks.objects
    assert nothing.found is None
    assert (nothing.holds_click, nothing.touches_edge) == (False, False)
    assert np.isnan(nothing.mean_probability)
    assert found.holds_click
    assert caplog.records[0].getMessage().startswith("Case 'a', object 1: its clicks lie in")
    inside, beside = voxel_prompt((5, 5, 5)), voxel_prompt((11, 5, 5))  # near enough to share a window
    for prompts in ([inside, beside], [beside, inside]):
        found = segment_objects(model(), padded, PROPERTIES, prompts)
        assert [item.found is None for item in found] == [prompt is beside for prompt in prompts]


@pytest.mark.parametrize("click", [(0, 0, 0), (39, 47, 55), (20, 24, 28)])
def test_mask_holds_a_click_at_the_scans_end(click: tuple[int, ...]) -> None:
    (found,) = segment_case(model(), image()[None], PROPERTIES, [voxel_prompt(click)]).objects
    assert found.holds_click


@pytest.mark.parametrize("z", [19, 26, 28])
def test_no_mask_holds_a_click_in_the_zeros_around_the_scan(z: int) -> None:
    """The mask reaches from the first plane of the content to its last one; one of two clicks lies beside it."""
    padded = np.zeros((1, *SHAPE), np.float32)
    padded[0, 20:26, 10:40, 10:40] = 100
    both = VoxelPrompt(1, np.array([[23.0, 24, 24], [z, 24, 24]]))
    (answer,) = segment_case(model(), padded, PROPERTIES, [both]).objects
    assert answer.found is not None
    assert answer.found.bbox_zyx[0] == (20, 26)
    assert not answer.holds_click


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_probabilities_lie_on_the_grid_of_the_labels_and_only_where_they_are_wanted(
    transpose: tuple[int, ...],
) -> None:
    prompts = [voxel_prompt((12, 14, 16), 2), voxel_prompt((26, 30, 40), 1)]
    masks = segment_case(model(transpose=transpose), image()[None], PROPERTIES, prompts, keep_probabilities=True)
    assert masks.probabilities.shape == (3, *SHAPE)
    assert (masks.labels[12, 14, 16], masks.labels[26, 30, 40]) == (2, 1)
    np.testing.assert_array_equal(masks.probabilities.argmax(0), masks.labels)
    np.testing.assert_allclose(masks.probabilities.sum(0), 1, rtol=1e-5)
    assert segment_case(model(), image()[None], PROPERTIES, prompts[:1]).probabilities is None


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
@pytest.mark.parametrize("clicks", [[[20, 24, 28]], [[20, 24, 28], [20, 24, 30]]])
def test_cut_mask_grows_to_the_scan_and_is_said_where_it_cannot(
    clicks: list[list[int]], intensity: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The logit is a tenth of the intensity: certain, or hardly more than even."""
    scan = np.full((1, *SHAPE), -intensity, np.float32)
    scan[0, 14:26, 18:30, 4:52] = intensity  # longer than a window, whose length is 32
    masks = segment_case(model(Half()), scan, PROPERTIES, [VoxelPrompt(1, np.array(clicks, float))])
    assert np.array_equal(masks.labels, scan[0] > 0)
    assert not masks.objects[0].touches_edge
    assert not caplog.text
    long = np.full((1, 40, 48, 400), 100, np.float32)
    with caplog.at_level(logging.WARNING):
        masks = segment_case(model(Everything()), long, PROPERTIES, [voxel_prompt((20, 24, 200))])
    assert masks.objects[0].touches_edge
    assert "may be cut off" in caplog.text


@pytest.mark.parametrize("intensity", [100, 2])
def test_a_window_grows_twice_by_half(intensity: float) -> None:
    """The scan is as thick as a window, so that nothing but its ends along x can cut: 32, 48 and 72 voxels of 100."""
    bar = np.full((1, 24, 28, 200), -intensity, np.float32)
    bar[..., 50:150] = intensity
    masks = segment_case(model(Half()), bar, PROPERTIES, [voxel_prompt((12, 14, 100))])
    expected = np.zeros(bar.shape[1:])
    expected[..., 100 - 36 : 100 + 36] = 1
    np.testing.assert_array_equal(masks.labels, expected)
    assert masks.objects[0].touches_edge


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


def test_expected_dice_is_that_of_models_that_correct() -> None:
    one, two = voxel_prompt((20, 24, 28)), VoxelPrompt(1, np.array([[20.0, 24, 28], [21, 24, 28]]))
    found = segment_case(model(CorrectingBall()), image()[None], PROPERTIES, [one, two]).objects
    assert [item.expected_dice for item in found] == [1, 1]
    assert np.isnan(segment_case(model(), image()[None], PROPERTIES, [one]).objects[0].expected_dice)
