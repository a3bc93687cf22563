"""Objects of a batch and clicks on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_promise.network_architectures.interactive.channels import (
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
    zoomed_ball,
)
from nnunetv2_promise.training.clicked_patches import ClickedPatches, choose_objects, touching


def test_choose_objects_takes_one_component_of_one_label():
    labels = torch.zeros(3, 1, 12, 12, 12, dtype=torch.int16)
    labels[0, 0, 1:4, 1:4, 1:4] = 1
    labels[0, 0, 8:11, 8:11, 8:11] = 1
    labels[1, 0, 5:7, 5:7, 5:7] = 2
    rng, places = np.random.default_rng(0), set()
    for _ in range(20):
        objects, chosen = choose_objects(labels, [1, 2], rng)
        assert objects.flatten(1).sum(1).tolist() == [27, 8, 0]
        assert chosen[:2].tolist() == [0, 1]
        assert bool((labels[0][objects[0]] == 1).all())
        places.add(tuple(objects[0, 0].nonzero()[0].tolist()))
    assert places == {(1, 1, 1), (8, 8, 8)}


def test_choose_objects_draws_labels_alike_however_large():
    labels = torch.zeros(1, 1, 8, 8, 8, dtype=torch.int16)
    labels[0, 0, :4] = 1
    labels[0, 0, 4, 7, 7] = 2  # touches the other label
    rng, chosen = np.random.default_rng(0), []
    for _ in range(200):
        objects, (index,) = choose_objects(labels, [1, 2], rng)
        assert torch.equal(objects, labels == index + 1)
        chosen.append(int(index))
    assert 0.4 < np.mean(chosen) < 0.6


def test_touching_keeps_components_that_overlap():
    mask = torch.zeros(1, 1, 6, 6, 6, dtype=torch.bool)
    mask[..., 0, 0, 0] = mask[..., 1, 1, 1] = True  # one component: corners touch
    mask[..., 5, 5, 5] = True
    wanted = torch.zeros_like(mask)
    wanted[..., 1, 1, 1:3] = True  # and beyond the mask
    kept = touching(mask, wanted)
    assert kept.sum() == 2
    assert not kept[..., 5, 5, 5]


def test_clicks_fall_on_errors_with_their_sign():
    objects = torch.zeros(1, 1, 12, 12, 12, dtype=torch.bool)
    objects[..., 2:5, 2:5, 2:5] = True
    patches = ClickedPatches(objects, np.random.default_rng(0))
    patches.add_clicks(1, "central")
    first = patches.channels
    assert objects[0, 0][first[0, POSITIVE_POINTS] == 1].tolist() == [True]
    spill = objects.clone()
    spill[..., 8:11, 8:11, 8:11] = True
    patches.set_mask(spill)
    patches.add_clicks(1, "central")
    assert (spill & ~objects)[0, 0][patches.channels[0, NEGATIVE_POINTS] == 1].tolist() == [True]
    assert patches.channels[0, PREVIOUS_MASK].sum() == 54
    assert first[0, PREVIOUS_MASK].sum() == 0  # earlier channels stay as autograd saw them


def test_clicks_on_a_right_mask_say_what_is_true():
    objects = torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    patches = ClickedPatches(objects, np.random.default_rng(0))
    patches.set_mask(objects)
    patches.add_clicks(3, "uniform")
    assert patches.channels[0, POSITIVE_POINTS].any()
    assert not patches.channels[0, NEGATIVE_POINTS].any()


@pytest.mark.parametrize(("zooms", "zoom"), [(torch.tensor([4.0]), 4.0), (None, 1.0)])
def test_clicks_in_a_zoomed_patch_have_the_engines_size(zooms: torch.Tensor | None, zoom: float):
    objects = torch.zeros(1, 1, 24, 24, 24, dtype=torch.bool)
    objects[..., 12, 12, 12] = True
    patches = ClickedPatches(objects, np.random.default_rng(0), zooms=zooms)
    patches.add_clicks(1, "uniform")
    torch.testing.assert_close(patches.channels[0, POSITIVE_POINTS].sum(), zoomed_ball(zoom).sum())


def test_ignored_voxels_are_never_clicked():
    objects = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    objects[..., :2, :, :] = True
    ignored = torch.zeros_like(objects)
    ignored[..., 0, :, :] = True
    patches = ClickedPatches(objects, np.random.default_rng(0), ignored=ignored)
    for _ in range(10):
        patches.add_clicks(1, "uniform")
    brightest = int(patches.channels[0, POSITIVE_POINTS].argmax())
    assert brightest // 64 == 1


def test_clicks_where_nothing_is_wrong_have_the_sign_of_their_place():
    """The object fills half of each patch along another axis, so that an axis exchanged for another is noticed."""
    objects = torch.zeros(3, 1, 8, 8, 8, dtype=torch.bool)
    objects[0, 0, :4], objects[1, 0, :, :4], objects[2, 0, ..., :4] = True, True, True
    rng, signs = np.random.default_rng(0), set()
    for _ in range(20):
        patches = ClickedPatches(objects, rng)
        patches.set_mask(objects)
        patches.add_clicks(1, "uniform")
        for own, positive, negative in zip(
            objects[:, 0], patches.channels[:, POSITIVE_POINTS], patches.channels[:, NEGATIVE_POINTS], strict=True
        ):
            assert ((positive == 1) | (negative == 1)).sum() == 1
            assert own[positive == 1].all()
            assert not own[negative == 1].any()
            signs.add(bool((positive == 1).any()))
    assert signs == {True, False}
