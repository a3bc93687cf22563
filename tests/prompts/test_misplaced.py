"""Clicks at the border, outside and far away: by hand, against slow references, and on the command line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.objects import find_objects, seed_of_case
from nnunetv2_promise.images.reading import read_geometry
from nnunetv2_promise.prompts.misplaced import (
    ClickPlaces,
    NoPlaceError,
    border_of,
    click_distance_mm,
    far_background,
    shell_around,
)
from nnunetv2_promise.prompts.schema import load_prompt_file
from nnunetv2_promise.prompts.simulate import simulate_prompts
from nnunetv2_promise.prompts.skipped import skipped_cases, skipped_file

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


def test_shell_keeps_its_bounds_when_the_header_is_single_precision() -> None:
    array = one_voxel((1, 1, 61))
    (item,) = find_objects(array, [1])
    side_mm = float(np.float32(0.2))
    found = shell_around(item, array, distance_mm=5.0, spacing_zyx_mm=(side_mm,) * 3)
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


@pytest.mark.parametrize("where", ["random", "centre", "border"])
def test_click_distance_where_it_means_nothing_is_refused(where: str) -> None:
    with pytest.raises(UserError, match=f"--distance_mm means nothing for --where {where}"):
        click_distance_mm(where, 3.0)


@pytest.mark.parametrize("distance_mm", [-1.0, float("nan"), float("inf")])
def test_click_distance_out_of_range_is_refused(distance_mm: float) -> None:
    with pytest.raises(UserError, match="give a finite number, 0 or more"):
        click_distance_mm("outside", distance_mm)


def test_click_places_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'middle'"):
        ClickPlaces(one_voxel(), where="middle")


def test_click_places_say_what_was_sought() -> None:
    array = one_voxel((1, 1, 3))
    (item,) = find_objects(array, [1])
    with pytest.raises(NoPlaceError, match=r"^no voxel outside of it lies more than 4 and at most 5 mm from it$"):
        ClickPlaces(array, where="outside").of(item)
    with pytest.raises(NoPlaceError, match=r"^no voxel of the background lies 20 mm or more from label 1$"):
        ClickPlaces(array, where="wrong").of(item)


# simulate


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Case a has room around its objects, the object of b fills its image, c has none; 0.5 x 2 x 4 mm (x, y, z)."""
    arrays = {"a": np.zeros((9, 12, 40), np.uint8), "b": np.ones((2, 2, 2), np.uint8), "c": np.zeros((3, 3, 3))}
    arrays["a"][3:6, 4:8, 10:25] = 1
    arrays["a"][0, 0, 0:20] = 1
    arrays["a"][8, 11, 18:40] = 2
    for folder, ending in (("images", "_0000"), ("labels", "")):
        (tmp_path / folder).mkdir()
        for case, array in arrays.items():
            image = sitk.GetImageFromArray(array.astype(np.uint8))
            image.SetSpacing(SPACING_ZYX_MM[::-1])
            sitk.WriteImage(image, str(tmp_path / folder / f"{case}{ending}.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1, "tumour": 2}}))
    return tmp_path


def command(dataset: Path, *options: str, output: str = "prompts.json") -> list[str]:
    paths = ["-i", str(dataset / "images"), "-l", str(dataset / "labels"), "-o", str(dataset / output)]
    return ["simulate", *paths, *options]


def keep_case(dataset: Path, case: str) -> None:
    for path in [*(dataset / "images").iterdir(), *(dataset / "labels").iterdir()]:
        if not path.name.startswith(case):
            path.unlink()


def clicks_of(dataset: Path, case: str) -> list[tuple[str | int, np.ndarray]]:
    """(label, (n, 3) whole indices in (z, y, x) order) of each object."""
    prompts = load_prompt_file(dataset / "prompts.json")
    geometry = read_geometry(dataset / "labels" / f"{case}.nii.gz")
    return [
        (p.label, np.rint(geometry.points_to_index_zyx(p.points, prompts.coordinates))) for p in prompts.cases[case]
    ]


@pytest.mark.parametrize("coordinates", ["voxel", "RAS"])
@pytest.mark.parametrize(
    ("where", "options"), [("border", []), ("outside", ["--distance_mm", "6"]), ("wrong", ["--distance_mm", "9"])]
)
def test_simulate_clicks_where_it_was_asked(where: str, options: list[str], coordinates: str, dataset: Path) -> None:
    keep_case(dataset, "a")
    assert main(command(dataset, "--where", where, *options, "--points", "20", "--coordinates", coordinates)) == 0
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset / "labels" / "a.nii.gz")))
    objects = find_objects(array, [1, 2])
    clicks = clicks_of(dataset, "a")
    assert [label for label, _ in clicks] == ["organ", "organ", "tumour"]
    for item, (_, points) in zip(objects, clicks, strict=True):
        assert len(as_set(points)) == len(points) == 20
        of_label = np.argwhere(array == item.label)
        for point in points.astype(int):
            value = array[tuple(point)]
            if where == "border":
                assert tuple(point) in slow_border(as_set(item.voxels_zyx))
            elif where == "outside":
                assert value != item.label
                assert 2 < slow_distance_mm(point, item.voxels_zyx, SPACING_ZYX_MM) <= 6
            else:
                assert value == 0
                assert slow_distance_mm(point, of_label, SPACING_ZYX_MM) >= 9


