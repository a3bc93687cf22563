"""Objects of label maps and clicks on them, by hand and against slow references."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.images.objects import (
    crop_to_object,
    deepest_voxel,
    find_objects,
    sample_points,
    seed_of_case,
)


def slow_components(array: np.ndarray, label: int) -> set[frozenset[tuple[int, ...]]]:
    """Flood fill over the 26 neighbours."""
    left = {tuple(voxel) for voxel in np.argwhere(array == label).tolist()}
    steps = list(itertools.product((-1, 0, 1), repeat=3))
    found = set()
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            z, y, x = front.pop()
            near = {(z + a, y + b, x + c) for a, b, c in steps} & left
            left -= near
            component |= near
            front += near
        found.add(frozenset(component))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_find_objects_equals_flood_fill(seed: int) -> None:
    array = np.random.default_rng(seed).choice(3, size=(7, 9, 11), p=[0.85, 0.1, 0.05])
    objects = find_objects(array, [1, 2])
    for label in (1, 2):
        mine = [frozenset(map(tuple, item.voxels_zyx.tolist())) for item in objects if item.label == label]
        assert len(mine) == len(set(mine))
        assert set(mine) == slow_components(array, label)


def test_find_objects_order_is_label_then_size_then_position() -> None:
    array = np.zeros((6, 7, 8), dtype=np.int16)
    array[0, 0, 0] = 2
    array[5, 6, 5:8] = 1
    array[0, 6, 7] = 1
    array[3, 0, 0] = 1
    objects = find_objects(array, [2, 1, 1])
    assert [(item.label, item.size_voxels, item.start_zyx) for item in objects] == [
        (1, 3, (5, 6, 5)),
        (1, 1, (0, 6, 7)),
        (1, 1, (3, 0, 0)),
        (2, 1, (0, 0, 0)),
    ]


def test_find_objects_diagonal_neighbours_are_one_object() -> None:
    array = np.zeros((4, 4, 4), dtype=np.uint8)
    array[1, 1, 1] = array[2, 2, 2] = 1
    (item,) = find_objects(array, [1])
    assert item.bbox_zyx == ((1, 3), (1, 3), (1, 3))
    assert item.voxels_zyx.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_find_objects_boxes_may_overlap() -> None:
    array = np.zeros((1, 5, 5), dtype=np.uint8)
    array[0, 0, :] = array[0, :, 0] = 1
    array[0, 3, 3] = 1
    large, small = find_objects(array, [1])
    assert (large.size_voxels, small.size_voxels) == (9, 1)
    np.testing.assert_array_equal(large.full_mask(array.shape) | small.full_mask(array.shape), array == 1)


def test_find_objects_per_case_gives_the_whole_label() -> None:
    array = np.zeros((6, 7, 8), dtype=np.uint8)
    array[1, 2, 3] = array[4, 5, 6] = array[0, 0, 0] = 3
    (item,) = find_objects(array, [3, 4], per="case")
    assert item.size_voxels == 3
    np.testing.assert_array_equal(item.full_mask(array.shape), array == 3)
    assert item.bbox_zyx == ((0, 5), (0, 6), (0, 7))


def test_find_objects_bad_arguments() -> None:
    for shape in ((3, 3), (3, 3, 3, 3)):
        with pytest.raises(ValueError, match=f"{len(shape)} dimensions"):
            find_objects(np.zeros(shape, dtype=int), [1])
    with pytest.raises(ValueError, match="'lesion'"):
        find_objects(np.zeros((3, 3, 3), dtype=int), [1], per="lesion")


def test_crop_to_object_empty_mask_is_none() -> None:
    assert crop_to_object(np.zeros((2, 3, 4), dtype=bool), label=1) is None


def test_sample_points_are_uniform_over_the_object() -> None:
    mask = np.zeros((4, 5, 6), dtype=bool)
    mask[1, 1, 1:4] = mask[3, 4, 5] = True
    rng = np.random.default_rng(0)
    counts = Counter(tuple(sample_points(mask, 1, rng)[0].tolist()) for _ in range(4000))
    assert set(counts) == {(1, 1, 1), (1, 1, 2), (1, 1, 3), (3, 4, 5)}
    assert all(abs(count - 1000) < 150 for count in counts.values())


@pytest.mark.parametrize("where", ["random", "centre"])
def test_sample_points_are_distinct_while_there_are_voxels(where: str) -> None:
    for side in (2, 3):
        mask = np.zeros((4, 5, 6), dtype=bool)
        mask[1 : side + 1, 2 : side + 2, 1 : side + 1] = True
        (item,) = find_objects(mask.astype(int), [1])
        for seed in range(20):
            for n in (1, 5, side**3):
                points = sample_points(item, n, np.random.default_rng(seed), where=where)
                drawn = {tuple(p) for p in points.tolist()}
                assert len(points) == len(drawn) == n
                assert drawn <= {tuple(p) for p in np.argwhere(mask).tolist()}
        many = sample_points(item, 30, np.random.default_rng(0), where=where)
        assert many.shape == (30, 3)
        assert mask[tuple(many.T)].all()


def test_sample_points_of_object_and_of_mask_agree() -> None:
    array = np.zeros((9, 8, 7), dtype=np.uint8)
    array[3:6, 2:7, 1:3] = 1
    (item,) = find_objects(array, [1])
    first = sample_points(item, 5, np.random.default_rng(3))
    np.testing.assert_array_equal(first, sample_points(array == 1, 5, np.random.default_rng(3)))


def test_sample_points_bad_arguments() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="mask is empty"):
        sample_points(~mask, 1, rng)
    with pytest.raises(ValueError, match="n is 0"):
        sample_points(mask, 0, rng)
    with pytest.raises(ValueError, match="'middle'"):
        sample_points(mask, 1, rng, where="middle")


def slow_depths(mask: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> dict[tuple[int, ...], float]:
    padded = np.pad(mask, 1)
    outside = (np.argwhere(~padded) - 1) * spacing_zyx_mm
    voxels = np.argwhere(mask)
    return {tuple(v.tolist()): float(np.linalg.norm(outside - v * spacing_zyx_mm, axis=1).min()) for v in voxels}


@pytest.mark.parametrize("seed", range(4))
def test_deepest_voxel_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((9, 10, 11), dtype=bool)
    mask[2:8, 1:9, 2:10] = rng.random((6, 8, 8)) > 0.1
    spacing = (3.0, 1.0, 0.8)
    depths = slow_depths(mask, spacing)
    deepest = tuple(deepest_voxel(mask, spacing_zyx_mm=spacing).tolist())
    assert depths[deepest] == pytest.approx(max(depths.values()))


def test_deepest_voxel_depends_on_spacing() -> None:
    """A plate, depth min(2 dz, 5), and a rod, depth min(7 dz, 3): which of them is deeper depends on the mm."""
    mask = np.zeros((20, 12, 12), dtype=bool)
    mask[1:4, 1:10, 1:10] = True
    mask[6:20, 1:6, 1:6] = True
    assert deepest_voxel(mask, spacing_zyx_mm=(2.4, 1.0, 1.0)).tolist() == [2, 5, 5]
    assert deepest_voxel(mask, spacing_zyx_mm=(0.5, 1.0, 1.0)).tolist()[1:] == [3, 3]


def test_deepest_voxel_nearest_to_the_centre_is_in_mm() -> None:
    """Four single voxels around (1, 0, 4), all equally deep: two at 1 voxel along z (4 mm), two at 3 along x (3 mm)."""
    mask = np.zeros((3, 1, 9), dtype=bool)
    mask[0, 0, 4] = mask[2, 0, 4] = mask[1, 0, 1] = mask[1, 0, 7] = True
    assert deepest_voxel(mask, spacing_zyx_mm=(4.0, 1.0, 1.0)).tolist() == [1, 0, 1]
    assert deepest_voxel(mask, spacing_zyx_mm=(2.0, 1.0, 1.0)).tolist() == [0, 0, 4]


def test_first_voxel_lies_in_the_label_map_not_in_the_box() -> None:
    array = np.zeros((5, 7, 9), dtype=np.uint8)
    array[2, 3, 7] = array[2, 4, 6] = array[3, 4, 5] = 1
    (item,) = find_objects(array, [1])
    assert item.start_zyx == (2, 3, 5)
    assert item.first_voxel_zyx == (2, 3, 7)
    assert item.voxels_zyx.tolist() == [[2, 3, 7], [2, 4, 6], [3, 4, 5]]
    array[:] = 0
    array[3:, 4:, 5:] = 1
    array[3, 4, :8] = array[3, :, 5] = 0
    (item,) = find_objects(array, [1])
    assert (item.start_zyx, item.first_voxel_zyx) == ((3, 4, 5), (3, 4, 8))
    array[:] = 0
    array[2, 4, 6] = array[3, 3, 6] = 1
    (item,) = find_objects(array, [1])
    assert (item.start_zyx, item.first_voxel_zyx) == ((2, 3, 6), (2, 4, 6))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing_zyx_mm", [(1.0, 1.0, 1.0), (0.5, 0.3, 0.4)])
def test_deepest_voxel_of_a_bar_is_its_middle(axis: int, spacing_zyx_mm: tuple[float, float, float]) -> None:
    mask = np.zeros((3, 3, 13), dtype=bool)
    mask[1, 1, 2:9] = True
    along = np.moveaxis(mask, 2, axis)
    expected = np.insert([1, 1], axis, 5).tolist()
    assert deepest_voxel(along, spacing_zyx_mm=spacing_zyx_mm).tolist() == deepest_voxel(along).tolist() == expected


def test_deepest_voxel_takes_a_millimetre_for_each_edge_if_not_told() -> None:
    mask = np.random.default_rng(3).random((9, 10, 11)) > 0.1
    expected = deepest_voxel(mask, spacing_zyx_mm=(1, 1, 1)).tolist()
    assert deepest_voxel(mask).tolist() == expected
    for spacing in ((1, 0.5, 1), (0.5, 1, 1), (1, 1, 0.5), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
        assert deepest_voxel(mask, spacing_zyx_mm=spacing).tolist() != expected
    points = [sample_points(mask, 3, np.random.default_rng(1), where="centre") for _ in range(2)]
    assert points[0][0].tolist() == expected
    np.testing.assert_array_equal(*points)


def test_deepest_voxel_of_a_bent_object_is_inside() -> None:
    mask = np.zeros((1, 9, 9), dtype=bool)
    mask[0, :, 0] = mask[0, 0, :] = mask[0, 8, :] = True
    assert mask[tuple(deepest_voxel(mask))]


def test_seed_of_case_is_the_same_in_another_process() -> None:
    code = "from nnunetv2_promise.images.objects import seed_of_case; print(seed_of_case('colon_001', 7))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == seed_of_case("colon_001", 7) == 0xD53EE936


def test_seed_of_case_depends_on_case_and_seed() -> None:
    seeds = {seed_of_case(f"case_{i}", seed) for i in range(100) for seed in range(3)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_find_objects_of_real_labels(shared: Path) -> None:
    folder = shared / "data" / "Task04_Hippocampus" / "labelsTr"
    files = sorted(folder.glob("hippocampus_*.nii.gz"))[:6]
    if not files:
        pytest.skip("no Task04_Hippocampus in shared/data")
    for path in files:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        objects = find_objects(array, [1, 2])
        rebuilt = np.zeros_like(array)
        for item in objects:
            rebuilt[item.full_mask(array.shape)] = item.label
            point = sample_points(item, 1, np.random.default_rng(0), where="centre")[0]
            assert array[tuple(point)] == item.label
        np.testing.assert_array_equal(rebuilt, array)
        for label in (1, 2):
            same = {frozenset(map(tuple, o.voxels_zyx.tolist())) for o in objects if o.label == label}
            assert same == slow_components(array, label)
