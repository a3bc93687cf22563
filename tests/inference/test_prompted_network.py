"""The network as nnU-Net calls it: tiles of its sliding window, corrections in them, and the label that is clicked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_correctable_mask import BACKGROUND, PATCH, REACH, Cubes
from torch import Tensor

from nnunetv2_promise.inference.correction_code import Corrections, channels_for, encode_corrections
from nnunetv2_promise.inference.interactions import Interaction
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.inference.tile_code import decode_vote, encode_channel

SIZE = (8, 8, 12)
SPECK = (0, 0, 8)


class CubesAndSpecks(Cubes):
    """``Cubes`` of two labels; what the last channel shows is marked as well."""

    labels = 2

    def decode(self, image: Tensor, coords: Tensor, **prompt: Any) -> Tensor:
        logits = super().decode(image, coords, **prompt)
        logits[:, 1][image[:, -1] > 0] = 2 * BACKGROUND
        return logits


def answer(
    clicks: Sequence[Sequence[int]], corrections: Corrections | None, *, channels: int = 2, **options: bool
) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
    """The mask of a tile of label 2 with a speck in its last channel; and what its network was asked."""
    network = CubesAndSpecks()
    image = np.zeros((channels, *SIZE), np.float32)
    image[(-1, *SPECK)] = 1
    tile = [*image, encode_channel(SIZE, 1, 2, 3, np.array(clicks).reshape(-1, 3))]
    if corrections is not None:
        tile += [*encode_corrections(corrections, SIZE, channels_for([corrections]))]
    made = PromptedNetwork(network, patch_size=PATCH, heads=3, image_channels=channels, **options)
    with torch.inference_mode():
        votes = made(torch.from_numpy(np.stack(tile))[None])
    assert votes.shape == (1, 2, *SIZE)
    return decode_vote(votes[0].numpy()) > 0, network.seen


def cube(*voxel: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[tuple(slice(max(v - REACH, 0), v + REACH + 1) for v in voxel)] = True
    return mask


def with_speck(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    mask = mask.copy()
    mask[SPECK] = True
    return mask


def test_tile_without_corrections_is_answered_to_its_clicks() -> None:
    mask, asked = answer([[4, 4, 5]], None)
    np.testing.assert_array_equal(mask, with_speck(cube(4, 4, 5)))
    assert all(prompt["point_labels"].tolist() == [[1]] for prompt in asked)
    assert all(prompt["label_index"].tolist() == [1] for prompt in asked)  # label 2, counted without background


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_tile_with_corrections_is_answered_interaction_by_interaction(channels: int) -> None:
    previous = np.zeros(SIZE, bool)
    previous[2:5, 2:5, 9:] = True
    corrections = Corrections([Interaction([[4, 4, 3]], True), Interaction([[4, 4, 5]], False)], previous)
    mask, asked = answer([], corrections, channels=channels)
    np.testing.assert_array_equal(mask, (cube(4, 4, 3) & ~cube(4, 4, 5)) | previous)
    assert [prompt["coords"] for prompt in asked] == [[[4, 4, 3]], [[4, 4, 3], [4, 4, 5]]]
    assert asked[-1]["point_labels"].tolist() == [[1, 0]]
    assert asked[-1]["label_index"].tolist() == [1]


@pytest.mark.parametrize(("options", "whole"), [({}, True), ({"one_component": True}, False)])
def test_first_answer_is_whole_unless_an_object_is_one_component(options: dict[str, bool], whole: bool) -> None:
    mask, _ = answer([], Corrections([Interaction([[4, 4, 5]], True)], None), **options)
    np.testing.assert_array_equal(mask, with_speck(cube(4, 4, 5)) if whole else cube(4, 4, 5))


@pytest.mark.parametrize(("labels", "expected"), [(1, None), (3, [1])])
def test_only_a_network_of_several_labels_is_told_which_one(labels: int, expected: list[int] | None) -> None:
    network = Cubes()
    network.labels = labels
    prompt = PromptedNetwork(network, patch_size=PATCH, heads=4).label_prompt(2, torch.device("cpu"))
    assert {name: value.tolist() for name, value in prompt.items()} == (
        {} if expected is None else {"label_index": expected}
    )