def test_simulate_random_draws_as_it_always_did(dataset: Path) -> None:
    """Published prompt files can be made again: one draw without replacement for each object, in their order."""
    simulate_prompts(dataset / "images", dataset / "labels", dataset / "prompts.json", points=2, seed=3)
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset / "labels" / "a.nii.gz")))
    rng = np.random.default_rng(seed_of_case("a", 3))
    for item, (_, points) in zip(find_objects(array, [1, 2]), clicks_of(dataset, "a"), strict=True):
        voxels = item.voxels_zyx
        np.testing.assert_array_equal(points, voxels[rng.choice(len(voxels), size=2, replace=False)])


@pytest.mark.parametrize("where", ["border", "outside", "wrong"])
def test_simulate_same_seed_same_clicks(where: str, dataset: Path) -> None:
    keep_case(dataset, "a")
    distance = [] if where == "border" else ["--distance_mm", "8"]
    drawn = []
    for seed in ("4", "4", "5"):
        assert main(command(dataset, "--where", where, *distance, "--seed", seed, "--points", "3")) == 0
        drawn.append((dataset / "prompts.json").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--where", "outside", "--distance_mm", "6"], "outside of it lies more than 2 and at most 6 mm from it"),
        (["--where", "wrong"], "of the background lies 20 mm or more from label 1"),
    ],
)
def test_simulate_without_such_a_voxel_is_an_error_that_names_the_object(
    options: list[str], expected: str, dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    keep_case(dataset, "b")
    assert main(command(dataset, *options)) == 2
    error = capsys.readouterr().err
    assert "labels/b.nii.gz, case 'b', object 1 ('organ'): no voxel " in error
    assert f"{expected}; choose another place or pass --skip_impossible." in error
    assert not (dataset / "prompts.json").exists()
    assert not skipped_file(dataset / "prompts.json").exists()


def test_simulate_skips_whole_cases_and_says_so(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    options = ("--where", "outside", "--distance_mm", "6", "--skip_impossible")
    assert main(command(dataset, *options)) == 0
    cases = load_prompt_file(dataset / "prompts.json").cases
    assert [len(cases[case]) for case in "abc"] == [3, 0, 0]
    skipped = skipped_cases(dataset / "prompts.json")
    assert list(skipped) == ["b"]
    assert "case 'b', object 1 ('organ'): no voxel outside" in skipped["b"]
    shown = capsys.readouterr().out
    assert "3 cases, 3 objects, 1 cases without an object" in shown
    assert "prompts.skipped.json: 1 cases in which no such click could be had" in shown
    assert main(command(dataset)) == 0
    assert skipped_cases(dataset / "prompts.json") == {}


def test_skipped_cases_of_a_broken_file_is_refused(tmp_path: Path) -> None:
    skipped_file(tmp_path / "p.json").write_text("[1]")
    with pytest.raises(UserError, match=r"p\.skipped\.json does not map cases to reasons"):
        skipped_cases(tmp_path / "p.json")


def test_skipped_file_is_beside_the_prompt_file() -> None:
    assert skipped_file("folder/prompts.json") == Path("folder/prompts.skipped.json")
    assert skipped_file("folder/clicks") == Path("folder/clicks.skipped.json")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--distance_mm", "3"], "--distance_mm means nothing for --where random"),
        (["--where", "border", "--distance_mm", "3"], "--distance_mm means nothing for --where border"),
    ],
)
def test_simulate_bad_combination_gives_one_sentence(
    options: list[str], expected: str, dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(command(dataset, *options)) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "x", "nan", "inf"])
def test_simulate_bad_distance_is_refused(value: str, dataset: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(command(dataset, "--where", "outside", f"--distance_mm={value}"))
    assert caught.value.code == 2
    assert "--distance_mm" in capsys.readouterr().err


def test_simulate_real_data(shared: Path, tmp_path: Path) -> None:
    task = shared / "data" / "Task04_Hippocampus"
    files = sorted((task / "labelsTr").glob("hippocampus_*.nii.gz"))[:3]
    if not files:
        pytest.skip("no Task04_Hippocampus in shared/data")
    (tmp_path / "images").mkdir()
    for path in files:
        (tmp_path / "images" / path.name).symlink_to(task / "imagesTr" / path.name)
    for where, distance_mm in itertools.product(("outside", "wrong"), (2.0, 5.0)):
        prompts = simulate_prompts(
            tmp_path / "images",
            task / "labelsTr",
            tmp_path / "prompts.json",
            where=where,
            distance_mm=distance_mm,
            points=20,
            coordinates="LPS",
            per="case",
        )
        for path in files:
            label_map = sitk.ReadImage(str(path))
            for prompt, value in zip(prompts.cases[path.name[:-7]], (1, 2), strict=True):
                distances = sitk.SignedMaurerDistanceMap(
                    label_map == value, squaredDistance=False, useImageSpacing=True
                )
                found = [distances[label_map.TransformPhysicalPointToIndex(point)] for point in prompt.points]
                assert min(found) > (distance_mm - 1 if where == "outside" else distance_mm - 1e-4)
                assert max(found) <= distance_mm + 1e-4 or where == "wrong"


def test_simulate_never_clicks_on_the_ignore_label(dataset: Path) -> None:
    """All but one voxel of the shell around the object are to be ignored."""
    keep_case(dataset, "b")
    labels = {"background": 0, "organ": 1, "ignore": 7}
    (dataset / "dataset.json").write_text(json.dumps({"labels": labels}))
    array = np.full((5, 7, 9), 7, np.uint8)
    array[2, 3, 4], array[2, 3, 5] = 1, 0
    for name in ("images/b_0000", "labels/b"):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(dataset / f"{name}.nii.gz"))
    assert main(command(dataset, "--where", "outside", "--distance_mm", "1", "--points", "5")) == 0
    ((_, points),) = clicks_of(dataset, "b")
    assert as_set(points) == {(2, 3, 5)}
