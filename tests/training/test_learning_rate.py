"""Parts of a network that learn at different speeds."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_promise.training.learning_rate import GroupedPolyLR


def test_corrections_learn_faster_by_their_factor():
    slow, fast = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    groups = [{"params": [slow], "lr_factor": 1.0}, {"params": [fast], "lr_factor": 10.0}]
    optimizer = torch.optim.AdamW(groups, 1e-3)
    GroupedPolyLR(optimizer, 1e-3, 10).step(5)
    expected = 1e-3 * 0.5**0.9
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected, 10 * expected])
