"""From clicks to a mask, patch by patch: which patches are asked, with which clicks, and when growth ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunetv2_promise.inference.growth import MAX_PATCHES, grow, segment_window


class SeesBall(torch.nn.Module):
    """Foreground where the image is bright, but only in the part connected to a prompted patch: the patch itself."""

    calls = 0

    def forward(self, image: torch.Tensor, points: torch.Tensor, **prompt: torch.Tensor) -> torch.Tensor:
        type(self).calls += 1
        assert (points >= 0).all()
        assert (points < torch.tensor(image.shape[2:])).all()
        assert image[0, 0][tuple(points[0].T)].gt(0).all(), "a patch was prompted off the object"
        foreground = image[:, :1]
        return torch.cat([-foreground, foreground], 1)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(12, 27) for _ in range(3)]), st.tuples(*[st.integers(4, 13) for _ in range(3)]))
def test_growth_covers_objects_larger_than_a_patch(centre: tuple[int, ...], radii: tuple[int, ...]) -> None:
    grid = np.indices((40, 40, 40))
    ball = sum(((grid[i] - centre[i]) / radii[i]) ** 2 for i in range(3)) <= 1
    image = torch.from_numpy(np.where(ball, 1.0, -1.0).astype(np.float32))[None]
    if not ball[20, 20, 20]:
        return
    SeesBall.calls = 0
    logit = segment_window(SeesBall(), image, torch.tensor([[20, 20, 20]]), (16, 16, 16))
    covered = logit.numpy() > 0
    assert not (covered & ~ball).any()
    assert (covered == ball).mean() > 0.999
    assert SeesBall.calls <= 27


def test_small_objects_need_one_patch_and_the_rest_is_background() -> None:
    image = torch.full((1, 24, 24, 24), -1.0)
    image[0, 10:14, 10:14, 10:14] = 1
    SeesBall.calls = 0
    logit = segment_window(SeesBall(), image, torch.tensor([[12, 12, 12]]), (16, 16, 16))
    assert SeesBall.calls == 1
    assert logit[:4].isnan().all()


def test_far_clicks_get_their_own_patches() -> None:
    image = torch.full((1, 40, 40, 40), -1.0)
    image[0, 2:5, 2:5, 2:5] = 1
    image[0, 35:38, 35:38, 35:38] = 1
    logit = segment_window(SeesBall(), image, torch.tensor([[3, 3, 3], [36, 36, 36]]), (16, 16, 16))
    assert torch.equal(logit > 0, image[0] > 0)


def recorded(
    answer_of: Callable[[tuple[int, ...]], float], patch: Sequence[int] = (4, 4, 4)
) -> tuple[list, Callable[..., torch.Tensor]]:
    """A network whose logit is the same in all of a patch, and what it is asked."""
    asked: list[tuple[tuple[int, ...], torch.Tensor]] = []

    def answer(start: tuple[int, ...], clicks: torch.Tensor) -> torch.Tensor:
        asked.append((start, clicks))
        logit = torch.full(tuple(patch), answer_of(start))
        return torch.stack([torch.full_like(logit, 0.5), logit + 0.5])

    return asked, answer


def test_growth_goes_half_a_patch_further_on_with_clicks_on_the_mask() -> None:
    asked, answer = recorded(lambda start: 1.0 + start[2])
    logit = grow(answer, torch.tensor([[1, 2, 6]]), (4, 4, 12), (4, 4, 4))
    assert [start for start, _ in asked] == [(0, 0, 4), (0, 0, 2), (0, 0, 6), (0, 0, 0), (0, 0, 8)]
    assert asked[0][1].tolist() == [[1, 2, 2]]
    # Voxels of the mask that both patches hold, ten of 32 from the first to the last: in the new patch's coordinates.
    below, above = asked[1][1], asked[2][1]
    assert (len(below), len(above)) == (10, 10)
    assert (below[0].tolist(), below[-1].tolist()) == ([0, 0, 2], [3, 3, 3])
    assert (above[0].tolist(), above[-1].tolist()) == ([0, 0, 0], [3, 3, 1])
    # Patches start at 0, 2, ... 8 and say 1, 3, ... 9; where two overlap, their mean counts.
    assert logit[0, 0].tolist() == [1, 1, 2, 2, 4, 4, 6, 6, 8, 8, 9, 9]


@pytest.mark.parametrize(
    ("axis", "part", "asked"),
    [
        (0, slice(None), [3, 1, 5, 0, 6]),
        (1, slice(None), [5, 3, 7, 1, 9, 0, 10]),
        (2, slice(None), [7, 5, 9, 3, 11, 1, 13, 0, 14]),
        (0, slice(6), [3, 1, 0]),
        (1, slice(8), [5, 3, 1, 0]),
        (2, slice(9, None), [7, 9, 11, 13, 14]),
    ],
)
def test_growth_follows_the_mask_behind_both_faces_of_each_axis(axis: int, part: slice, asked: list[int]) -> None:
    """A window of unequal lengths; the object is a bar along one axis. What a patch has seen is not looked at again."""
    size = [10, 14, 18]
    bar = torch.full(size, -1.0)
    where = [slice(5, 6), slice(7, 8), slice(9, 10)]
    where[axis] = part
    bar[tuple(where)] = 1.0
    starts = []

    def answer(start: tuple[int, ...], clicks: torch.Tensor) -> torch.Tensor:
        starts.append(start)
        patch = bar[tuple(slice(s, s + 4) for s in start)]
        assert (patch[tuple(clicks.T)] > 0).all()
        return torch.stack([torch.zeros_like(patch), patch])

    logit = grow(answer, torch.tensor([[5, 7, 9]]), size, (4, 4, 4))
    assert torch.equal(logit > 0, bar > 0)
    expected = []
    for place in asked:
        expected.append([3, 5, 7])
        expected[-1][axis] = place
    assert [list(start) for start in starts] == expected


def test_growth_goes_on_from_a_patch_at_the_windows_border() -> None:
    asked, answer = recorded(lambda start: 1.0)
    grow(answer, torch.tensor([[1, 2, 1]]), (4, 4, 10), (4, 4, 4))
    assert [start[2] for start, _ in asked] == [0, 2, 4, 6]


def test_a_step_that_the_windows_border_shortens_keeps_its_clicks_on_the_mask() -> None:
    """The patch in the middle starts at voxel 1, so the one below it lies one voxel lower and shares three planes."""
    asked, answer = recorded(lambda start: 1.0)
    grow(answer, torch.tensor([[1, 2, 3]]), (4, 4, 7), (4, 4, 4))
    assert [start[2] for start, _ in asked] == [1, 0, 3]
    below, above = asked[1][1], asked[2][1]
    assert (below[0].tolist(), below[-1].tolist()) == ([0, 0, 1], [3, 3, 3])
    assert (above[0].tolist(), above[-1].tolist()) == ([0, 0, 0], [3, 3, 1])


@pytest.mark.parametrize(("foreground", "patches"), [(-1.0, 1), (0.0, 1), (0.25, 5), (2.0, 5)])
def test_growth_starts_where_foreground_is_more_probable_than_background(foreground: float, patches: int) -> None:
    asked, answer = recorded(lambda start: foreground)
    grow(answer, torch.tensor([[1, 2, 6]]), (4, 4, 12), (4, 4, 4))
    assert len(asked) == patches


def test_growth_ends_after_so_many_patches() -> None:
    asked, answer = recorded(lambda start: 1.0)
    logit = grow(answer, torch.tensor([[1, 2, 80]]), (4, 4, 160), (4, 4, 4))
    assert len(asked) == MAX_PATCHES == 27
    assert logit.isnan().any()


def test_clicks_outside_of_the_central_patch_get_patches_that_stay_in_the_window() -> None:
    asked, answer = recorded(lambda start: -1.0)
    points = torch.tensor([[0, 0, 6], [0, 0, 9], [0, 0, 10], [0, 0, 0], [3, 3, 13], [0, 0, 5]])
    grow(answer, points, (4, 4, 14), (4, 4, 4))
    assert [(start[2], clicks[:, 2].tolist()) for start, clicks in asked] == [
        (5, [1, 0]), (7, [2, 3]), (0, [0]), (10, [3]),
    ]  # fmt: skip
    for x in (2, 3, 4):  # the middle is voxel 3 of 7
        shorter = grow(answer, torch.tensor([[1, 2, x]]), (4, 5, 7), (4, 4, 4))
        assert asked[-1][0] == (0, 0, 1)
        assert torch.equal(~shorter.isnan(), torch.nn.functional.pad(torch.ones(4, 4, 4), (1, 2, 0, 1)) > 0)


@pytest.mark.parametrize(("x", "start"), [(6, 5), (8, 5), (5, 3), (9, 7), (1, 0), (13, 10)])
def test_no_patch_is_central_where_clicks_lie_more_than_a_quarter_of_it_off_the_middle(x: int, start: int) -> None:
    """The middle is voxel 7 of 14; a patch has four voxels."""
    asked, answer = recorded(lambda place: -1.0)
    grow(answer, torch.tensor([[2, 2, x]]), (4, 4, 14), (4, 4, 4))
    assert [(place, clicks.tolist()) for place, clicks in asked] == [((0, 0, start), [[2, 2, x - start]])]


@pytest.mark.parametrize(("clicks", "start"), [((8, 9), 4), ((9, 8), 4), ((9,), 6), ((10, 8), 7), ((5,), 2), ((6,), 4)])
def test_a_quarter_of_a_patch_and_the_middle_of_clicks_may_be_half_voxels(clicks: tuple[int, ...], start: int) -> None:
    """A quarter of six voxels is 1.5; the middle is voxel 7 of 14."""
    asked, answer = recorded(lambda place: -1.0, (4, 4, 6))
    grow(answer, torch.tensor([[2, 2, x] for x in clicks]), (4, 4, 14), (4, 4, 6))
    assert [(place[2], told[:, 2].tolist()) for place, told in asked] == [(start, [x - start for x in clicks])]


@pytest.mark.parametrize(("clicks", "start"), [((1, 3), 0), ((3, 1), 1), ((13, 11), 10), ((11, 12), 9), ((8, 9), 6)])
def test_of_clicks_off_the_middle_the_first_one_gets_the_patch(clicks: tuple[int, int], start: int) -> None:
    asked, answer = recorded(lambda place: -1.0)
    grow(answer, torch.tensor([[2, 2, x] for x in clicks]), (4, 4, 14), (4, 4, 4))
    assert [(place[2], told[:, 2].tolist()) for place, told in asked] == [(start, [x - start for x in clicks])]
