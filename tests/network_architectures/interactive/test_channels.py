"""The interaction channels against nnInteractive's own code, and by hand."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_promise.network_architectures.interactive.channels import (
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
    click,
    empty_channels,
    first_positive_points,
    point_ball,
    zoomed_ball,
)


def test_point_ball_equals_nninteractives():
    point = pytest.importorskip("nnInteractive.interaction.point", reason="nninteractive is not installed")
    torch.testing.assert_close(point_ball(), point.build_point((4, 4, 4), True, False).float())


def test_point_ball_has_one_middle_and_fades():
    ball = point_ball()
    assert ball.shape == (9, 9, 9)
    assert ball[4, 4, 4] == 1
    assert (ball == 1).sum() == 1
    assert ball[0, 0, 0] == 0  # a corner is outside of the ball
    assert (ball[4, 4, 4:].diff() < 0).all()


def test_click_fades_older_ones_but_not_the_mask_and_overlaps_by_maximum():
    channels = empty_channels(1, (12, 12, 12))[0]
    channels[PREVIOUS_MASK] = 1
    click(channels, (5, 5, 5), positive=True)
    click(channels, (5, 5, 6), positive=True)
    click(channels, (2, 2, 2), positive=False)
    assert channels[PREVIOUS_MASK].min() == 1
    assert channels[NEGATIVE_POINTS, 2, 2, 2] == 1
    assert channels[POSITIVE_POINTS, 5, 5, 6] == pytest.approx(0.98)
    assert channels[POSITIVE_POINTS, 5, 5, 5] == pytest.approx(0.98**2)  # above the second ball's value there
    assert not channels[[1, 2, 5, 6]].any()


def test_click_is_cut_at_the_border_and_left_out_outside():
    channels = empty_channels(1, (8, 8, 8))[0]
    click(channels, (0, 0, 0), positive=True)
    torch.testing.assert_close(channels[POSITIVE_POINTS, :5, :5, :5], point_ball()[4:, 4:, 4:])
    click(channels, (30, 0, 0), positive=True)
    assert channels[POSITIVE_POINTS].max() == pytest.approx(0.98)


def test_first_positive_points_is_the_oldest_click():
    channels = empty_channels(3, (16, 16, 16))
    click(channels[0], (3, 3, 3), positive=True)
    click(channels[0], (12, 12, 12), positive=True)
    click(channels[0], (8, 8, 8), positive=False)
    click(channels[1], (8, 8, 8), positive=False)
    click(channels[2], (-1, 8, 8), positive=True)  # cut by the border: its brightest voxel is a peak
    assert first_positive_points(channels).tolist() == [3 * 256 + 3 * 16 + 3, -1, 8 * 16 + 8]


def _shrunk_by_the_engine(zoom: float, size: int, point: int) -> torch.Tensor:
    """Positive points as nnInteractive's engine shrinks them, from a click on the diagonal of the large patch."""
    pool = pytest.importorskip("nnInteractive.utils.erosion_dilation", reason="nninteractive is not installed")
    rounding = pytest.importorskip("nnInteractive.utils.rounding")
    channels = empty_channels(1, [round(size * zoom)] * 3)
    click(channels[0], [point] * 3, positive=True)
    points = channels[:, POSITIVE_POINTS, None]
    grown = pool.iterative_3x3_same_padding_pool3d(points, rounding.round_to_nearest_odd(2 * zoom - 1))
    return torch.nn.functional.interpolate(grown, [size] * 3, mode="area")[0, 0]


def test_zoomed_ball_is_what_the_engine_makes_of_a_point_in_the_middle_of_a_shrunk_voxel():
    shrunk = _shrunk_by_the_engine(3, 15, 3 * 7 + 1)
    channels = empty_channels(1, (15, 15, 15))[0]
    click(channels, (7, 7, 7), positive=True, ball=zoomed_ball(3))
    torch.testing.assert_close(channels[POSITIVE_POINTS], shrunk)


@pytest.mark.parametrize("zoom", [1.5, 2.25, 3.375, 4.0])
def test_zoomed_ball_is_near_to_what_the_engine_makes_of_points_anywhere(zoom):
    made = [_shrunk_by_the_engine(zoom, 16, round(16 * zoom) // 2 + shift) for shift in range(5)]
    ball = zoomed_ball(zoom)
    assert len(ball) % 2 == 1
    assert float(ball.sum()) == pytest.approx(sum(float(one.sum()) for one in made) / len(made), rel=0.15)
    assert float(ball.max()) == pytest.approx(max(float(one.max()) for one in made), abs=0.1)


def test_zoomed_ball_without_zoom_is_the_ball():
    torch.testing.assert_close(zoomed_ball(1), point_ball())
