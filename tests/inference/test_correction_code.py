"""Corrections as channels of a tile, there and back."""

from __future__ import annotations

import numpy as np
import torch

from nnunetv2_promise.inference.correction_code import (
    Corrections,
    channels_for,
    decode_corrections,
    encode_corrections,
)
from nnunetv2_promise.inference.interactions import Interaction

SIZE = (4, 5, 6)


def test_clicks_signs_order_and_mask_survive() -> None:
    mask = np.zeros(SIZE, bool)
    mask[1, 2, 3] = True
    asked = [Interaction([[0, 0, 0], [1, 2, 3], [1, 2, 3]], True), Interaction([[1, 2, 3]], False)]
    for previous in (mask, np.zeros(SIZE, bool), None):
        channels = encode_corrections(Corrections(asked, previous), SIZE, 5)
        assert channels.shape == (5, *SIZE)
        found = decode_corrections(torch.from_numpy(channels))
        assert found.interactions == asked
        assert (found.previous_mask is None) == (previous is None)
        if previous is not None:
            np.testing.assert_array_equal(found.previous_mask, previous)


def test_mirrored_channels_say_mirrored_clicks() -> None:
    channels = encode_corrections(Corrections([Interaction([[0, 1, 2]], False)], None), SIZE, 2)
    found = decode_corrections(torch.from_numpy(channels).flip(1, 3))
    assert found.interactions == [Interaction([[3, 1, 3]], False)]


def test_windows_without_corrections_have_none() -> None:
    assert channels_for([]) == 0
    assert decode_corrections(torch.zeros(0, *SIZE)) is None
    assert decode_corrections(torch.zeros(3, *SIZE)) is None
    one = Corrections([Interaction([[0, 0, 0]], True)], None)
    assert channels_for([one, Corrections([*one.interactions] * 3, None)]) == 4
