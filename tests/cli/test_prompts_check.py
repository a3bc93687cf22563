"""``nnUNetv2_promise_prompts check``: every fault is told, every click is drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk  # noqa: N813
from labelled_images import label_array, simulate, to_image, write_dataset
from matplotlib.figure import Figure

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.prompts import draw
from nnunetv2_promise.prompts.check import check_prompts
from nnunetv2_promise.prompts.draw import draw_slices
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path)


def test_check_draws_every_click(dataset: Path) -> None:
    path = simulate(dataset, points=2, only_labels=["tumour"], coordinates="LPS")
    report = check_prompts(path, dataset / "images", output=dataset / "pictures")
    assert report.problems == []
    assert report.labels_known
    assert (report.cases, report.objects, report.points, report.empty_cases) == (3, 6, 12, ["c"])
    assert len(report.pictures) == 12
    assert dataset / "pictures" / "b_object3_point2.png" in report.pictures
    assert {path.read_bytes()[:4] for path in report.pictures} == {b"\x89PNG"}
    assert sorted((dataset / "pictures").iterdir()) == sorted(report.pictures)


def prompt_file(dataset: Path, cases: dict[str, list[Prompt]], coordinates: str = "voxel") -> Path:
    everything = {"a": [], "b": [], "c": [], **cases}
    listed = {case: prompts for case, prompts in everything.items() if prompts is not None}
    save_prompt_file(dataset / "prompts.json", listed, coordinates=coordinates)
    return dataset / "prompts.json"


INSIDE = (3.0, 2.0, 5.0)


PROBLEMS = [
    ({"z": [Prompt(1, (INSIDE,))]}, "voxel", "lists case 'z', but .*images has no image of that name"),
    ({"b": None}, "voxel", "does not list case 'b'"),
    ({"a": [Prompt(1, (INSIDE,)), Prompt("kidney", (INSIDE,))]}, "voxel", "case 'a', object 2: label 'kidney'"),
    ({"a": [Prompt(3, (INSIDE,))]}, "voxel", "object 1: label 3 is not a foreground label"),
    ({"a": [Prompt(1, (INSIDE, (22.0, 0.0, 0.0)))]}, "voxel", r"object 1, point 2: \(22, 0, 0\) \(voxel\).*outside"),
    ({"a": [Prompt(1, ((-0.6, 0.0, 0.0),))]}, "voxel", "outside of the image"),
    ({"a": [Prompt(1, ((0.0, 13.6, 0.0),))]}, "voxel", r"the image has \(22, 14, 9\) voxels"),
    ({"a": [Prompt(1, (INSIDE,))]}, "RAS", r"\(3, 2, 5\) \(RAS\) is voxel .* outside"),
    ({"a": [Prompt(1, ((1e300, 0.0, 0.0),))]}, "LPS", "outside"),
]


@pytest.mark.parametrize(("cases", "coordinates", "expected"), PROBLEMS)
def test_check_tells_each_problem(
    cases: dict, coordinates: str, expected: str, dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    path = prompt_file(dataset, cases, coordinates)
    (problem,) = check_prompts(path, dataset / "images").problems
    assert re.search(expected, problem)
    assert "prompts.json" in problem
    assert main(["check", str(path), "-i", str(dataset / "images"), "-o", str(dataset / "pictures")]) == 2
    assert f"Error: {' '.join(problem.split())}\n" in capsys.readouterr().err
    assert not list((dataset / "pictures").glob("z*"))


def test_check_lists_all_problems(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    path = prompt_file(dataset, {"a": [Prompt("x", (INSIDE,))], "b": None, "z": []})
    assert main(["check", str(path), "-i", str(dataset / "images")]) == 2
    captured = capsys.readouterr()
    assert all(f"case '{case}'" in captured.out for case in "abz")
    assert "has 3 faults, listed above" in captured.err


def test_check_goes_on_after_a_case_without_an_image(dataset: Path) -> None:
    path = prompt_file(dataset, {"A": [Prompt("tumour", (INSIDE,))], "b": [Prompt("kidney", (INSIDE,))]})
    unknown, faulty = check_prompts(path, dataset / "images").problems
    assert "lists case 'A'" in unknown
    assert "has no image of that name; write 'a', the file's name" in unknown
    assert "case 'b', object 1: label 'kidney'" in faulty


def test_check_without_dataset_json_says_so(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    (dataset / "dataset.json").unlink()
    path = prompt_file(dataset, {"a": [Prompt("anything", (INSIDE,))]})
    assert main(["check", str(path), "-i", str(dataset / "images")]) == 0
    assert "Labels were not checked" in capsys.readouterr().out


def test_check_damaged_image_is_a_problem(dataset: Path) -> None:
    (dataset / "images" / "a_0000.nii.gz").write_bytes(b"damaged")
    (problem,) = check_prompts(prompt_file(dataset, {}), dataset / "images").problems
    assert "a_0000.nii.gz cannot be read" in problem


def test_check_draws_the_first_channel(dataset: Path) -> None:
    path = prompt_file(dataset, {"b": [Prompt(1, (INSIDE,))]})
    (before,) = check_prompts(path, dataset / "images", output=dataset / "one_channel").pictures
    for case in "abc":
        first = sitk.ReadImage(str(dataset / "images" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(first * 0, str(dataset / "images" / f"{case}_0001.nii.gz"))
    (after,) = check_prompts(path, dataset / "images", output=dataset / "two_channels").pictures
    assert after.read_bytes() == before.read_bytes()


def test_check_goes_through_all_damaged_channels(dataset: Path) -> None:
    """Voxels cut off behind a sound header, in a second channel and in two cases; with pictures asked for."""
    for name in ("a_0001", "b_0000"):
        path = dataset / "images" / f"{name}.nii.gz"
        path.write_bytes(path.read_bytes()[:-300])
    path = prompt_file(dataset, {case: [Prompt(1, (INSIDE,))] for case in "abc"} | {"b": [Prompt("x", (INSIDE,))]})
    report = check_prompts(path, dataset / "images", output=dataset / "pictures")
    first, second, third = report.problems
    assert re.search(r"a_0001.nii.gz cannot be read .*cut off", first)
    assert re.search(r"b_0000.nii.gz cannot be read .*cut off", second)
    assert "case 'b', object 1: label 'x'" in third
    assert [picture.name for picture in report.pictures] == ["c_object1_point1.png"]


def test_check_compares_the_grids_of_channels(dataset: Path) -> None:
    image = to_image(label_array())
    image.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(image, str(dataset / "images" / "c_0001.nii.gz"))
    (problem,) = check_prompts(prompt_file(dataset, {}), dataset / "images").problems
    assert re.search(r"c_0000.nii.gz and .*c_0001.nii.gz differ in origin", problem)


def test_check_draws_negative_clicks_in_their_order(dataset: Path) -> None:
    path = prompt_file(dataset, {"a": [Prompt(1, (INSIDE, INSIDE), (INSIDE,), "+-+")]})
    report = check_prompts(path, dataset / "images", output=dataset / "pictures")
    assert (report.points, report.problems) == (3, [])
    assert [picture.name for picture in report.pictures] == [f"a_object1_point{row}.png" for row in (1, 2, 3)]


def test_check_heads_each_picture_with_the_click_as_it_was_given(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []

    def noted(*arguments: Any, title: str) -> Figure:
        titles.append(title)
        return draw_slices(*arguments, title=title)

    monkeypatch.setattr(draw, "draw_slices", noted)
    path = prompt_file(dataset, {"a": [Prompt(1, (INSIDE,)), Prompt("tumour", (INSIDE,), ((4.25, 1.0, 6.0),))]})
    check_prompts(path, dataset / "images", output=dataset / "pictures")
    assert titles == [
        "a, object 1, label 1: (3, 2, 5) voxel",
        "a, object 2, label tumour: (3, 2, 5) voxel",
        "a, object 2, label tumour, negative: (4.25, 1, 6) voxel",
    ]


def test_check_broken_prompt_file_is_refused(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    (dataset / "prompts.json").write_text('{"version": 1}')
    assert main(["check", str(dataset / "prompts.json"), "-i", str(dataset / "images")]) == 2
    assert "the key 'coordinates' is missing" in capsys.readouterr().err
