"""Prompt sampling on the device."""

from __future__ import annotations

import torch
from scipy import stats

from nnunetv2_promise.training.prompt_sampling import choose_labels, prompt_batch, sample_points


def test_points_lie_in_their_mask_with_unequal_axes() -> None:
    torch.manual_seed(0)
    mask = torch.rand(3, 4, 5, 7) > 0.8
    points = sample_points(mask, 200)
    for patch, voxels in zip(mask, points, strict=True):
        assert patch[tuple(voxels.T)].all()


def test_every_voxel_is_equally_likely() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 3, 4, 5, dtype=torch.bool)
    mask[0, 0, 0, 0] = mask[0, 2, 3, 4] = mask[0, 1, 2, 3] = mask[0, 1, 0, 4] = True
    points = sample_points(mask, 4000)[0]
    _, counts = torch.unique(points, dim=0, return_counts=True)
    assert len(counts) == 4
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_empty_mask_falls_back_to_the_whole_patch() -> None:
    torch.manual_seed(0)
    points = sample_points(torch.zeros(1, 2, 3, 4, dtype=torch.bool), 500)[0]
    assert len(torch.unique(points, dim=0)) == 24


def test_choose_labels_takes_present_ones_evenly() -> None:
    torch.manual_seed(0)
    segmentation = torch.zeros(300, 1, 3, 2, 2, dtype=torch.int16)
    segmentation[:100, :, 0] = 3
    segmentation[100:200, :, 0] = 1
    segmentation[100:200, :, 2] = 5
    chosen = choose_labels(segmentation, [1, 3, 5])
    assert (chosen[:100] == 1).all()
    assert set(chosen[100:200].tolist()) == {0, 2}
    assert 30 < (chosen[100:200] == 0).sum() < 70
    assert set(chosen[200:].tolist()) == {0, 1, 2}


def test_choose_labels_prefers_the_one_in_the_middle() -> None:
    torch.manual_seed(0)
    segmentation = torch.zeros(50, 1, 4, 6, 8, dtype=torch.int16)
    segmentation[:, :, :, :, :4] = 2
    segmentation[:25, :, 2, 3, 4] = 7  # the middle voxel: size // 2 in each axis
    chosen = choose_labels(segmentation, [2, 7])
    assert (chosen[:25] == 1).all()
    assert (chosen[25:] == 0).all()


def test_prompt_batch_shapes_and_places() -> None:
    torch.manual_seed(0)
    segmentation = torch.zeros(2, 1, 6, 7, 8, dtype=torch.int16)
    segmentation[0, 0, 1:3, 2:4, 5:7] = 2
    segmentation[:, 0, 5] = 4  # ignore
    prompted = prompt_batch(segmentation, [1, 2], object_points=10, random_points=10, ignore_label=4)
    assert prompted.points.shape == (2, 20, 3)
    assert prompted.target[0].sum() == 8
    assert prompted.target[1].sum() == 0
    assert prompted.label_index[0] == 1
    inside = segmentation[0, 0][tuple(prompted.points[0, :10].T)]
    assert (inside == 2).all()
    assert (prompted.points[..., 0] < 5).all(), "an ignored voxel was clicked"


def test_generator_makes_it_repeatable() -> None:
    segmentation = (torch.rand(2, 1, 5, 5, 5) > 0.5).to(torch.int16)
    draws = [
        prompt_batch(
            segmentation, [1], object_points=3, random_points=2, generator=torch.Generator().manual_seed(7)
        ).points
        for _ in range(2)
    ]
    assert torch.equal(*draws)
