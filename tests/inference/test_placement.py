"""Windows around prompts: geometry, the prompt channel, votes, growth."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.configuration import WindowResampling
from nnunetv2_promise.inference.growth import MAX_PATCHES, grow, segment_window
from nnunetv2_promise.inference.placement import (
    Window,
    WindowLayout,
    crop_box,
    group_points,
    move_inside,
    overlap,
    place_window,
    to_resampled,
)
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.inference.tile_code import decode_channel, decode_vote, encode_channel, encode_vote


def test_to_resampled_follows_nnunets_resampling() -> None:
    # A bright voxel of the crop is brightest where to_resampled says, in every axis (unequal, so that a swap fails).
    crop = np.zeros((1, 6, 9, 12), np.float32)
    crop[0, 4, 2, 7] = 1
    shape = (18, 27, 12)
    resampled = resample_data_or_seg_to_shape(crop, shape, (3, 3, 1), (1, 1, 1), order=3, force_separate_z=False)
    expected = to_resampled(np.array([[14.0, 22.0, 37.0]]), ((10, 16), (20, 29), (30, 42)), shape)[0]
    assert np.abs(np.array(np.unravel_index(resampled[0].argmax(), shape)) - expected).max() <= 0.5


@given(
    st.tuples(*[st.floats(0, 39) for _ in range(3)]),
    st.tuples(*[st.floats(3, 60) for _ in range(3)]),
)
def test_crop_box_is_inside_and_holds_the_window(centre: tuple[float, ...], extent: tuple[float, ...]) -> None:
    bounds = ((0, 40), (5, 30), (2, 38))
    box = crop_box(np.array(centre), np.array(extent), bounds)
    for (start, stop), (low, high), middle, length in zip(box, bounds, centre, extent, strict=True):
        assert low <= start < stop <= high
        if low <= middle < high:
            assert start <= max(low, middle + 0.5 - length / 2)
            assert stop >= min(high, middle + 0.5 + length / 2)


def test_place_window_puts_the_click_where_training_does() -> None:
    assert place_window(np.array([[10.0, 20.0, 30.0]]), (8, 9, 10)) == (6, 16, 25)
    # nnU-Net: bbox_lbs = selected_voxel - patch_size // 2
    assert place_window(np.array([[0.0, 0.0, 0.0], [10.0, 4.0, 2.0]]), (4, 4, 4)) == (3, 0, -1)


def test_group_points_splits_only_what_does_not_fit() -> None:
    points = np.array([[0, 0, 0], [5, 5, 5], [50, 0, 0], [3, 0, 1]], float)
    groups = group_points(points, np.array([10.0, 10.0, 10.0]))
    assert [len(group) for group in groups] == [3, 1]
    assert len(group_points(points, np.array([100.0, 10.0, 10.0]))) == 1


def test_groups_grow_towards_lower_coordinates_as_towards_higher_ones() -> None:
    points = np.array([[10.0, 0, 0], [6.0, 0, 0], [14.0, 0, 0], [11.0, 0, 0]])
    groups = group_points(points, np.array([5.0, 5.0, 5.0]))
    assert [group[:, 0].tolist() for group in groups] == [[10, 6, 11], [14]]


def test_nobody_votes_where_nothing_was_seen() -> None:
    logit = torch.tensor([[[float("nan"), -40.0, 2.0]]])
    assert encode_vote(logit).tolist() == [[[[0, 512, 512]]], [[[0, 64 * (8 - 30), 64 * (8 + 2)]]]]


@pytest.mark.parametrize(
    ("start", "in_window", "in_array"), [(-2, (2, 4), (0, 2)), (3, (0, 2), (3, 5)), (7, (0, 0), (7, 7))]
)
def test_overlap(start: int, in_window: tuple[int, int], in_array: tuple[int, int]) -> None:
    window, array = overlap([start], [4], [5])
    assert (window[0].start, window[0].stop) == in_window or array[0].start == array[0].stop
    assert np.zeros(4)[window].shape == np.zeros(5)[array].shape
    if array[0].start < array[0].stop:
        assert (array[0].start, array[0].stop) == in_array


def test_layout_survives_pickling_as_a_tuple() -> None:
    windows = [
        Window(label_head=1, box=((2, 5), (0, 4), (3, 9)), resampled_shape=(3, 4, 6), start=(0, 0, 0), size=(4, 4, 4),
               points=((1, 1, 1),)),
        Window(label_head=2, box=((4, 9), (1, 6), (0, 4)), resampled_shape=(5, 5, 4), start=(0, 0, 0), size=(4, 4, 4),
               points=((1, 1, 1),)),
    ]  # fmt: skip
    layout = pickle.loads(pickle.dumps(WindowLayout.around(windows)))
    assert tuple(layout) == (7, 6, 9)
    assert layout.region == ((2, 9), (0, 6), (0, 9))
    assert layout.windows == tuple(windows)
    assert tuple(WindowLayout.around([])) == (1, 1, 1)


@given(st.integers(0, 300), st.integers(1, 5), st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20))
def test_prompt_channel_round_trip(number: int, label_head: int, points: list[tuple[int, ...]]) -> None:
    channel = torch.from_numpy(encode_channel((4, 4, 4), number, label_head, 6, np.array(points)))
    head, decoded = decode_channel(channel, 6)
    assert head == label_head
    assert sorted(map(tuple, decoded.tolist())) == sorted(points)


def test_a_voxel_tells_up_to_255_clicks_on_it() -> None:
    """Every click adds 1/256 to what says window 1, label 2 of 6; one more would say label 3."""
    for clicks, told in ((1, 1), (255, 255), (256, 255), (300, 255)):
        channel = encode_channel((1, 1, 2), 1, 2, 6, np.zeros((clicks, 3)))
        assert channel.tolist() == [[[9 + told / 256, 9]]]
        head, decoded = decode_channel(torch.from_numpy(channel), 6)
        assert (head, decoded.tolist()) == (2, [[0, 0, 0]] * told)


def test_tiles_that_straddle_windows_are_no_prompt() -> None:
    first = encode_channel((4, 3, 3), 0, 1, 2, np.array([[1, 1, 1]]))
    second = encode_channel((4, 3, 3), 1, 1, 2, np.array([[2, 1, 1]]))
    canvas = torch.from_numpy(np.concatenate([first, second]))
    assert decode_channel(canvas[2:6], 2) is None
    assert decode_channel(canvas[:4], 2) is not None
    assert decode_channel(torch.zeros(4, 3, 3), 2) is None


class NearPoint(torch.nn.Module):
    """A known predictor: foreground within a radius of any point, by distance."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, image: torch.Tensor, points: torch.Tensor, **prompt: torch.Tensor) -> torch.Tensor:
        axes = [torch.arange(n, dtype=torch.float32) for n in image.shape[2:]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        distance = (grid[..., None, :] - points[0].float()).norm(dim=-1).amin(-1)
        foreground = (self.radius - distance)[None, None]
        return torch.cat([torch.zeros_like(foreground), foreground], 1)


@pytest.mark.parametrize("step", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("gaussian", [True, False])
def test_votes_survive_nnunets_sliding_window(step: float, gaussian: bool) -> None:
    """The stock averaging, in float16, gives each window's logit back."""
    size, heads = (16, 12, 20), 3
    prompts = [(1, [[8, 6, 10]]), (2, [[3, 2, 15]]), (1, [[12, 9, 4], [2, 2, 2]])]
    channels = [encode_channel(size, i, head, heads, np.array(p)) for i, (head, p) in enumerate(prompts)]
    data = torch.stack([torch.zeros(48, 12, 20), torch.from_numpy(np.concatenate(channels))])
    network = PromptedNetwork(NearPoint(4), patch_size=size, heads=heads)
    total = torch.zeros((2, *data.shape[1:]), dtype=torch.half)
    count = torch.zeros(data.shape[1:], dtype=torch.half)
    weight = compute_gaussian(size, 1 / 8, 10, device=torch.device("cpu")) if gaussian else 1
    for start in compute_steps_for_sliding_window(data.shape[1:], size, step)[0]:
        tile = slice(start, start + size[0])
        total[:, tile] += network(data[None, :, tile])[0] * weight
        count[tile] += weight
    total /= count
    for i, (_, points) in enumerate(prompts):
        expected = segment_window(NearPoint(4), torch.zeros(1, *size), torch.tensor(points), size).numpy()
        got = decode_vote(total[:, i * 16 : (i + 1) * 16].numpy())
        mistaken = (got > 0) != (expected > 0)
        assert not mistaken[np.abs(expected) > 0.1].any()
        assert np.median(np.abs(got - expected.clip(-30, 30))) < 0.02


def test_window_without_a_tile_is_an_error_not_an_empty_mask() -> None:
    with pytest.raises(UserError, match="step_size"):
        decode_vote(np.zeros((2, 4, 4, 4), np.float16))


def compose(votes: np.ndarray, windows: list[Window], heads: int) -> MaskComposition:
    layout = WindowLayout.around(windows)
    return WindowResampling(lambda data, *_: data)(votes, layout, (1, 1, 1), (1, 1, 1)).compose(heads, keep_logits=True)


def test_overlapping_windows_take_the_most_probable_label() -> None:
    size = (4, 4, 4)
    boxes = [((0, 4), (0, 4), (0, 4)), ((0, 4), (0, 4), (2, 6))]
    windows = [
        Window(label_head=head, box=box, resampled_shape=size, start=(0, 0, 0), size=size, points=((1, 1, 1),))
        for head, box in zip((1, 2), boxes, strict=True)
    ]
    logits = [torch.full(size, 1.0), torch.full(size, 2.0)]
    logits[1][0] = -5
    composed = compose(torch.cat([encode_vote(z) for z in logits], dim=1).numpy(), windows, 3)
    labels = composed.labels
    assert np.array_equal(labels, composed.logits.argmax(0))
    assert (labels[1:, :, :2] == 1).all()
    assert (labels[1:, :, 2:] == 2).all()
    assert (labels[0, :, :4] == 1).all()
    assert (labels[0, :, 4:] == 0).all()


def test_of_equally_probable_labels_the_first_one_counts() -> None:
    """Whatever was added first; where nothing is more probable than background, no label counts."""
    place, logit = (slice(0, 1),) * 3, np.array([[[0.25]]], np.float32)
    for heads in ((1, 2), (2, 1)):
        composed = MaskComposition((2, 2, 2), 3, keep_logits=True)
        for head in heads:
            composed.add(head, place, logit)
        assert composed.labels[0, 0, 0] == 1
        assert composed.labels.sum() == 1
        expected = np.exp([0, 0.25, 0.25]) / (1 + 2 * np.exp(0.25))
        np.testing.assert_allclose(composed.probabilities()[:, 0, 0, 0], expected, rtol=1e-6)
        composed.add(1, (slice(1, 2),) * 3, np.zeros((1, 1, 1), np.float32))
        assert composed.labels[1, 1, 1] == 0
    with pytest.raises(ValueError, match="keep_logits=True"):
        MaskComposition((2, 2, 2), 3).probabilities()


@pytest.mark.parametrize(("heads", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_label_maps_take_one_byte_as_long_as_labels_fit(heads: int, dtype: type) -> None:
    composed = MaskComposition((1, 1, 1), heads)
    composed.add(heads - 1, (slice(None),) * 3, np.ones((1, 1, 1), np.float32))
    assert composed.labels.dtype == dtype
    assert composed.labels[0, 0, 0] == heads - 1


def test_no_windows_give_background() -> None:
    assert compose(np.zeros((2, 8, 8, 8)), [], 2).labels.max() == 0


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


def recorded(answer_of: Callable[[tuple[int, ...]], float]) -> tuple[list, Callable[..., torch.Tensor]]:
    """A network on patches of 4 x 4 x 4 whose logit is the same in all of a patch, and what it is asked."""
    asked: list[tuple[tuple[int, ...], torch.Tensor]] = []

    def answer(start: tuple[int, ...], clicks: torch.Tensor) -> torch.Tensor:
        asked.append((start, clicks))
        logit = torch.full((4, 4, 4), answer_of(start))
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


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_growth_looks_behind_both_faces_of_each_axis(axis: int) -> None:
    """A window of unequal lengths; the object is a bar along one axis, so that no other patch is needed."""
    size = [8, 10, 12]
    bar = torch.full(size, -1.0)
    where = [slice(4, 5), slice(5, 6), slice(6, 7)]
    where[axis] = slice(None)
    bar[tuple(where)] = 1.0
    starts = []

    def answer(start: tuple[int, ...], clicks: torch.Tensor) -> torch.Tensor:
        starts.append(start)
        patch = bar[tuple(slice(s, s + 4) for s in start)]
        assert (patch[tuple(clicks.T)] > 0).all()
        return torch.stack([torch.zeros_like(patch), patch])

    logit = grow(answer, torch.tensor([[4, 5, 6]]), size, (4, 4, 4))
    assert torch.equal(logit > 0, bar > 0)
    assert {start[axis] for start in starts} >= {0, size[axis] - 4}
    others = [number for number in range(3) if number != axis]
    assert {tuple(start[number] for number in others) for start in starts} == {
        tuple(size[number] // 2 - 2 for number in others)
    }


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
    shorter = grow(answer, torch.tensor([[1, 2, 3]]), (4, 5, 7), (4, 4, 4))
    assert asked[-1][0] == (0, 0, 1)
    assert torch.equal(~shorter.isnan(), torch.nn.functional.pad(torch.ones(4, 4, 4), (1, 2, 0, 1)) > 0)


@pytest.mark.parametrize(("x", "start"), [(6, 5), (8, 5), (5, 3), (9, 7), (1, 0), (13, 10)])
def test_no_patch_is_central_where_clicks_lie_more_than_a_quarter_of_it_off_the_middle(x: int, start: int) -> None:
    """The middle is voxel 7 of 14; a patch has four voxels."""
    asked, answer = recorded(lambda place: -1.0)
    grow(answer, torch.tensor([[2, 2, x]]), (4, 4, 14), (4, 4, 4))
    assert [(place, clicks.tolist()) for place, clicks in asked] == [((0, 0, start), [[2, 2, x - start]])]


@pytest.mark.parametrize(("clicks", "start"), [((1, 3), 0), ((3, 1), 1), ((13, 11), 10), ((11, 12), 9)])
def test_of_clicks_off_the_middle_the_first_one_gets_the_patch(clicks: tuple[int, int], start: int) -> None:
    asked, answer = recorded(lambda place: -1.0)
    grow(answer, torch.tensor([[2, 2, x] for x in clicks]), (4, 4, 14), (4, 4, 4))
    assert [(place[2], told[:, 2].tolist()) for place, told in asked] == [(start, [x - start for x in clicks])]


@pytest.mark.parametrize(
    ("start", "size", "shape", "expected"),
    [((-1, 0, 1), (4, 4, 4), (9, 9, 9), (0, 0, 1)), ((5, 6, 8), (4, 4, 4), (9, 9, 9), (5, 5, 5)),
     ((3, 3, 3), (9, 10, 8), (9, 9, 5), (0, -1, -2)), ((0, 1, 2), (4, 4, 4), (4, 5, 6), (0, 1, 2))],
)  # fmt: skip
def test_move_inside_by_hand(start: tuple, size: tuple, shape: tuple, expected: tuple) -> None:
    assert move_inside(start, size, shape) == expected


def test_crop_box_holds_no_more_than_the_window_and_a_margin() -> None:
    """Voxels 4 to 11 are the window around the middle of voxel 8; four more on each side are for interpolation."""
    bounds = ((0, 99), (2, 99), (0, 14))
    assert crop_box(np.array([30.0, 8.0, 8.0]), np.array([8.0, 8.0, 8.0]), bounds) == ((22, 39), (2, 17), (0, 14))
