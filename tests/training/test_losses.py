"""Losses against closed forms on few voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunetv2_promise.training.losses import (
    ProMISeLoss,
    boundary_loss,
    loss_of_labels,
    published_boundary_loss,
    smooth_boundary,
    structural_loss,
)


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    """(B, 1, ...) foreground probabilities -> (B, 2, ...) logits."""
    return torch.cat([torch.zeros_like(probability), torch.logit(probability)], dim=1)


def test_structural_loss_hand_computed() -> None:
    probability = torch.tensor([0.9, 0.2, 0.6, 0.5]).view(1, 1, 1, 2, 2)
    target = torch.tensor([1, 0, 1, 0]).view(1, 1, 1, 2, 2)
    dice = 1 - 2 * (0.9 + 0.6) / (2 + 2.2)
    cross_entropy = -np.log([0.9, 0.8, 0.6, 0.5]).mean()
    assert structural_loss(logits_of(probability), target).item() == pytest.approx(
        0.5 * dice + 0.5 * cross_entropy, abs=1e-5
    )


@pytest.mark.parametrize("kernel", [(5, 5, 5), (5, 5, 1), (3, 1, 5)])
def test_smooth_boundary_equals_scipy_uniform_filter(kernel: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((7, 6, 9))
    expected = np.abs(values - ndimage.uniform_filter(values, kernel, mode="constant"))
    got = smooth_boundary(torch.from_numpy(values)[None, None], kernel)[0, 0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_boundary_loss_one_voxel_by_hand() -> None:
    target = torch.zeros(1, 1, 5, 5, 5, dtype=torch.uint8)
    target[..., 2, 2, 2] = 1
    probability = torch.full((1, 1, 5, 5, 5), 1e-7, dtype=torch.float64)
    # The mask's boundary map is 124/125 in the middle and 1/125 elsewhere; the prediction has none.
    expected = ((124 / 125) ** 2 + 124 * (1 / 125) ** 2) / 125
    assert boundary_loss(logits_of(probability), target).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", [boundary_loss, published_boundary_loss])
def test_boundary_loss_counts_only_patches_with_foreground(loss: Callable[..., torch.Tensor]) -> None:
    logits = torch.randn(2, 2, 6, 6, 6)
    target = torch.zeros(2, 1, 6, 6, 6, dtype=torch.uint8)
    assert loss(logits, target).item() == 0
    target[1, 0, 2:4, 2:4, 2:4] = 1
    alone = loss(logits[1:], target[1:])
    assert alone.item() > 0
    assert loss(logits, target).item() == pytest.approx(alone.item() / 2)


def test_published_boundary_averages_both_channels() -> None:
    logits = torch.randn(1, 2, 6, 6, 6)
    target = torch.zeros(1, 1, 6, 6, 6, dtype=torch.uint8)
    target[0, 0, 2:4, 2:4, 2:4] = 1
    halves = [boundary_loss(flipped, target, kernel=(5, 5, 1)) for flipped in (logits, logits.flip(1))]
    assert published_boundary_loss(logits, target).item() == pytest.approx(sum(halves).item() / 2, rel=1e-5)


def test_ignored_voxels_have_no_influence() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 6, 6, 6, requires_grad=True)
    target = (torch.rand(1, 1, 6, 6, 6) > 0.5).to(torch.uint8)
    ignore = torch.rand(1, 1, 6, 6, 6) > 0.7
    loss = ProMISeLoss()
    value = loss(logits, target, ignore)
    value.backward()
    assert logits.grad.masked_select(ignore).abs().max() == 0
    assert logits.grad.masked_select(~ignore).abs().max() > 0
    other = torch.where(ignore, logits + 5 * torch.randn_like(logits), logits).detach()
    flipped = torch.where(ignore, 1 - target, target)
    assert loss(other, flipped, ignore).item() == pytest.approx(value.item(), rel=1e-6)


def test_total_is_structural_plus_weighted_boundary() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 2, 6, 6, 6)
    target = (torch.rand(2, 1, 6, 6, 6) > 0.5).to(torch.uint8)
    expected = structural_loss(logits, target) + 10 * boundary_loss(logits, target)
    assert ProMISeLoss()(logits, target).item() == pytest.approx(expected.item())
    assert ProMISeLoss(boundary_weight=0)(logits, target).item() == pytest.approx(
        structural_loss(logits, target).item()
    )


def test_loss_gradient_is_right() -> None:
    torch.manual_seed(2)
    target = (torch.rand(1, 1, 5, 6, 5) > 0.5).to(torch.uint8)
    logits = torch.randn(1, 2, 5, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: boundary_loss(x, target) + structural_loss(x, target), logits)


def test_ignored_voxels_do_not_dilute_the_loss() -> None:
    """99 % ignored, undecided elsewhere: the cross entropy is log 2 as in nnU-Net, not a hundredth of it."""
    from nnunetv2.training.loss.robust_ce_loss import RobustCrossEntropyLoss

    logits = torch.zeros(1, 2, 10, 10, 10)
    target = torch.zeros(1, 1, 10, 10, 10, dtype=torch.uint8)
    target[..., :5] = 1
    ignore = torch.ones_like(target, dtype=torch.bool)
    ignore[0, 0, 0] = False
    ignore[0, 0, 0, 1:] = True
    logits = torch.where(ignore, torch.tensor(3.0), logits)
    nnunet = RobustCrossEntropyLoss(ignore_index=2)(logits, target.masked_fill(ignore, 2).long())
    dice = 1 - 2 * (0.5 * 5) / (5 + 0.5 * 10)
    assert nnunet.item() == pytest.approx(np.log(2))
    assert structural_loss(logits, target, ignore).item() == pytest.approx(0.5 * dice + 0.5 * np.log(2), abs=1e-5)


def test_boundary_loss_counts_only_voxels_that_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 6, 6, 6)
    target = (torch.rand(1, 1, 6, 6, 6) > 0.5).to(torch.uint8)
    none = torch.zeros_like(target, dtype=torch.bool)
    assert boundary_loss(logits, target, none).item() == pytest.approx(boundary_loss(logits, target).item())
    # Twice the volume, of which the far half is ignored: nothing changes but the border between them.
    wide = torch.nn.functional.pad(logits, (0, 60))
    wide_target = torch.nn.functional.pad(target, (0, 60))
    ignore = torch.nn.functional.pad(none, (0, 60), value=True)
    assert boundary_loss(wide, wide_target, ignore).item() == pytest.approx(boundary_loss(logits, target).item())


def test_a_patch_of_which_nothing_is_known_has_no_loss() -> None:
    target = torch.ones(1, 1, 5, 5, 5, dtype=torch.uint8)
    assert ProMISeLoss()(torch.randn(1, 2, 5, 5, 5), target, target.bool()).item() == pytest.approx(0, abs=1e-6)


def test_losses_of_a_single_known_voxel_by_hand() -> None:
    """Undecided on a voxel of the object; the mask's boundary map is 124/125 there, and the answer's half of it."""
    target = torch.ones(1, 1, 5, 5, 5, dtype=torch.uint8)
    ignore = target.bool()
    ignore[..., 2, 2, 2] = False
    logits = torch.zeros(1, 2, 5, 5, 5)
    dice = 1 - 2 * 0.5 / (1 + 0.5)
    assert structural_loss(logits, target, ignore).item() == pytest.approx(0.5 * dice + 0.5 * np.log(2), abs=1e-4)
    assert boundary_loss(logits, target, ignore).item() == pytest.approx((62 / 125) ** 2, rel=1e-4)


def test_half_of_the_loss_is_the_clicked_label() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 5, 5, 5)
    target = (torch.rand(2, 3, 5, 5, 5) > 0.5).to(torch.uint8)
    loss = ProMISeLoss()
    each = [loss(logits[:, k], target[:, k : k + 1]) for k in range(3)]
    expected = each[0] / 2 + (each[1] + each[2]) / 4
    assert loss_of_labels(loss, logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss_of_labels(loss, logits[:, 0], target[:, :1]).item() == pytest.approx(each[0].item())
    assert loss_of_labels(loss, logits[:, :1], target[:, :1]).item() == pytest.approx(each[0].item())


def test_voxels_ignored_in_a_patch_are_ignored_for_each_of_its_labels() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 5, 5, 5)
    target = (torch.rand(2, 4, 5, 5, 5) > 0.5).to(torch.uint8)
    ignore = torch.rand(2, 1, 5, 5, 5) > 0.7
    other = torch.where(ignore[:, :, None], torch.randn_like(logits), logits)
    loss = ProMISeLoss(boundary_weight=0)
    expected = loss_of_labels(loss, logits, target, ignore)
    assert loss_of_labels(loss, other, target, ignore).item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss_of_labels(loss, other, target).item() != pytest.approx(loss_of_labels(loss, logits, target).item())
