"""Rounds of clicks: the gradients of the sum, one decoder at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nnunetv2_promise.training.click_rounds import DENSITIES, ClickSchedule, average_gradients, backward_rounds


def test_backward_rounds_equals_the_backward_pass_of_the_sum():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    losses = [lambda f, power=power: decoder(f[0] + f[1]).pow(power).sum() for power in (2, 4, 6)]
    features = [encoder(x), encoder(x).tanh()]
    sum(loss(features) for loss in losses).backward()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    expected = [parameter.grad.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    returned = backward_rounds([encoder(x), encoder(x).tanh()], losses)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert [float(value) for value in returned] == pytest.approx([float(loss(features).detach()) for loss in losses])


def test_backward_rounds_scales_every_loss_once():
    weight = torch.ones(1, requires_grad=True)
    backward_rounds([weight * 2], [lambda f: f[0].sum()] * 2, scale=lambda loss: 10 * loss)
    assert float(weight.grad) == 40  # two losses, each 10 x 2


def test_backward_rounds_of_an_image_needs_no_gradient_of_it():
    image, weight = torch.ones(1), torch.ones(1, requires_grad=True)
    backward_rounds([image], [lambda f: (weight * f[0]).sum()] * 3)
    assert float(weight.grad) == 3


def test_click_schedule_draws_one_to_three_clicks_and_both_densities():
    rng = np.random.default_rng(0)
    drawn = [ClickSchedule(several_share=0.5).draw(rng) for _ in range(200)]
    assert {number for number, _ in drawn} == {1, 2, 3}
    assert {density for _, density in drawn} == set(DENSITIES)
    assert {number for number, _ in (ClickSchedule(several_share=1).draw(rng) for _ in range(50))} == {2, 3}
    assert {number for number, _ in (ClickSchedule(several_share=0).draw(rng) for _ in range(50))} == {1}


def test_a_training_step_has_three_rounds_unless_told_otherwise():
    """The documented schedule: half of the rounds add several clicks, three of four steps start from a mask."""
    assert ClickSchedule() == ClickSchedule(rounds=3, several_share=0.5, mask_share=0.75)


def test_average_gradients_gives_the_mean_of_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has a gradient of 3 everywhere."""
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda together: together.add_(3))
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((2,), (1, 3), (4,))]
    parameters[0].grad, parameters[2].grad = torch.tensor([1.0, -1.0]), torch.tensor([5.0, 0.0, 2.0, 1.0])
    average_gradients(parameters)
    assert parameters[0].grad.tolist() == [2, 1]
    assert parameters[1].grad is None
    assert parameters[2].grad.tolist() == [4, 1.5, 2.5, 2]
