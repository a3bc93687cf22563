"""Mirrored windows: clicks go along, answers come back, who saw nothing does not count."""

from __future__ import annotations

import torch
from torch import Tensor

from nnunetv2_promise.inference.mirroring import mean_over_mirrors


def beside_click(image: Tensor, points: Tensor) -> Tensor:
    """1 on the click and 2 on the voxel behind it along the last axis, if there is one; plus the image."""
    logit = image[0].clone()
    z, y, x = points[0].tolist()
    logit[z, y, x] += 1
    if x + 1 < logit.shape[2]:
        logit[z, y, x + 1] += 2
    return logit


def test_clicks_are_mirrored_with_the_window() -> None:
    image = torch.arange(60.0).reshape(1, 3, 4, 5)
    answer = mean_over_mirrors(beside_click, image, torch.tensor([[1, 0, 2]]), (0, 1, 2))
    expected = torch.zeros(3, 4, 5)
    expected[1, 0, 2] = 1
    expected[1, 0, 3] = expected[1, 0, 1] = 1  # 2, in half of the mirror images on one side and half on the other
    assert torch.equal(answer, image[0] + expected)


def test_no_axis_is_the_network_itself() -> None:
    image = torch.rand(1, 3, 4, 5)
    points = torch.tensor([[2, 3, 4]])
    assert torch.equal(mean_over_mirrors(beside_click, image, points, ()), beside_click(image, points))


def test_who_did_not_look_does_not_vote() -> None:
    def first_plane_only(image: Tensor, points: Tensor) -> Tensor:
        logit = torch.full(image.shape[1:], torch.nan)
        logit[0] = 4.0
        return logit

    answer = mean_over_mirrors(first_plane_only, torch.zeros(1, 3, 2, 2), torch.tensor([[0, 0, 0]]), (0,))
    assert (answer[0] == 4).all()
    assert answer[1].isnan().all()
    assert (answer[2] == 4).all()
