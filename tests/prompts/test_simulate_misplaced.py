"""Prompt files with clicks at the border, outside or wrong, as the command writes them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from test_misplaced import SPACING_ZYX_MM, as_set, slow_border, slow_distance_mm

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.objects import find_objects, seed_of_case
from nnunetv2_promise.images.reading import read_geometry
from nnunetv2_promise.prompts.schema import load_prompt_file
from nnunetv2_promise.prompts.simulate import simulate_prompts
from nnunetv2_promise.prompts.skipped import skipped_cases, skipped_file


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
    for seed, points in itertools.product(("4", "4", "5"), ("1", "3")):
        assert main(command(dataset, "--where", where, *distance, "--seed", seed, "--points", points)) == 0
        drawn.append((dataset / "prompts.json").read_bytes())
    assert drawn[:2] == drawn[2:4]
    assert drawn[0] != drawn[4]
    assert drawn[1] != drawn[5]


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


def test_simulate_skips_whole_cases_and_says_so(
    dataset: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"choose another place or pass --skip_impossible\.$"):
        simulate_prompts(
            dataset / "images", dataset / "labels", dataset / "prompts.json", where="outside", distance_mm=6.0
        )
    options = ("--where", "outside", "--distance_mm", "6", "--skip_impossible")
    assert main(command(dataset, *options)) == 0
    (said,) = caplog.messages
    assert said.startswith("No prompt: ")
    assert "case 'b', object 1 ('organ'): no voxel outside" in said
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
