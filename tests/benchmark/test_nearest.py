"""Predictions cut down to the components nearest to clicks: by hand, and against a slow reference in the world."""

from __future__ import annotations

import itertools
import json
import runpy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from nnunetv2_promise.benchmark import nearest
from nnunetv2_promise.benchmark.nearest import restrict_to_clicks
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file

DIRECTION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ np.diag([1, -1, 1])
SPACING_XYZ_MM = (0.5, 2.0, 4.0)
LABELS = {"background": 0, "organ": 1, "tumour": 2}
Voxel = tuple[int, ...]


def to_image(array: np.ndarray, spacing_mm: tuple[float, ...] = SPACING_XYZ_MM) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_mm)
    image.SetOrigin((-40.0, 12.5, 300.0))
    image.SetDirection(DIRECTION.ravel().tolist())
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "predicted").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    return tmp_path


def restrict(
    folder: Path,
    cases: dict[str, tuple[np.ndarray, list[Prompt]]],
    *,
    coordinates: str = "voxel",
    ending: str = ".nii.gz",
    num_processes: int = 1,
    **image: tuple[float, ...],
) -> dict[str, np.ndarray]:
    """What is left of each prediction."""
    for case, (array, _) in cases.items():
        sitk.WriteImage(to_image(array, **image), str(folder / "predicted" / f"{case}{ending}"))
    save_prompt_file(folder / "p.json", {case: item[1] for case, item in cases.items()}, coordinates=coordinates)
    restrict_to_clicks(
        folder / "predicted",
        folder / "p.json",
        folder / "kept",
        dataset_json=folder / "dataset.json",
        num_processes=num_processes,
    )
    return {case: sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "kept" / f"{case}{ending}"))) for case in cases}


def kept_of(folder: Path, array: np.ndarray, *prompts: Prompt, **options: object) -> np.ndarray:
    return restrict(folder, {"a": (array, list(prompts))}, **options)["a"]


# slow reference


def slow_components(array: np.ndarray, label: int) -> list[list[Voxel]]:
    """Flood fill over the 26 neighbours; voxels in raster order."""
    left = {tuple(voxel) for voxel in np.argwhere(array == label).tolist()}
    found = []
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            z, y, x = front.pop()
            near = {(z + a, y + b, x + c) for a, b, c in itertools.product((-1, 0, 1), repeat=3)} & left
            left -= near
            component |= near
            front += near
        found.append(sorted(component))
    return found


def slow_kept(image: sitk.Image, clicks: Iterable[tuple[int, tuple[float, float, float]]]) -> np.ndarray:
    """Clicks are (label, point in LPS); distances are measured in the world, by SimpleITK's transformation."""
    array = sitk.GetArrayFromImage(image)
    kept = np.zeros_like(array)
    for label, point_lps in clicks:
        candidates = []
        for voxels in slow_components(array, label):
            places = [image.TransformIndexToPhysicalPoint(voxel[::-1]) for voxel in voxels]
            on_it = image.TransformPhysicalPointToIndex(point_lps)[::-1] in voxels
            distance_mm = 0.0 if on_it else min(np.linalg.norm(np.subtract(place, point_lps)) for place in places)
            candidates.append((round(distance_mm, 3), -len(voxels), voxels))
        for voxel in min(candidates)[2] if candidates else []:
            kept[voxel] = label
    return kept


arrays = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9)),
    elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2]),
)


