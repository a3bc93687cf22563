"""Windows cut from a scan, by hand: extents, groups of clicks, edges, and the voxels that a window holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack

from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.correction_window import cut_around_all
from nnunetv2_promise.inference.window_cutting import WindowCutter, window_voxels

COUNTED = np.arange(1, 1 + 20 * 24 * 28, dtype=np.float32).reshape(1, 20, 24, 28)
"""Every voxel has a value of its own, none is 0."""


def make_cutter(
    data: np.ndarray = COUNTED,
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    target: Sequence[float] = (1.0, 1.0, 1.0),
    transpose: Sequence[int] = (0, 1, 2),
    scheme: str = "NoNormalization",
    with_mask: bool = False,
    resample: Callable[..., np.ndarray] = no_resampling_hack,
    **configuration: Any,
) -> WindowCutter:
    plans = SimpleNamespace(transpose_forward=list(transpose), foreground_intensity_properties_per_channel={"0": {}})
    made = SimpleNamespace(
        configuration=configuration,
        spacing=list(target),
        normalization_schemes=[scheme],
        use_mask_for_norm=[with_mask],
        resampling_fn_data=resample,
    )
    return WindowCutter(data, {"spacing": list(spacing)}, plans, made)


def clicks(*points_zyx: Sequence[float]) -> VoxelPrompt:
    return VoxelPrompt(label_head=2, points_zyx=np.array(points_zyx, float), name="object")


def test_models_that_keep_voxels_cut_windows_in_the_scans_own_voxels() -> None:
    """The plans' spacing is the median of other scans; this scan's differs, and nothing is resampled."""
    cutter = make_cutter(target=(4.0, 2.0, 0.5), resampling_fn_data="no_resampling_hack")
    window, image = cutter.cut(np.array([[9.0, 11.0, 13.0]]), (8, 8, 8), label_head=1)
    assert window.points == ((4, 4, 4),)
    assert image.shape == (1, 8, 8, 8)
    np.testing.assert_array_equal(image[0], COUNTED[0, 5:13, 7:15, 9:17])


def test_extent_is_that_of_the_networks_grid_in_voxels_of_the_scan() -> None:
    cutter = make_cutter(spacing=(2.0, 1.0, 0.5), target=(1.0, 1.0, 1.5))
    np.testing.assert_allclose(cutter.extent((8, 8, 8)), [4, 8, 24])
    assert cutter.shape == (20, 24, 28)
    assert cutter.spacing_mm.tolist() == [2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("first", "second", "groups"),
    # Voxels of 2 mm along axis 0: 8 voxels of the network's grid reach 7 mm, so 3 voxels of the scan fit and 4 do not.
    [((4, 5, 5), (7, 5, 5), 1), ((4, 5, 5), (8, 5, 5), 2), ((4, 5, 5), (4, 12, 5), 1), ((4, 5, 5), (4, 13, 5), 2)],
)
def test_clicks_share_a_window_where_both_fit_into_it(
    first: tuple[int, ...], second: tuple[int, ...], groups: int
) -> None:
    cutter = make_cutter(spacing=(2.0, 1.0, 1.0))
    found = cutter.groups(clicks(first, second), (8, 8, 8))
    assert len(found) == groups
    assert np.concatenate(found).tolist() == [list(first), list(second)]
    for group in found:
        window, _ = make_cutter().cut(group, (8, 8, 8), label_head=1)
        assert len(set(window.points)) == len(group)


def test_groups_follow_the_axes_of_the_network() -> None:
    """The scan's last axis comes first: there 8 voxels of 0.5 mm reach 3.5 mm of the scan's 2 mm voxels."""
    cutter = make_cutter(spacing=(1.0, 1.0, 2.0), target=(1.0, 1.0, 1.0), transpose=(2, 0, 1))
    assert cutter.spacing_mm.tolist() == [2.0, 1.0, 1.0]
    (group,) = cutter.groups(clicks((3, 4, 5), (3, 4, 8)), (8, 8, 8))
    assert group.tolist() == [[5, 3, 4], [8, 3, 4]]
    assert len(cutter.groups(clicks((3, 4, 5), (3, 4, 9)), (8, 8, 8))) == 2


def test_clicks_beyond_a_windows_edge_are_moved_to_it() -> None:
    resampled = np.array([[-3.2, 4.4, 9.6], [0.49, 5.5, 6.5], [0.5, 2.0, 3.0]])
    assert window_voxels(resampled, (0, 2, 3), (4, 4, 4)) == [(0, 2, 3), (0, 3, 3), (1, 0, 0)]
    cutter = make_cutter()
    window, _ = cutter.cut(np.array([[10.0, 12.0, 14.0]]), (8, 8, 8), label_head=1)
    assert window.start == (10 - 6, 12 - 8, 14 - 10)  # of the crop, which starts four voxels before the window
    assert cutter.in_window(clicks((10, 12, 14), (7, 15.4, 30), (0, 0, 13.5)), window) == [
        (4, 4, 4),
        (1, 7, 7),
        (0, 0, 4),
    ]


def test_padding_is_where_all_clicks_lie_in_zeros() -> None:
    data = np.zeros((1, 12, 14, 16), np.float32)
    data[0, 2:6, 3:7, 4:8] = -5  # as air in CT
    data[0, 3:5, 4:6, 5:7] = 1
    for with_mask in (False, True):
        cutter = make_cutter(data, with_mask=with_mask)
        assert cutter.bounds == ((2, 6), (3, 7), (4, 8))
        for inside in ((2, 3, 4), (5, 6, 7), (1.5, 3, 4), (5.4, 6, 7)):
            assert not cutter.in_padding(clicks(inside)), inside
        for outside in ((1, 3, 4), (6, 3, 4), (2, 2, 4), (2, 7, 4), (2, 3, 3), (2, 3, 8), (1.4, 3, 4)):
            assert cutter.in_padding(clicks(outside)), outside
            assert not cutter.in_padding(clicks(outside, (3, 4, 5)))
    assert make_cutter(np.zeros((1, 3, 4, 5), np.float32)).bounds == ((0, 3), (0, 4), (0, 5))


def test_clicks_are_the_nearest_voxels_in_the_networks_axes() -> None:
    cutter = make_cutter(transpose=(1, 2, 0))
    assert cutter.clicks(clicks((3.4, 4.5, 5.6), (-0.5, 23.4, 27.5))).tolist() == [[5, 6, 3], [23, 27, 0]]


def test_window_is_cut_from_the_content_and_zero_beyond_it() -> None:
    """Transposed, with a border of zeros that is cut off, at the corner of the scan."""
    data = COUNTED.copy()
    data[:, :3] = data[:, :, -2:] = 0
    cutter = make_cutter(data, transpose=(2, 0, 1))
    assert cutter.bounds == ((0, 28), (3, 20), (0, 22))
    window, image = cutter.cut(np.array([[27.0, 3.0, 21.0]]), (6, 8, 4), label_head=3, name="object")
    assert (window.label_head, window.name, window.size) == (3, "object", (6, 8, 4))
    assert not window.corrected
    assert window.points == ((3, 4, 2),)
    expected = np.zeros((6, 8, 4), np.float32)
    turned = data[0].transpose(2, 0, 1)
    expected[:4, 4:, :3] = turned[24:28, 3:7, 19:22]
    np.testing.assert_array_equal(image[0], expected)


def test_a_window_lies_around_the_middle_of_its_clicks_half_voxels_round_up() -> None:
    window, image = make_cutter().cut(np.array([[9.0, 11.0, 13.0], [10.0, 13.0, 16.0]]), (8, 8, 9), label_head=1)
    assert window.points == ((3, 3, 2), (4, 5, 5))
    np.testing.assert_array_equal(image[0], COUNTED[0, 6:14, 8:16, 11:20])


def test_crop_is_resampled_from_the_scans_spacing_to_the_networks() -> None:
    asked: list[Any] = []

    def resample(data: np.ndarray, shape: Sequence[int], old: np.ndarray, new: np.ndarray) -> np.ndarray:
        asked.append((tuple(shape), list(old), list(new)))
        return data.repeat(2, axis=1)

    cutter = make_cutter(spacing=(2.0, 1.0, 1.0), resample=resample)
    window, image = cutter.cut(np.array([[9.0, 11.0, 13.0]]), (8, 8, 8), label_head=1)
    # Half of the window's voxels along axis 0, and four more on each side.
    assert window.box == ((3, 16), (3, 20), (5, 22))
    assert asked == [((26, 17, 17), [2.0, 1.0, 1.0], [1.0, 1.0, 1.0])]
    assert window.resampled_shape == (26, 17, 17)
    # Voxel 9 is the seventh of the crop; resampled it spans 12 and 13, and its middle, 12.5, rounds up.
    assert window.points == ((4, 4, 4),)
    assert window.start[0] == 13 - 4
    np.testing.assert_array_equal(image[0, :, 4, 4], COUNTED[0, :, 11, 13].repeat(2)[2 * 3 + 9 :][:8])


def test_a_scheme_that_looks_at_all_voxels_sees_the_whole_content() -> None:
    data = np.zeros_like(COUNTED)
    data[:, 4:] = COUNTED[:, 4:]
    content = data[0, 4:]
    _, image = make_cutter(data, scheme="ZScoreNormalization").cut(
        np.array([[9.0, 11.0, 13.0]]), (8, 8, 8), label_head=1
    )
    expected = (data[0, 5:13, 7:15, 9:17] - content.mean()) / content.std()
    np.testing.assert_allclose(image[0], expected, atol=1e-3)


def test_one_window_around_all_clicks_holds_a_window_around_each() -> None:
    prompt = clicks((3, 5, 6), (13, 5, 20))
    asked = cut_around_all(make_cutter(), prompt, (6, 8, 4))
    window, image = asked.window, asked.image
    # As far as the clicks lie apart, and two voxels more for rounding.
    assert window.size == (6 + 10 + 2, 8 + 2, 4 + 14 + 2)
    assert (window.label_head, window.name) == (2, "object")
    (first, second) = window.points
    assert np.subtract(second, first).tolist() == [10, 0, 14]
    for click, voxel in zip(window.points, ((3, 5, 6), (13, 5, 20)), strict=True):
        assert image[(0, *click)] == COUNTED[(0, *voxel)]
        for place, length, half in zip(click, window.size, (3, 4, 2), strict=True):
            assert half <= place <= length - half
    coarse = cut_around_all(make_cutter(spacing=(2.0, 1.0, 1.0)), prompt, (6, 8, 4)).window
    assert coarse.size == (6 + 20 + 2, 8 + 2, 4 + 14 + 2)


@pytest.mark.parametrize(
    ("click", "start", "point"),
    [
        ((9, 11, 13), (5, 7, 9), (4, 4, 4)),  # away from every border: in the middle
        ((1, 11, 27), (0, 7, 20), (1, 4, 7)),
        ((19, 0, 0), (12, 0, 0), (7, 0, 0)),
    ],
)
def test_windows_are_moved_inside_the_scan(
    click: tuple[int, ...], start: tuple[int, ...], point: tuple[int, ...]
) -> None:
    data = np.arange(1, 1 + 20 * 24 * 28, dtype=np.float32).reshape(1, 20, 24, 28)
    data = np.pad(data, ((0, 0), (3, 1), (0, 2), (5, 0)))  # zeros around the scan do not count as scan
    clicked = np.array([click], float) + np.array([3, 0, 5])
    window, image = make_cutter(data, promise={"placement": "inside"}).cut(clicked, (8, 8, 8), label_head=1)
    assert window.points == (point,)
    wanted = tuple(slice(a + b, a + b + 8) for a, b in zip(start, (3, 0, 5), strict=True))
    np.testing.assert_array_equal(image[0], data[0][wanted])


def test_a_scan_smaller_than_the_window_lies_in_its_middle() -> None:
    cutter = make_cutter(np.ones((1, 5, 24, 6), np.float32), promise={"placement": "inside"})
    _, image = cutter.cut(np.array([[4.0, 20.0, 1.0]]), (8, 8, 9), label_head=1)
    whole = np.zeros((8, 8, 9))
    whole[2:7, :, 2:8] = 1  # nnU-Net starts at -(8 - 5 + 1) // 2 = -2 and -(9 - 6 + 1) // 2 = -2
    np.testing.assert_array_equal(image[0], whole)


def test_windows_that_stay_inside_grow_no_larger_than_the_scan() -> None:
    data = np.zeros((1, 14, 30, 13), np.float32)
    data[:, 3:13, :, 5:] = 1  # zeros around the scan do not count as scan
    cut = np.array([True, True, False])
    assert make_cutter(data, promise={"placement": "inside"}).enlarged((8, 8, 8), cut).tolist() == [10, 12, 8]
    assert make_cutter(data).enlarged((8, 8, 8), cut).tolist() == [12, 12, 8]
    assert make_cutter(data).enlarged((9, 7, 7), cut).tolist() == [13, 10, 7]
