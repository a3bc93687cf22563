"""Prompt sampling on the device."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from nnunetv2_promise.training.prompt_sampling import (
    choose_labels,
    choose_objects,
    nearest_objects,
    prompt_batch,
    sample_points,
)


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
    assert prompted.labels.shape == (2, 1)  # no other label learns, unless told so
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


def three_bars() -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 2, 4, 5, 16) labels and objects: label 1 at x 0 to 3 and 7 to 9 (the middle is 8), label 2 at 12 to 15."""
    segmentation = torch.zeros(1, 2, 4, 5, 16, dtype=torch.int16)
    for start, stop, label, number in ((0, 4, 1, 1), (7, 10, 1, 2), (12, 16, 2, 3)):
        segmentation[:, 0, 1:3, 1:4, start:stop] = label
        segmentation[:, 1, 1:3, 1:4, start:stop] = number
    return segmentation[:, 0], segmentation[:, 1]


def test_the_object_in_the_middle_is_chosen_and_its_neighbours_sometimes() -> None:
    labels, numbers = three_bars()
    generator = torch.Generator().manual_seed(0)
    chosen = choose_objects(labels == 1, numbers, neighbour_share=0.0, generator=generator)
    assert torch.equal(chosen, numbers == 2)
    many = choose_objects(
        (labels == 1).repeat(400, 1, 1, 1), numbers.repeat(400, 1, 1, 1), neighbour_share=0.5, generator=generator
    )
    neighbours = sum(torch.equal(mask, numbers[0] == 1) for mask in many)
    assert 70 < neighbours < 130  # a quarter
    usual = choose_objects((labels == 1).repeat(400, 1, 1, 1), numbers.repeat(400, 1, 1, 1), generator=generator)
    assert 25 < sum(torch.equal(mask, numbers[0] == 1) for mask in usual) < 80  # an eighth
    assert all(torch.equal(mask, numbers[0] == 1) or torch.equal(mask, numbers[0] == 2) for mask in many)


def test_a_label_without_numbered_objects_is_taken_whole() -> None:
    labels, numbers = three_bars()
    assert torch.equal(choose_objects(labels == 2, torch.zeros_like(numbers)), labels == 2)


def test_a_part_without_a_number_is_no_object() -> None:
    labels, numbers = three_bars()
    masks = (labels == 1).repeat(50, 1, 1, 1)
    numbers = numbers.masked_fill(numbers == 1, 0).repeat(50, 1, 1, 1)
    assert torch.equal(choose_objects(masks, numbers, neighbour_share=1.0), numbers == 2)


def test_without_an_object_of_the_label_in_the_middle_another_is_chosen() -> None:
    """In the middle lies an object of another label, or a part of the label that has no number."""
    labels, numbers = three_bars()
    assert torch.equal(choose_objects(labels == 2, numbers, neighbour_share=0.0), numbers == 3)
    unnumbered = numbers.masked_fill(numbers == 2, 0)
    assert torch.equal(choose_objects(labels == 1, unnumbered, neighbour_share=0.0), numbers == 1)


def test_other_labels_mean_their_object_nearest_to_the_click() -> None:
    labels, numbers = three_bars()
    of_label = torch.stack([labels == 1, labels == 2, labels == 7], dim=1)
    for x, expected in ((4, 1), (6, 2), (15, 2)):
        near = nearest_objects(of_label, numbers, torch.tensor([[1, 1, x]]))
        assert torch.equal(near[0, 0], numbers[0] == expected), x
        assert torch.equal(near[0, 1], numbers[0] == 3)
        assert not near[0, 2].any()


def test_the_nearest_object_is_nearest_along_all_axes_together() -> None:
    """Objects of one voxel each, seen from every voxel; one that has no number is none."""
    rng = np.random.default_rng(0)
    places = np.unravel_index(rng.choice(4 * 5 * 7, 7, replace=False), (4, 5, 7))
    of_label, numbers = torch.zeros(1, 1, 4, 5, 7, dtype=torch.bool), torch.zeros(1, 4, 5, 7, dtype=torch.int16)
    of_label[0, 0][places] = True
    numbers[0][places] = torch.tensor([0, 1, 2, 3, 4, 5, 6], dtype=torch.int16)
    objects = np.transpose(places)[1:]
    for point in np.ndindex(4, 5, 7):
        (voxel,) = nearest_objects(of_label, numbers, torch.tensor([point]))[0, 0].nonzero().numpy()
        assert voxel.tolist() in objects.tolist()
        assert np.square(voxel - point).sum() == np.square(objects - point).sum(1).min()


