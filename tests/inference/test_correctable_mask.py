"""Clicks on one object: which patch answers, what it is told, what is encoded again, and undo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.correctable_mask import CorrectableMask, correct_window
from nnunetv2_promise.inference.interactions import Interaction
from nnunetv2_promise.inference.patch_memory import PatchMemory
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.network_architectures.promise.correcting import REFINEMENTS

PATCH = (8, 8, 8)
SHAPE = (8, 8, 40)
REACH = 2
BACKGROUND = 7.0
"""Logit of background; that of foreground is above or below it."""


class Cubes(nn.Module):
    """Answers with a cube around each positive click and what the mask was before, less a cube around negative ones."""

    def __init__(self, *, corrects: bool = True, certainty: float = 5.0) -> None:
        super().__init__()
        self.certainty = certainty
        self.weight = nn.Parameter(torch.zeros(()))
        self.corrections = object() if corrects else None
        self.seen: list[dict[str, Any]] = []

    def encode(self, image: Tensor) -> Tensor:
        return image

    def decode(self, image: Tensor, coords: Tensor, **prompt: Any) -> Tensor:
        self.seen.append({"image": image, "coords": coords[0].tolist(), **prompt})
        signs = prompt.get("point_labels", torch.ones(coords.shape[:2]))[0].tolist()
        logit = torch.full(image.shape[2:], -self.certainty)
        previous = prompt.get("previous_logits")
        if previous is not None:
            logit[previous[0, 0] > 0] = self.certainty
        for wanted in (1, 0):
            for voxel, sign in zip(coords[0].tolist(), signs, strict=True):
                if sign == wanted:
                    cube = tuple(slice(max(v - REACH, 0), v + REACH + 1) for v in voxel)
                    logit[cube] = self.certainty if wanted else -self.certainty
        return torch.stack([torch.full_like(logit, BACKGROUND), logit + BACKGROUND])[None]

    def decode_and_rate(self, image: Tensor, coords: Tensor, **prompt: Any) -> tuple[Tensor, Tensor]:
        return self.decode(image, coords, **prompt), torch.tensor([1 / len(coords[0])])


IMAGE = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE) + 1
"""Every voxel has a value of its own, none is 0."""


def started(
    network: Cubes | None = None, *, previous: np.ndarray | None = None, window: tuple[int, ...] = PATCH
) -> tuple[CorrectableMask, Cubes]:
    network = network or Cubes()
    patches = PatchMemory(PromptedNetwork(network, patch_size=PATCH, heads=2), IMAGE)
    return CorrectableMask(patches, label_head=1, window_size=window, previous_mask=previous), network


def cube(*voxel: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(max(v - REACH, 0), v + REACH + 1) for v in voxel)] = True
    return mask


def test_first_click_is_answered_by_a_patch_around_it() -> None:
    mask, network = started()
    assert not mask.mask.any()
    mask.click([(4, 4, 20)], positive=True)
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20))
    assert network.seen[0]["coords"] == [[4, 4, 4]]
    assert network.seen[0]["image"][0, 0, 0, 0, 0] == 17  # the patch starts at (0, 0, 16)
    assert "previous_logits" not in network.seen[0]
    assert len(network.seen) == 1 + REFINEMENTS
    for refined in network.seen[1:]:  # its own answer is handed back, and nothing is encoded again
        assert refined["coords"] == [[4, 4, 4]]
        np.testing.assert_array_equal(refined["previous_logits"][0, 0] > 0, cube(4, 4, 20)[:, :, 16:24])
    assert mask.patches.encodings == 1
    assert np.isnan(mask.logits[:, :, :16]).all()


def test_click_in_a_known_patch_is_told_all_clicks_and_the_mask_and_encodes_nothing() -> None:
    mask, network = started()
    mask.click([(4, 4, 20)], positive=True)
    mask.click([(4, 4, 21)], positive=False)
    assert mask.patches.encodings == 1
    assert network.seen[-1]["coords"] == [[4, 4, 4], [4, 4, 5]]
    assert network.seen[-1]["point_labels"].tolist() == [[1, 0]]
    np.testing.assert_array_equal(network.seen[-1]["previous_logits"][0, 0] > 0, cube(4, 4, 20)[:, :, 16:24])
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20) & ~cube(4, 4, 21))
    assert mask.expected_dice == 0.5


@pytest.mark.parametrize("certainty", [5.0, 0.5])
@pytest.mark.parametrize(("second", "positive"), [(16, False), (23, False), (19, True)])
def test_click_at_the_edge_of_a_known_patch_encodes_nothing_if_nothing_changes_there(
    second: int, positive: bool, certainty: float
) -> None:
    """The patch has the voxels 16 to 23; the mask 18 to 22, and the third click adds 17."""
    mask, network = started(Cubes(certainty=certainty))
    mask.click([(4, 4, 20)], positive=True)
    mask.click([(4, 4, second)], positive=positive)
    assert mask.patches.encodings == 1
    assert network.seen[-1]["coords"] == [[4, 4, 4], [4, 4, second - 16]]
    clicked = cube(4, 4, second)
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20) | clicked if positive else cube(4, 4, 20) & ~clicked)


@pytest.mark.parametrize("certainty", [5.0, 0.5])
@pytest.mark.parametrize(("third", "coords"), [(21, [[4, 4, 4], [4, 4, 5]]), (22, [[4, 4, 0], [4, 4, 4], [4, 4, 2]])])
def test_click_in_two_known_patches_is_answered_by_the_one_that_holds_it_most_centrally(
    third: int, coords: list[list[int]], certainty: float
) -> None:
    """The patches have the voxels 16 to 23 and 20 to 27; the mask 18 to 26 goes on behind their faces, unchanged."""
    mask, network = started(Cubes(certainty=certainty))
    for x in (20, 24, third):
        mask.click([(4, 4, x)], positive=True)
    assert mask.patches.encodings == 2
    assert network.seen[-1]["coords"] == coords
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20) | cube(4, 4, 24))


@pytest.mark.parametrize(("second", "coords"), [(16, [[4, 4, 4]]), (23, [[4, 4, 1], [4, 4, 4]])])
def test_click_at_the_edge_of_a_known_patch_gets_its_own_if_the_mask_grows_there(
    second: int, coords: list[list[int]]
) -> None:
    mask, network = started()
    mask.click([(4, 4, 20)], positive=True)
    mask.click([(4, 4, second)], positive=True)
    assert mask.patches.encodings == 2
    assert network.seen[-1]["coords"] == coords
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20) | cube(4, 4, second))


@pytest.mark.parametrize(("second", "known"), [(26, slice(0, 2)), (25, slice(0, 3)), (14, slice(6, 8))])
def test_click_elsewhere_gets_a_patch_of_its_own_and_leaves_the_rest(second: int, known: slice) -> None:
    mask, network = started()
    mask.click([(4, 4, 20)], positive=True)
    mask.click([(4, 4, second)], positive=True)
    assert mask.patches.encodings == 2
    assert network.seen[-1]["coords"] == [[4, 4, 4]]
    before = np.full(PATCH, -30)  # nobody looked there
    before[:, :, known] = np.where(cube(4, 4, 20)[:, :, second - 4 : second + 4], 5, -5)[:, :, known]
    np.testing.assert_array_equal(network.seen[-1]["previous_logits"][0, 0], before)
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20) | cube(4, 4, second))


def test_patch_beyond_the_image_is_zero_there() -> None:
    mask, network = started()
    mask.click([(4, 4, 1)], positive=True)
    image = network.seen[0]["image"][0, 0]
    assert (image[:, :, :3] == 0).all()
    assert (image[:, :, 3:] > 0).all()
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 1))


def test_undo_takes_clicks_back_one_by_one() -> None:
    mask, _ = started()
    states = [mask.logits.copy()]
    for voxel, positive in (((4, 4, 20), True), ((4, 4, 21), False), ((4, 4, 30), True)):
        mask.click([voxel], positive=positive)
        states.append(mask.logits.copy())
    for state in reversed(states[:-1]):
        assert mask.undo()
        np.testing.assert_array_equal(mask.logits, state)
    assert not mask.undo()
    assert np.isnan(mask.expected_dice)
    mask.click([(4, 4, 20)], positive=True)  # the first click again, not a correction
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20))


def test_previous_mask_is_corrected_by_a_first_click_of_either_sign() -> None:
    mask, network = started(previous=cube(4, 4, 20) | cube(4, 4, 10))
    mask.click([(4, 4, 22)], positive=False)
    np.testing.assert_array_equal(mask.mask, (cube(4, 4, 20) & ~cube(4, 4, 22)) | cube(4, 4, 10))
    assert network.seen[0]["point_labels"].tolist() == [[0]]


def test_several_clicks_at_once_are_undone_at_once() -> None:
    mask, _ = started()
    mask.click([(4, 4, 20), (4, 4, 22)], positive=True)
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 20) | cube(4, 4, 22))
    mask.undo()
    assert not mask.mask.any()


def test_plain_network_collects_positive_clicks() -> None:
    mask, network = started(Cubes(corrects=False))
    mask.click([(4, 4, 20)], positive=True)
    mask.click([(4, 4, 22)], positive=True)
    assert network.seen[1]["coords"] == [[4, 4, 4], [4, 4, 6]]
    assert not {"point_labels", "previous_logits"} & network.seen[1].keys()
    with pytest.raises(UserError, match="takes no negative click"):
        mask.click([(4, 4, 22)], positive=False)
    with pytest.raises(UserError, match="corrects no mask"):
        started(Cubes(corrects=False), previous=cube(4, 4, 20))


@pytest.mark.parametrize(
    ("voxel", "positive", "words"),
    [
        ((4, 4, 40), True, "outside of the image"),
        ((4, 4, 45), True, "outside of the image"),
        ((4, -1, 4), True, "outside"),
        ((4, 4, 4), False, "no mask to correct"),
    ],
)
def test_clicks_without_meaning_are_refused_and_change_nothing(
    voxel: tuple[int, ...], positive: bool, words: str
) -> None:
    mask, _ = started()
    with pytest.raises(UserError, match=words):
        mask.click([voxel], positive=positive)
    assert not mask.undo()


def test_patch_memory_forgets_the_oldest() -> None:
    network = PromptedNetwork(Cubes(), patch_size=PATCH, heads=2)
    patches = PatchMemory(network, np.zeros((1, *SHAPE), np.float32), kept=2)
    for start in (0, 8, 0, 16, 0, 8):
        patches.encoded((0, 0, start))
    assert patches.encodings == 4  # 0, 8, 16, and 8 again


def test_a_mask_that_shrinks_at_a_face_gets_a_patch_of_its_own() -> None:
    """The known patch ends behind voxel 23; what the click takes away goes on there."""
    mask, network = started()
    mask.click([(4, 4, 20)], positive=True)
    mask.click([(4, 4, 24)], positive=True)  # the mask now reaches from 18 to 26
    encoded = mask.patches.encodings
    mask.click([(4, 4, 22)], positive=False)
    assert mask.patches.encodings == encoded + 1
    assert [4, 4, 4] in network.seen[-1]["coords"]  # in the middle of a patch that starts at 18
    np.testing.assert_array_equal(mask.mask, (cube(4, 4, 20) | cube(4, 4, 24)) & ~cube(4, 4, 22))


@pytest.mark.parametrize(("first", "second"), [(2, 0), (4, 1), (4, 6), (5, 7)])
def test_nothing_lies_behind_a_face_at_or_beyond_the_images_end(first: int, second: int) -> None:
    """The patch starts two voxels before the image, with it or one after; a change there asks for no other one."""
    mask, _ = started()
    mask.click([(first, 4, 20)], positive=True)
    mask.click([(second, 4, 20)], positive=True)
    assert mask.patches.encodings == 1
    np.testing.assert_array_equal(mask.mask, cube(first, 4, 20) | cube(second, 4, 20))


def test_a_mask_that_grows_at_a_face_one_voxel_inside_the_image_gets_a_patch_of_its_own() -> None:
    mask, _ = started()
    mask.click([(5, 4, 20)], positive=True)  # the patch starts at voxel 1
    mask.click([(2, 4, 20)], positive=True)
    assert mask.patches.encodings == 2
    np.testing.assert_array_equal(mask.mask, cube(5, 4, 20) | cube(2, 4, 20))


def test_clicks_at_once_are_answered_by_patches_in_one_window_and_rated_by_the_one_that_holds_most() -> None:
    """The window starts at voxel 8; three patches hold one, two and one click, which tells how good they are."""
    mask, network = started(window=(8, 8, 24))
    mask.click([(4, 4, x) for x in (25, 20, 19, 15)], positive=True)
    answers = network.seen[:: 1 + REFINEMENTS]
    assert [answer["coords"] for answer in answers] == [[[4, 4, 3], [4, 4, 4]], [[4, 4, 4]], [[4, 4, 4]]]
    assert [answer["image"][0, 0, 0, 0, 0] - 1 for answer in answers] == [16, 11, 21]
    assert np.flatnonzero(~np.isnan(mask.logits[0, 0])).tolist() == list(range(11, 29))
    assert mask.expected_dice == 1 / 2


class CubesAndCorner(Cubes):
    """Marks the first voxel of every patch as well."""

    def decode(self, image: Tensor, coords: Tensor, **prompt: Any) -> Tensor:
        logits = super().decode(image, coords, **prompt)
        logits[0, 1, 0, 0, 0] = 2 * BACKGROUND
        return logits


@pytest.mark.parametrize(("options", "whole"), [({}, True), ({"one_component": True}, False)])
def test_only_the_first_answer_is_the_clicked_component_and_only_where_it_is_asked_for(
    options: dict[str, bool], whole: bool
) -> None:
    network = PromptedNetwork(CubesAndCorner(), patch_size=PATCH, heads=2)
    asked = [Interaction([(4, 4, 4)], True)]
    mask = correct_window(network, IMAGE, asked, label_head=1, window_size=PATCH, **options)
    made = CorrectableMask(PatchMemory(network, IMAGE), label_head=1, window_size=PATCH, **options)
    made.click([(4, 4, 4)], positive=True)
    corner = cube(4, 4, 4)
    corner[0, 0, 0] = True
    for answered in (mask, made):
        np.testing.assert_array_equal(answered.mask, corner if whole else cube(4, 4, 4))
        answered.click([(4, 4, 3)], positive=True)
        np.testing.assert_array_equal(answered.mask, corner | cube(4, 4, 3))


def test_patches_of_a_window_stay_inside_of_it() -> None:
    network = Cubes()
    asked = [Interaction([(4, 4, 1)], True), Interaction([(4, 4, 38)], True)]
    mask = correct_window(
        PromptedNetwork(network, patch_size=PATCH, heads=2), IMAGE, asked, label_head=1, window_size=PATCH
    )
    assert [network.seen[number]["image"][0, 0, 0, 0, 0] - 1 for number in (0, -1)] == [0, 32]
    assert [network.seen[number]["coords"] for number in (0, -1)] == [[[4, 4, 1]], [[4, 4, 6]]]
    np.testing.assert_array_equal(mask.mask, cube(4, 4, 1) | cube(4, 4, 38))


def test_a_mask_is_where_foreground_is_more_probable() -> None:
    mask, _ = started()
    mask.logits[0, 0, :5] = [-0.2, 0.2, 0.0, np.nan, 3]
    assert mask.mask[0, 0, :5].tolist() == [False, True, False, False, True]
