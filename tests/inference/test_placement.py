"""Windows around prompts: geometry, the prompt channel, votes, and the label map that they make."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.configuration import WindowResampling
from nnunetv2_promise.inference.growth import segment_window
from nnunetv2_promise.inference.placement import (
    Window,
    WindowLayout,
    centre_inside,
    crop_box,
    group_points,
    move_inside,
    overlap,
    place_window,
    to_resampled,
)
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.inference.tile_code import (
    VOTE_CHANNELS,
    decode_channel,
    decode_vote,
    encode_channel,
    encode_vote,
)


def test_to_resampled_follows_nnunets_resampling() -> None:
    # A bright voxel of the crop is brightest where to_resampled says, in every axis (unequal, so that a swap fails).
    crop = np.zeros((1, 6, 9, 12), np.float32)
    crop[0, 4, 2, 7] = 1
    shape = (18, 27, 12)
    resampled = resample_data_or_seg_to_shape(crop, shape, (3, 3, 1), (1, 1, 1), order=3, force_separate_z=False)
    expected = to_resampled(np.array([[14.0, 22.0, 37.0]]), ((10, 16), (20, 29), (30, 42)), shape)[0]
    assert np.abs(np.array(np.unravel_index(resampled[0].argmax(), shape)) - expected).max() <= 0.5


def test_voxels_are_mapped_edge_to_edge() -> None:
    """Six voxels become 18, nine become three, four become six: a voxel's middle lies half a voxel behind its edge."""
    points = np.array([[12.0, 24.0, 30.0], [9.5, 19.5, 33.5]])
    expected = [[2.5 * 3 - 0.5, 4.5 / 3 - 0.5, 0.5 * 1.5 - 0.5], [-0.5, -0.5, 5.5]]
    np.testing.assert_allclose(to_resampled(points, ((10, 16), (20, 29), (30, 34)), (18, 3, 6)), expected)


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
    assert place_window(np.array([[0, 2, 4], [3, 7, 5]]), (4, 4, 5)) == (2 - 2, 5 - 2, 5 - 2)  # half voxels round up


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
    assert len(encode_vote(logit)) == VOTE_CHANNELS  # as many as the network answers where no window is


@pytest.mark.parametrize(
    ("start", "in_window", "in_array"),
    [(-2, (2, 4), (0, 2)), (3, (0, 2), (3, 5)), (7, (0, 0), (7, 7)), (-6, (6, 6), (0, 0))],
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
    assert layout.place(windows[0]) == (slice(0, 3), slice(0, 4), slice(3, 9))
    assert layout.place(windows[1]) == (slice(2, 7), slice(1, 6), slice(0, 4))
    assert tuple(WindowLayout.around([])) == (1, 1, 1)


@given(st.integers(0, 300), st.integers(1, 5), st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20))
def test_prompt_channel_round_trip(number: int, label_head: int, points: list[tuple[int, ...]]) -> None:
    channel = torch.from_numpy(encode_channel((4, 4, 4), number, label_head, 6, np.array(points)))
    head, decoded = decode_channel(channel, 6)
    assert head == label_head
    assert sorted(map(tuple, decoded.tolist())) == sorted(points)


def test_a_voxel_tells_up_to_255_clicks_on_it() -> None:
    """Every click adds 1/256 to what says window 1, label 2 of 6; one more would say label 3."""
    for clicks, told, window in ((1, 1, 1), (255, 255, 3), (256, 255, 5), (300, 255, 1)):  # odd ones say the same
        channel = encode_channel((1, 1, 2), window, 2, 6, np.zeros((clicks, 3)))
        assert channel.tolist() == [[[9 + told / 256, 9]]]
        head, decoded = decode_channel(torch.from_numpy(channel), 6)
        assert (head, decoded.tolist()) == (2, [[0, 0, 0]] * told)


def test_tiles_that_straddle_windows_are_no_prompt() -> None:
    first = encode_channel((4, 3, 3), 0, 1, 2, np.array([[1, 1, 1]]))
    second = encode_channel((4, 3, 3), 1, 1, 2, np.array([[2, 1, 1]]))
    canvas = torch.from_numpy(np.concatenate([first, second, first]))
    assert decode_channel(canvas[2:6], 2) is None
    assert decode_channel(canvas[6:10], 2) is None
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


def test_a_less_probable_label_takes_no_voxel_that_another_one_holds() -> None:
    for weaker, stronger in ((1, 2), (2, 1)):
        composed = MaskComposition((1, 1, 1), 3)
        for head, logit in ((weaker, 0.5), (stronger, 0.75), (weaker, 0.25), (weaker, 0.5)):
            composed.add(head, (slice(None),) * 3, np.full((1, 1, 1), logit, np.float32))
        assert composed.labels.item() == stronger
        assert composed.best.item() == 0.75


@pytest.mark.parametrize(("heads", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_label_maps_take_one_byte_as_long_as_labels_fit(heads: int, dtype: type) -> None:
    composed = MaskComposition((1, 1, 1), heads)
    composed.add(heads - 1, (slice(None),) * 3, np.ones((1, 1, 1), np.float32))
    assert composed.labels.dtype == dtype
    assert composed.labels[0, 0, 0] == heads - 1


def test_no_windows_give_background() -> None:
    assert compose(np.zeros((2, 8, 8, 8)), [], 2).labels.max() == 0


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
    odd = crop_box(np.array([30.5, 8.0, 8.0]), np.array([7.0, 8.0, 8.0]), ((0, 99), (3, 98), (0, 14)))
    assert odd[0] == (31 - 4 - 4, 31 + 4 + 4)  # a window from 27.5 to 34.5, counted from voxels' edges


def test_crop_box_beyond_the_scan_is_its_nearest_voxel() -> None:
    bounds = ((0, 99), (2, 99), (0, 14))
    assert crop_box(np.array([120.0, -20.0, 14.0]), np.array([8.0, 8.0, 8.0]), bounds) == ((98, 99), (2, 3), (6, 14))


def test_a_centre_moves_no_further_than_to_where_its_window_lies_inside() -> None:
    """The scan reaches from half a voxel before its first to half a voxel behind its last one."""
    extent, bounds = np.array([8.0, 7.0, 5.0]), ((10, 16), (100, 124), (40, 60))
    for centre, expected in (
        ((3.0, 110.0, 50.0), (12.5, 110.0, 50.0)),  # six voxels are shorter than the window: their middle
        ((50.0, 90.0, 70.0), (12.5, 99.5 + 3.5, 59.5 - 2.5)),
        ((12.0, 130.0, 10.0), (12.5, 123.5 - 3.5, 39.5 + 2.5)),
    ):
        assert centre_inside(np.array(centre), extent, bounds).tolist() == list(expected)