def test_other_labels_without_a_numbered_object_are_taken_whole() -> None:
    labels, numbers = three_bars()
    whole = nearest_objects((labels == 1)[:, None], torch.zeros_like(numbers), torch.tensor([[1, 1, 0]]))
    assert torch.equal(whole[:, 0], labels == 1)


def test_numbers_of_objects_are_no_labels() -> None:
    """Numbers are values of a label that is absent, and of the one to ignore; the middle is background."""
    segmentation = torch.zeros(40, 2, 6, 7, 16, dtype=torch.int16)
    for start, stop, label, number in ((0, 3, 1, 4), (5, 6, 3, 2), (13, 16, 3, 6)):
        segmentation[:, 0, 1, 1, start:stop] = label
        segmentation[:, 1, 1, 1, start:stop] = number
    segmentation[:, 0, 5] = 4
    generator = torch.Generator().manual_seed(2)
    prompted = prompt_batch(
        segmentation, [1, 2, 3], object_points=3, random_points=60, ignore_label=4, most_labels=2, generator=generator
    )
    assert {tuple(pair) for pair in prompted.labels.tolist()} == {(0, 2), (2, 0)}
    for numbers, index, target, other, points in zip(
        segmentation[:, 1], prompted.label_index, prompted.target, prompted.other_targets, prompted.points, strict=True
    ):
        assert numbers[target[0].bool()].unique().tolist() in ([[4]] if index == 0 else [[2], [6]])
        assert numbers[other[0].bool()].unique().tolist() == ([2] if index == 0 else [4])
        assert points[:, 0].max() < 5
    on_first = [bool(target[0, 1, 1, 0]) for target in prompted.target]
    beside = prompted.points[on_first][:, 3:]
    assert ((beside[..., 0] == 1) & (beside[..., 1] == 1) & (beside[..., 2] < 3)).any()  # noise may fall on the object


def test_other_labels_are_those_nearest_to_the_first_point() -> None:
    """The clicked object is a bar, with an object of another label near either end."""
    segmentation = torch.zeros(40, 2, 3, 3, 16, dtype=torch.int16)
    segmentation[:, :, 1, 1] = 1
    for number, x in ((2, 0), (3, 15)):
        segmentation[:, 0, 0, 0, x], segmentation[:, 1, 0, 0, x] = 2, number
    prompted = prompt_batch(segmentation, [1, 2], object_points=2, random_points=0, most_labels=2)
    for numbers, (first, _), other in zip(segmentation[:, 1], prompted.points, prompted.other_targets, strict=True):
        assert numbers[other[0].bool()].tolist() == [2 if first[2] < 8 else 3]


def test_points_lie_on_the_object_and_never_on_its_neighbours() -> None:
    labels, numbers = three_bars()
    segmentation = torch.stack([labels, numbers], dim=1).repeat(30, 1, 1, 1, 1)
    generator = torch.Generator().manual_seed(1)
    prompted = prompt_batch(segmentation, [1, 2], object_points=5, random_points=40, most_labels=8, generator=generator)
    assert prompted.targets.shape == (30, 2, 4, 5, 16)
    assert prompted.labels.sort(dim=1).values.tolist() == [[0, 1]] * 30
    for number, (target, points) in enumerate(zip(prompted.target, prompted.points, strict=True)):
        clicked = segmentation[number, 1][tuple(points[:5].T)].unique()
        assert len(clicked) == 1
        assert torch.equal(target[0].bool(), segmentation[number, 1] == clicked[0])
        of_label = segmentation[number, 0] == segmentation[number, 0][tuple(points[0])]
        noise = points[5:]
        assert not (of_label & ~target[0].bool())[tuple(noise.T)].any()


def test_only_so_many_labels_learn_and_those_in_the_patch_come_first() -> None:
    torch.manual_seed(0)
    segmentation = torch.zeros(60, 1, 4, 4, 4, dtype=torch.int16)
    segmentation[:, 0, 2, 2, 2] = 7
    segmentation[:, 0, 0, 0] = 4
    prompted = prompt_batch(segmentation, range(1, 21), object_points=1, random_points=0, most_labels=5)
    assert prompted.labels[:, :2].tolist() == [[6, 3]] * 60
    assert all(len(set(labels)) == 5 for labels in prompted.labels.tolist())
    assert set(prompted.labels.flatten().tolist()) == set(range(20))  # the rest is drawn from all
