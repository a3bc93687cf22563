"""Clicks at the border, outside and far away: by hand and against slow references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.objects import find_objects
from nnunetv2_promise.prompts.misplaced import (
    ClickPlaces,
    NoPlaceError,
    border_of,
    click_distance_mm,
    far_background,
    shell_around,
)

SPACING_ZYX_MM = (4.0, 2.0, 0.5)
Voxels = set[tuple[int, ...]]

label_maps = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)),
    elements=st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3]),
)
spacings = st.tuples(*[st.sampled_from([0.3, 0.7, 1.0, 2.5, 5.0])] * 3)


def as_set(voxels: object) -> Voxels:
    return {tuple(voxel) for voxel in np.asarray(voxels).tolist()}


def slow_distance_mm(voxel: np.ndarray, others: np.ndarray, spacing_zyx_mm: tuple[float, ...]) -> float:
    return min(sum(((a - b) * s) ** 2 for a, b, s in zip(voxel, o, spacing_zyx_mm, strict=True)) ** 0.5 for o in others)


def slow_border(voxels: Voxels) -> Voxels:
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    return {(z, y, x) for z, y, x in voxels if any((z + a, y + b, x + c) not in voxels for a, b, c in steps)}


def one_voxel(shape: tuple[int, ...] = (5, 9, 41)) -> np.ndarray:
    array = np.zeros(shape, dtype=np.uint8)
    array[tuple(n // 2 for n in shape)] = 1
    return array


# border


def test_border_of_a_block_is_all_but_its_middle() -> None:
    array = np.zeros((5, 6, 7), dtype=np.uint8)
    array[1:4, 1:4, 1:4] = 1
    array[0, 0, 0] = 1  # a corner neighbour, the same object
    (item,) = find_objects(array, [1])
    expected = as_set(np.argwhere(array)) - {(2, 2, 2)}
    assert as_set(border_of(item).voxels_zyx) == expected


def test_border_at_the_edge_of_the_image_counts() -> None:
    (item,) = find_objects(np.ones((3, 3, 4), dtype=np.uint8), [1])
    inner = {(1, 1, 1), (1, 1, 2)}
    assert as_set(border_of(item).voxels_zyx) == as_set(np.argwhere(np.ones((3, 3, 4)))) - inner


def test_border_needs_a_face_not_a_corner() -> None:
    array = np.ones((5, 5, 5), dtype=np.uint8)
    array[0, 0, 0] = 0
    (item,) = find_objects(array, [1])
    assert (1, 1, 1) not in as_set(border_of(item).voxels_zyx)
    array[0, 1, 1] = 0
    (item,) = find_objects(array, [1])
    assert (1, 1, 1) in as_set(border_of(item).voxels_zyx)


@given(label_maps)
@settings(max_examples=60, deadline=None)
def test_border_equals_looking_at_every_neighbour(array: np.ndarray) -> None:
    for per in ("component", "case"):
        for item in find_objects(array, [1], per=per):
            assert as_set(border_of(item).voxels_zyx) == slow_border(as_set(item.voxels_zyx))


# outside


def test_shell_around_one_voxel_by_hand() -> None:
    """Spacing 4, 2, 0.5 mm: each axis has another reach, so no two can be swapped."""
    array = one_voxel()
    (item,) = find_objects(array, [1])
    found = shell_around(item, array, distance_mm=4.0, spacing_zyx_mm=SPACING_ZYX_MM)
    offsets = as_set(found.voxels_zyx - [2, 4, 20])
    assert {o for o in offsets if o[1:] == (0, 0)} == {(1, 0, 0), (-1, 0, 0)}
    assert {o[1] for o in offsets if o[0] == o[2] == 0} == {-2, -1, 1, 2}
    assert {o[2] for o in offsets if o[0] == o[1] == 0} == {*range(-8, 0), *range(1, 9)}
    assert (0, 1, 6) in offsets  # (2, 3) mm: 3.61
    assert (0, 1, 7) not in offsets  # (2, 3.5) mm: 4.03
    assert (1, 0, 1) not in offsets


def test_shell_leaves_out_its_lower_bound() -> None:
    array = one_voxel((1, 1, 41))
    (item,) = find_objects(array, [1])
    found = shell_around(item, array, distance_mm=5.0, spacing_zyx_mm=(0.5, 1.0, 0.5))
    assert as_set(found.voxels_zyx - [0, 0, 20]) == {(0, 0, step) for step in (-10, -9, 9, 10)}


@pytest.mark.parametrize("side_mm", [0.2, 0.001])
def test_shell_keeps_its_bounds_when_the_header_is_single_precision(side_mm: float) -> None:
    array = one_voxel((1, 1, 61))
    (item,) = find_objects(array, [1])
    stored_mm = float(np.float32(side_mm))
    assert stored_mm > side_mm
    found = shell_around(item, array, distance_mm=25 * side_mm, spacing_zyx_mm=(stored_mm,) * 3)
    assert as_set(found.voxels_zyx - [0, 0, 30]) == {(0, 0, -25), (0, 0, 25)}


def test_shell_avoids_its_label_and_the_ignore_label_but_not_others() -> None:
    array = np.zeros((1, 1, 9), dtype=np.uint8)
    array[0, 0] = [1, 0, 1, 2, 1, 0, 1, 3, 1]
    first = next(item for item in find_objects(array, [1]) if item.start_zyx == (0, 0, 0))
    shells = {
        distance: shell_around(first, array, distance_mm=distance, spacing_zyx_mm=(1.0, 1.0, 1.0), ignore_label=3)
        for distance in (1.0, 2.0, 3.0, 7.0)
    }
    assert as_set(shells[1.0].voxels_zyx) == {(0, 0, 1)}
    assert as_set(shells[3.0].voxels_zyx) == {(0, 0, 3)}
    assert shells[2.0] is None
    assert shells[7.0] is None
    assert shell_around(first, array, distance_mm=7.0, spacing_zyx_mm=(1.0, 1.0, 1.0)) is not None


@given(label_maps, spacings, st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 9.0]))
@settings(max_examples=60, deadline=None)
def test_shell_equals_all_distances(array: np.ndarray, spacing: tuple[float, ...], distance_mm: float) -> None:
    for item in find_objects(array, [1]):
        expected = {
            tuple(voxel.tolist())
            for voxel in np.argwhere((array != 1) & (array != 3))
            if distance_mm - max(spacing) + 1e-5
            < slow_distance_mm(voxel, item.voxels_zyx, spacing)
            <= distance_mm + 1e-5
        }
        found = shell_around(item, array, distance_mm=distance_mm, spacing_zyx_mm=spacing, ignore_label=3)
        assert (set() if found is None else as_set(found.voxels_zyx)) == expected
        assert found is None or found.label == 1


# wrong


def test_far_background_of_one_voxel_by_hand() -> None:
    array = one_voxel()
    array[0, 4, 20] = 2  # 8 mm away, but no background
    found = far_background(array, 1, distance_mm=8.0, spacing_zyx_mm=SPACING_ZYX_MM)
    offsets = as_set(found.voxels_zyx - [2, 4, 20])
    assert (2, 0, 0) in offsets
    assert (-2, 0, 0) not in offsets
    assert {o[1] for o in offsets if o[0] == o[2] == 0} == {-4, 4}
    assert {o[2] for o in offsets if o[0] == o[1] == 0} == {*range(-20, -15), *range(16, 21)}


@pytest.mark.parametrize("side_mm", [0.7, 0.0007])
def test_far_background_keeps_its_bound_when_the_header_is_single_precision(side_mm: float) -> None:
    stored_mm = float(np.float32(side_mm))
    assert stored_mm < side_mm
    found = far_background(one_voxel((1, 1, 61)), 1, distance_mm=25 * side_mm, spacing_zyx_mm=(stored_mm,) * 3)
    assert as_set(found.voxels_zyx - [0, 0, 30]) == {(0, 0, step) for step in range(-30, 31) if abs(step) >= 25}


@given(label_maps, spacings, st.sampled_from([0.0, 1.0, 3.0, 6.0]))
@settings(max_examples=60, deadline=None)
def test_far_background_equals_all_distances(array: np.ndarray, spacing: tuple[float, ...], distance_mm: float) -> None:
    objects = np.argwhere(array == 1)
    expected = {
        tuple(voxel.tolist())
        for voxel in np.argwhere(array == 0)
        if not len(objects) or slow_distance_mm(voxel, objects, spacing) >= distance_mm - 1e-5
    }
    found = far_background(array, 1, distance_mm=distance_mm, spacing_zyx_mm=spacing)
    assert (set() if found is None else as_set(found.voxels_zyx)) == expected


# distances and places


def test_click_distance_defaults() -> None:
    assert [click_distance_mm(where, None) for where in ("outside", "wrong", "border")] == [5.0, 20.0, 0.0]
    assert click_distance_mm("outside", 2.0) == 2.0
    assert click_distance_mm("wrong", 0.0) == 0.0


@pytest.mark.parametrize("where", ["random", "centre", "border"])
def test_click_distance_where_it_means_nothing_is_refused(where: str) -> None:
    with pytest.raises(UserError, match=f"--distance_mm means nothing for --where {where}"):
        click_distance_mm(where, 3.0)


@pytest.mark.parametrize("distance_mm", [-1.0, float("nan"), float("inf")])
def test_click_distance_out_of_range_is_refused(distance_mm: float) -> None:
    with pytest.raises(UserError, match="give a finite number, 0 or more"):
        click_distance_mm("outside", distance_mm)


@pytest.mark.parametrize("where", ["random", "centre"])
def test_click_places_within_an_object_are_all_of_it(where: str) -> None:
    array = np.zeros((3, 4, 5), dtype=np.uint8)
    array[1, 1:3, 1:4] = 1
    (item,) = find_objects(array, [1])
    assert as_set(ClickPlaces(array, where=where).of(item).voxels_zyx) == as_set(np.argwhere(array))


def test_click_places_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'middle'"):
        ClickPlaces(one_voxel(), where="middle")


def test_click_places_say_what_was_sought() -> None:
    array = one_voxel((1, 1, 3))
    (item,) = find_objects(array, [1])
    with pytest.raises(NoPlaceError, match=r"^no voxel outside of it lies more than 4 and at most 5 mm from it$"):
        ClickPlaces(array, where="outside").of(item)
    near = ClickPlaces(array, where="outside", distance_mm=0.5, spacing_zyx_mm=(1.0, 1.0, 2.0))
    with pytest.raises(NoPlaceError, match=r"lies more than 0 and at most 0\.5 mm from it$"):
        near.of(item)
    with pytest.raises(NoPlaceError, match=r"^no voxel of the background lies 20 mm or more from label 1$"):
        ClickPlaces(array, where="wrong").of(item)


# simulate
