from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_promise.training.error_clicks import ErrorClicks, click_probabilities, draw_error_click, error_clicks


def probabilities_on(error: np.ndarray, voxel: tuple[int, ...], density: str) -> np.ndarray:
    """On the grid of the errors."""
    box, probabilities = click_probabilities(error, voxel, density)
    weights = np.zeros(error.shape)
    weights[box] = probabilities
    return weights


def test_click_probabilities_uniform_covers_the_region_of_the_voxel_alone() -> None:
    error = np.zeros((3, 4, 8), bool)
    error[0, 0, 0] = error[1, 1, 1] = True  # they touch by a corner: one region
    error[2, 3, 6] = True
    weights = probabilities_on(error, (1, 1, 1), "uniform")
    assert weights[0, 0, 0] == weights[1, 1, 1] == 0.5
    assert weights.sum() == 1
    assert probabilities_on(np.ones((3, 3, 3), bool), (0, 0, 0), "uniform") == pytest.approx(1 / 27)  # however deep


def test_click_probabilities_central_follows_the_eighth_power_of_depth() -> None:
    """A row of 5 x 5 x 5 voxels: depths 1 (98 voxels), 2 (26) and 3 (1)."""
    error = np.zeros((7, 7, 7), bool)
    error[1:6, 1:6, 1:6] = True
    weights = probabilities_on(error, (1, 1, 1), "central")
    total = 98 + 26 * 2**8 + 3**8
    assert weights[3, 3, 3] == pytest.approx(3**8 / total)
    assert weights[2, 3, 3] == pytest.approx(2**8 / total)
    assert weights[1, 1, 1] == pytest.approx(1 / total)
    assert weights[0].max() == 0


def test_click_probabilities_count_the_border_of_the_patch_as_outside() -> None:
    weights = probabilities_on(np.ones((3, 3, 3), bool), (0, 0, 0), "central")
    assert weights.argmax() == 13
    assert weights[1, 1, 1] == pytest.approx(2**8 / (26 + 2**8))


@pytest.mark.parametrize("density", ["central", "uniform"])
def test_draw_error_click_chooses_regions_by_their_size(density: str) -> None:
    error = np.zeros((1, 3, 30), bool)
    error[0, 0, :4] = True
    error[0, 2, 10:22] = True
    rng = np.random.default_rng(0)
    clicks = [draw_error_click(error, rng, density=density) for _ in range(2000)]
    large = sum(y == 2 for _, y, _ in clicks)
    assert large / 2000 == pytest.approx(12 / 16, abs=0.03)  # three standard deviations
    assert all(error[click] for click in clicks)


def test_draw_error_click_central_follows_its_probabilities() -> None:
    error = np.zeros((1, 7, 40), bool)
    error[0, :, 2:13] = True
    expected = probabilities_on(np.pad(error, ((1, 1), (0, 0), (0, 0))), (1, 0, 2), "central")[1]
    padded = np.pad(error, ((1, 1), (0, 0), (0, 0)))
    rng = np.random.default_rng(1)
    found = np.zeros(padded.shape)
    for _ in range(4000):
        found[draw_error_click(padded, rng, density="central")] += 1 / 4000
    assert np.abs(found[1] - expected).max() < 0.02


def test_draw_error_click_uniform_falls_on_every_voxel_alike() -> None:
    error = np.zeros((7, 7, 7), bool)
    error[2:5, 2:5, 2:5] = True
    rng = np.random.default_rng(2)
    middle = sum(draw_error_click(error, rng, density="uniform") == (3, 3, 3) for _ in range(1000))
    assert middle / 1000 == pytest.approx(1 / 27, abs=0.02)  # "central" would have 0.91


def test_draw_error_click_without_an_error_is_none() -> None:
    assert draw_error_click(np.zeros((2, 2, 2), bool), np.random.default_rng(0), density="central") is None


def test_error_clicks_say_which_side_is_wrong_and_fall_back_where_nothing_is() -> None:
    truth, mask = torch.zeros(4, 1, 3, 3, 3, dtype=torch.uint8), torch.zeros(4, 1, 3, 3, 3, dtype=torch.bool)
    truth[0, 0, 1, 2, 0] = 1  # missed
    mask[1, 0, 0, 1, 2] = True  # found falsely
    truth[2, 0, 1, 1, 1], mask[2, 0, 1, 1, 1] = 1, True  # right
    mask[3, 0, 2, 2, 2] = True  # found falsely, where nobody knows
    ignored = torch.zeros_like(mask)
    ignored[3, 0, 2, 2, 2] = True
    fallback = ErrorClicks(torch.full((4, 1, 3), 2), torch.ones(4, 1, dtype=torch.long))
    clicks = error_clicks(truth, mask, fallback, np.random.default_rng(0), density="central", ignored=ignored)
    assert clicks.point_coords[:, 0].tolist() == [[1, 2, 0], [0, 1, 2], [2, 2, 2], [2, 2, 2]]
    assert clicks.point_labels[:, 0].tolist() == [1, 0, 1, 1]


def test_newer_clicks_of_each_patch_follow_its_older_ones() -> None:
    older = ErrorClicks(torch.arange(12).view(2, 2, 3), torch.tensor([[1, 0], [1, 1]]))
    newer = ErrorClicks(torch.tensor([[[7, 8, 9]], [[4, 5, 6]]]), torch.tensor([[0], [1]]))
    both = older.then(newer)
    assert both.point_coords.tolist() == [[[0, 1, 2], [3, 4, 5], [7, 8, 9]], [[6, 7, 8], [9, 10, 11], [4, 5, 6]]]
    assert both.point_labels.tolist() == [[1, 0, 0], [1, 1, 1]]