@given(array=arrays, data=st.data(), coordinates=st.sampled_from(["voxel", "LPS", "RAS"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_restrict_equals_the_slow_reference(
    array: np.ndarray, data: st.DataObject, coordinates: str, folder: Path
) -> None:
    image = to_image(array)
    index = st.tuples(*(st.sampled_from([k / 4 for k in range(4 * n - 3)]) for n in array.shape[::-1]))
    prompts, clicks = [], []
    for _ in range(data.draw(st.integers(0, 3))):
        label, chosen = data.draw(st.sampled_from([1, 2])), data.draw(st.lists(index, min_size=1, max_size=3))
        points_lps = [image.TransformContinuousIndexToPhysicalPoint(xyz) for xyz in chosen]
        given_points = {
            "voxel": chosen,
            "LPS": points_lps,
            "RAS": [(-x, -y, z) for x, y, z in points_lps],
        }[coordinates]
        prompts.append(Prompt(label, tuple(given_points)))
        clicks += [(label, point) for point in points_lps]
    kept = kept_of(folder, array, *prompts, coordinates=coordinates)
    np.testing.assert_array_equal(kept, slow_kept(image, clicks))


# by hand


def three_bars() -> np.ndarray:
    """From the voxel (z, y, x) = (2, 4, 20): 4 mm along z, 6 mm along y, 5 mm along x; in voxels 1, 3 and 10."""
    array = np.zeros((6, 9, 41), dtype=np.uint8)
    array[3, 4, 20] = 1
    array[2, 7, 20] = 1
    array[2, 4, 30] = 1
    return array


@pytest.mark.parametrize(
    ("spacing_mm", "expected"),
    [((0.5, 2.0, 4.0), (3, 4, 20)), ((0.5, 1.0, 4.0), (2, 7, 20)), ((0.2, 2.0, 4.0), (2, 4, 30))],
)
def test_restrict_nearest_depends_on_the_spacing_of_each_axis(
    spacing_mm: tuple[float, float, float], expected: Voxel, folder: Path
) -> None:
    kept = kept_of(folder, three_bars(), Prompt("organ", ((20.0, 4.0, 2.0),)), spacing_mm=spacing_mm)
    assert np.argwhere(kept).tolist() == [list(expected)]


def test_restrict_keeps_the_component_under_the_click_however_small(folder: Path) -> None:
    array = np.zeros((3, 5, 12), dtype=np.uint8)
    array[0, 0, 0] = array[1:3, 2:5, 2:8] = 1
    kept = kept_of(folder, array, Prompt("organ", ((0.49, 0.4, 0.49),)))
    assert np.argwhere(kept).tolist() == [[0, 0, 0]]


def test_restrict_prefers_what_is_a_little_nearer_to_what_is_larger(folder: Path) -> None:
    """2.8 and 3.2 voxels from the click, along the shortest side of a voxel."""
    array = np.zeros((3, 5, 12), dtype=np.uint8)
    array[1, 2, 2] = array[1, 2, 8:11] = 1
    kept = kept_of(folder, array, Prompt("organ", ((4.8, 2.0, 1.0),)))
    assert np.argwhere(kept).tolist() == [[1, 2, 2]]


def test_restrict_is_the_union_over_points_and_prompts(folder: Path) -> None:
    array = np.zeros((1, 1, 40), dtype=np.uint8)
    array[0, 0, [0, 1, 8, 20, 39]] = 1
    array[0, 0, [4, 30]] = 2
    clicks = ((0.0, 0.0, 0.0), (21.0, 0.0, 0.0), (22.0, 0.0, 0.0))
    kept = kept_of(
        folder, array, Prompt("organ", clicks), Prompt(1, ((7.0, 0.0, 0.0),)), Prompt(2, ((39.0, 0.0, 0.0),))
    )
    assert {int(x): int(kept[0, 0, x]) for x in np.flatnonzero(kept)} == {0: 1, 1: 1, 8: 1, 20: 1, 30: 2}


def test_restrict_label_without_a_prompt_becomes_background(folder: Path) -> None:
    array = np.zeros((2, 3, 8), dtype=np.uint8)
    array[0, 0, 0] = 1
    array[1, 2, 7] = 2
    assert kept_of(folder, array, Prompt("organ", ((7.0, 2.0, 1.0),))).sum() == 1
    assert kept_of(folder, array).sum() == 0


def test_restrict_empty_prediction_stays_empty(folder: Path) -> None:
    array = np.zeros((2, 3, 8), dtype=np.uint8)
    array[0, 0, 0] = 2
    assert kept_of(folder, array, Prompt("organ", ((7.0, 2.0, 1.0),))).sum() == 0


@pytest.mark.parametrize("coordinates", ["voxel", "LPS"])
def test_restrict_tie_goes_to_the_larger_then_to_the_first(coordinates: str, folder: Path) -> None:
    array = np.zeros((3, 5, 11), dtype=np.uint8)
    array[1, 2, 2] = array[1, 2, 8] = 1
    middle: tuple[float, ...] = (5.0, 2.0, 1.0)
    if coordinates == "LPS":
        middle = to_image(array).TransformContinuousIndexToPhysicalPoint(middle)
    click = Prompt("organ", (middle,))
    assert np.argwhere(kept_of(folder, array, click, coordinates=coordinates)).tolist() == [[1, 2, 2]]
    array[1, 2, 9] = 1
    assert np.argwhere(kept_of(folder, array, click, coordinates=coordinates)).tolist() == [[1, 2, 8], [1, 2, 9]]


@pytest.mark.parametrize("pixel_type", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_restrict_keeps_grid_and_voxel_type(pixel_type: type, ending: str, folder: Path) -> None:
    array = three_bars().astype(pixel_type)
    kept_of(folder, array, Prompt("organ", ((20.0, 4.0, 2.0),)), ending=ending)
    before, after = (sitk.ReadImage(str(folder / name / f"a{ending}")) for name in ("predicted", "kept"))
    assert after.GetPixelID() == before.GetPixelID()
    np.testing.assert_allclose(after.GetSpacing(), before.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(after.GetOrigin(), before.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(after.GetDirection(), before.GetDirection(), atol=1e-6)


def test_restrict_many_cases_in_many_processes(folder: Path) -> None:
    cases = {f"case_{x}": (three_bars(), [Prompt("organ", ((float(x), 4.0, 2.0),))]) for x in (20, 29, 40)}
    sitk.WriteImage(to_image(three_bars()), str(folder / "predicted" / "not_listed.nii.gz"))
    kept = restrict(folder, cases, num_processes=2)
    places = [np.argwhere(array).tolist() for array in kept.values()]
    assert places == [[[3, 4, 20]], [[2, 4, 30]], [[2, 4, 30]]]
    assert sorted(path.name for path in (folder / "kept").iterdir()) == [f"{case}.nii.gz" for case in cases]
    assert restrict(folder, {"case_20": (three_bars(), [])})["case_20"].sum() == 0


# bad input


def no_prediction(folder: Path) -> None:
    (folder / "predicted" / "b.nii.gz").unlink()


def no_predictions(folder: Path) -> None:
    for path in (folder / "predicted").iterdir():
        path.unlink()


def damaged_prediction(folder: Path) -> None:
    (folder / "predicted" / "b.nii.gz").write_bytes(b"damaged")


def truncated_prediction(folder: Path) -> None:
    path = folder / "predicted" / "b.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])


def probabilities(folder: Path) -> None:
    sitk.WriteImage(to_image(three_bars() * np.float32(0.3)), str(folder / "predicted" / "b.nii.gz"))


def unknown_label(folder: Path) -> None:
    save_prompt_file(folder / "p.json", {"b": [Prompt("kidney", ((0.0, 0.0, 0.0),))]}, coordinates="voxel")


def region(folder: Path) -> None:
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": [1, 2], "core": 2}}))


def point_outside(folder: Path) -> None:
    save_prompt_file(folder / "p.json", {"b": [Prompt(1, ((0.0, 0.0, 6.0),))]}, coordinates="voxel")


def broken_prompts(folder: Path) -> None:
    (folder / "p.json").write_text("{")


def no_dataset_json(folder: Path) -> None:
    (folder / "dataset.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (no_prediction, r"predicted has no prediction for 1 case\(s\): b;"),
        (no_predictions, "predicted has no predictions"),
        (damaged_prediction, r"predicted/b\.nii\.gz cannot be read"),
        (truncated_prediction, r"predicted/b\.nii\.gz cannot be read .* cut off"),
        (probabilities, r"predicted/b\.nii\.gz has the value .*, which is not a whole number"),
        (unknown_label, r"p\.json, case 'b', object 1: label 'kidney' is not a foreground label .* 'organ' \(1\)"),
        (region, r"p\.json, case '\w', object 1: label 'organ' is not a foreground label"),
        (point_outside, r"p\.json, case 'b', object 1, point 1: \(0, 0, 6\) .*outside of the image"),
        (broken_prompts, r"p\.json"),
        (no_dataset_json, r"dataset\.json does not exist"),
    ],
)
def test_restrict_bad_input_names_the_file(spoil: Callable[[Path], None], expected: str, folder: Path) -> None:
    click = [Prompt("organ", ((20.0, 4.0, 2.0),))]
    for case in "ab":
        sitk.WriteImage(to_image(three_bars()), str(folder / "predicted" / f"{case}.nii.gz"))
    save_prompt_file(folder / "p.json", {"a": click, "b": click}, coordinates="voxel")
    spoil(folder)
    with pytest.raises(UserError, match=expected):
        restrict_to_clicks(
            folder / "predicted",
            folder / "p.json",
            folder / "kept",
            dataset_json=folder / "dataset.json",
            num_processes=1,
        )
    assert not (folder / "kept" / "b.nii.gz").exists()


def test_restrict_looks_at_every_click_before_it_writes(folder: Path) -> None:
    clicks = {"a": [Prompt("organ", ((20.0, 4.0, 2.0),))], "b": [Prompt("organ", ((0.0, 0.0, 6.0),))]}
    with pytest.raises(UserError, match="case 'b', object 1, point 1"):
        restrict(folder, {case: (three_bars(), prompts) for case, prompts in clicks.items()})
    assert not (folder / "kept" / "a.nii.gz").exists()


def test_restrict_by_hand_takes_four_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``python -m nnunetv2_promise.benchmark.nearest`` does it; what comes after the paths is not read."""
    sitk.WriteImage(to_image(three_bars()), str(folder / "predicted" / "a.nii.gz"))
    save_prompt_file(folder / "p.json", {"a": [Prompt("organ", ((29.0, 4.0, 2.0),))]}, coordinates="voxel")
    paths = [str(folder / name) for name in ("predicted", "p.json", "restricted", "dataset.json")]
    monkeypatch.setattr(sys, "argv", ["nearest.py", *paths, "more"])
    runpy.run_path(nearest.__file__, run_name="__main__")
    kept = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "restricted" / "a.nii.gz")))
    assert np.argwhere(kept).tolist() == [[2, 4, 30]]


def test_restrict_does_not_overwrite_the_predictions(folder: Path) -> None:
    same = folder / "kept" / ".." / "predicted"
    with pytest.raises(UserError, match="holds the predictions to cut down"):
        restrict_to_clicks(
            folder / "predicted", folder / "p.json", same, dataset_json=folder / "dataset.json", num_processes=1
        )


def test_restrict_full_disk_leaves_no_half_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ITK does not notice that a compressed file could not be written whole."""
    write = sitk.WriteImage

    def write_half(image: sitk.Image, path: str, **options: bool) -> None:
        write(image, path, **options)
        Path(path).write_bytes(Path(path).read_bytes()[:-30])

    array = three_bars()
    sitk.WriteImage(to_image(array), str(folder / "predicted" / "a.nii.gz"))
    save_prompt_file(folder / "p.json", {"a": []}, coordinates="voxel")
    monkeypatch.setattr(nearest.sitk, "WriteImage", write_half)
    with pytest.raises(UserError, match=r"kept/a\.nii\.gz could not be written; free space"):
        restrict_to_clicks(
            folder / "predicted",
            folder / "p.json",
            folder / "kept",
            dataset_json=folder / "dataset.json",
            num_processes=1,
        )
    assert list((folder / "kept").iterdir()) == []
