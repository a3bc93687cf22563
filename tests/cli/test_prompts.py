"""``nnUNetv2_promise_prompts``: clicks land on their objects, and faults are told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.images.folders import find_images
from nnunetv2_promise.prompts.check import check_prompts
from nnunetv2_promise.prompts.schema import Prompt, load_prompt_file, save_prompt_file
from nnunetv2_promise.prompts.simulate import simulate_prompts

SHAPE_ZYX = (9, 14, 22)
DIRECTION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ np.diag([1, -1, 1])
LABELS = {"background": 0, "liver": 1, "tumour": 2}


def to_image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 1.7, 4.1))
    image.SetOrigin((-40.0, 12.5, 300.0))
    image.SetDirection(DIRECTION.ravel().tolist())
    return image


def label_array() -> np.ndarray:
    """One liver; tumours of 27, 8 and 1 voxels."""
    array = np.zeros(SHAPE_ZYX, dtype=np.uint8)
    array[0:3, 0:9, 0:20] = 1
    array[4:7, 1:4, 2:5] = 2
    array[4:6, 9:11, 15:17] = 2
    array[8, 13, 21] = 2
    return array


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Cases a and b with objects, c without; oblique, anisotropic, left-handed."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    arrays = {"a": label_array(), "b": np.where(label_array() == 1, 0, label_array()), "c": np.zeros(SHAPE_ZYX)}
    for case, array in arrays.items():
        sitk.WriteImage(to_image(array.astype(np.uint8)), str(tmp_path / "labels" / f"{case}.nii.gz"))
        image = to_image(np.random.default_rng(0).normal(size=SHAPE_ZYX).astype(np.float32))
        sitk.WriteImage(image, str(tmp_path / "images" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(image, str(tmp_path / "images" / f"{case}_0001.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    return tmp_path


def simulate(dataset: Path, name: str = "prompts.json", **options: Any) -> Path:
    output = dataset / name
    simulate_prompts(dataset / "images", dataset / "labels", output, **options)
    return output


def clicked_voxels(path: Path, case: str, label_map: sitk.Image) -> list[tuple[str | int, list[tuple[int, ...]]]]:
    """(label, (x, y, z) voxels) of each object, converted by SimpleITK only."""
    content = json.loads(path.read_text())
    signs = {"LPS": np.array([1, 1, 1]), "RAS": np.array([-1, -1, 1])}
    objects = []
    for item in content["cases"][case]:
        if content["coordinates"] == "voxel":
            voxels = [tuple(round(value) for value in point) for point in item["points"]]
        else:
            lps = [(signs[content["coordinates"]] * point).tolist() for point in item["points"]]
            voxels = [label_map.TransformPhysicalPointToIndex(point) for point in lps]
        objects.append((item["label"], voxels))
    return objects


# simulate


@pytest.mark.parametrize("coordinates", ["voxel", "LPS", "RAS"])
@pytest.mark.parametrize("where", ["random", "centre"])
def test_simulate_clicks_once_on_each_component(coordinates: str, where: str, dataset: Path) -> None:
    path = simulate(dataset, coordinates=coordinates, where=where, points=2)
    label_map = sitk.ReadImage(str(dataset / "labels" / "a.nii.gz"))
    components = sitk.ConnectedComponent(label_map == 2, True)
    objects = clicked_voxels(path, "a", label_map)
    assert [label for label, _ in objects] == ["liver", "tumour", "tumour", "tumour"]
    hit = []
    for label, voxels in objects:
        assert len(voxels) == 2
        assert all(label_map[voxel] == LABELS[label] for voxel in voxels)
        if label == "tumour":
            (component,) = {components[voxel] for voxel in voxels}
            hit.append(component)
    assert sorted(hit) == [1, 2, 3]
    assert json.loads(path.read_text())["cases"]["c"] == []


def test_simulate_centre_by_hand(dataset: Path) -> None:
    prompts = load_prompt_file(simulate(dataset, where="centre", only_labels=["tumour"])).cases["a"]
    assert prompts[0] == Prompt("tumour", ((3.0, 2.0, 5.0),))
    assert prompts[2] == Prompt("tumour", ((21.0, 13.0, 8.0),))


def test_simulate_centre_is_deepest_in_mm(dataset: Path) -> None:
    """A rod of 9 x 5 x 5 voxels, deeper in voxels (3), and a plate of 3 x 7 x 11, deeper in mm (6 x 0.8)."""
    array = np.zeros(SHAPE_ZYX, dtype=np.uint8)
    array[0:9, 0:5, 0:5] = array[0:3, 6:13, 6:17] = array[1, 4:8, 4] = array[1, 7, 4:7] = 1
    sitk.WriteImage(to_image(array), str(dataset / "labels" / "a.nii.gz"))
    (prompt,) = load_prompt_file(simulate(dataset, where="centre")).cases["a"]
    ((x, _, z),) = prompt.points
    assert (x, z) == (11, 1)


def test_simulate_cases_with_equal_labels_get_other_clicks(dataset: Path) -> None:
    for case in "abc":
        sitk.WriteImage(to_image(label_array()), str(dataset / "labels" / f"{case}.nii.gz"))
    cases = load_prompt_file(simulate(dataset, points=3)).cases
    assert len({cases[case][0].points for case in "abc"}) == 3


def test_simulate_same_seed_same_clicks_whatever_the_other_cases(dataset: Path) -> None:
    first, again, other = (
        load_prompt_file(simulate(dataset, name, points=3, seed=seed)).cases
        for name, seed in (("1.json", 5), ("2.json", 5), ("3.json", 6))
    )
    assert first == again
    assert first["a"] != other["a"]
    assert first["a"][1:] != first["b"]
    for name in ("a_0000", "a_0001", "c_0000", "c_0001"):
        (dataset / "images" / f"{name}.nii.gz").unlink()
    alone = load_prompt_file(simulate(dataset, "4.json", points=3, seed=5)).cases
    assert alone == {"b": first["b"]}


def test_simulate_per_case_gives_one_object_for_each_label(dataset: Path) -> None:
    path = simulate(dataset, per="case", points=200)
    objects = clicked_voxels(path, "a", sitk.ReadImage(str(dataset / "labels" / "a.nii.gz")))
    assert [label for label, _ in objects] == ["liver", "tumour"]
    tumour_xyz = {tuple(voxel) for voxel in np.argwhere(label_array() == 2)[:, ::-1].tolist()}
    assert set(objects[1][1]) == tumour_xyz


def test_simulate_min_volume_leaves_out_small_objects(dataset: Path) -> None:
    voxel_mm3 = 0.8 * 1.7 * 4.1
    for least_voxels, kept in ((0, 3), (1.01, 2), (7.99, 2), (8.01, 1), (28, 0)):
        path = simulate(dataset, min_volume_mm3=least_voxels * voxel_mm3, only_labels=[2])
        assert len(load_prompt_file(path).cases["b"]) == kept


@pytest.mark.parametrize("points", [1, 2, 4])
def test_simulate_nested_draws_further_clicks_after_the_same_first_ones(points: int, dataset: Path) -> None:
    label_map = sitk.ReadImage(str(dataset / "labels" / "a.nii.gz"))
    most = clicked_voxels(simulate(dataset, "most.json", points=4, nested=True), "a", label_map)
    fewer = clicked_voxels(simulate(dataset, "fewer.json", points=points, nested=True), "a", label_map)
    assert [len(voxels) for _, voxels in fewer] == [points] * len(most)
    assert fewer == [(label, voxels[:points]) for label, voxels in most]


def test_simulate_nested_clicks_are_distinct_while_there_are_voxels(dataset: Path) -> None:
    label_map = sitk.ReadImage(str(dataset / "labels" / "a.nii.gz"))
    objects = clicked_voxels(simulate(dataset, points=9, nested=True), "a", label_map)
    # The liver and tumours of 27, 8 and 1 voxels.
    assert sorted(len(set(voxels)) for _, voxels in objects) == [1, 8, 9, 9]
    assert all(len(voxels) == 9 for _, voxels in objects)


def test_simulate_decathlon_names_and_labels(dataset: Path) -> None:
    for path in (dataset / "images").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", ""))) if "_0000" in path.name else path.unlink()
    (dataset / "images" / "._a.nii.gz").write_bytes(b"left behind by macOS")
    labels = {"0": "background", "1": "liver", "2": "tumour"}
    (dataset / "dataset.json").write_text(json.dumps({"labels": labels}))
    prompts = load_prompt_file(simulate(dataset)).cases
    assert [prompt.label for prompt in prompts["a"]] == ["liver", "tumour", "tumour", "tumour"]


def test_simulate_command_reports_and_is_checked(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    images, labels, output = (str(dataset / name) for name in ("images", "labels", "images/prompts.json"))
    arguments = ["simulate", "-i", images, "-l", labels, "-o", output, "--points", "2", "--coordinates", "RAS"]
    assert main([*arguments, "--labels", "2", "--where", "centre", "--seed", "3", "--per", "component"]) == 0
    assert "3 cases, 6 objects, 1 cases without an object" in capsys.readouterr().out
    assert main(["check", output, "-i", images]) == 0
    out = capsys.readouterr().out
    assert "3 cases, 6 objects, 12 clicks" in out
    assert "their masks will be empty: c" in out


def spoil_labels(name: str) -> Callable[[Path], None]:
    return lambda dataset: (dataset / "labels" / name).unlink()


def move_label(dataset: Path) -> None:
    image = to_image(label_array())
    image.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(image, str(dataset / "labels" / "b.nii.gz"))


def turn_label(dataset: Path) -> None:
    image = to_image(label_array())
    image.SetDirection(np.eye(3).ravel().tolist())
    sitk.WriteImage(image, str(dataset / "labels" / "b.nii.gz"))


def label_of_two_slices(dataset: Path) -> None:
    sitk.WriteImage(sitk.Image(4, 5, sitk.sitkUInt8), str(dataset / "labels" / "b.nii.gz"))


def label_with_fractions(dataset: Path) -> None:
    sitk.WriteImage(to_image(label_array() * np.float32(0.5)), str(dataset / "labels" / "b.nii.gz"))


def image_4d(dataset: Path) -> None:
    image = to_image(label_array())
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(dataset / "images" / "b_0000.nii.gz"))


def truncated_label(dataset: Path) -> None:
    path = dataset / "labels" / "b.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])


def damaged_image(dataset: Path) -> None:
    (dataset / "images" / "b_0000.nii.gz").write_bytes(b"")


def no_images(dataset: Path) -> None:
    for path in (dataset / "images").iterdir():
        path.unlink()


def two_endings(dataset: Path) -> None:
    sitk.WriteImage(to_image(label_array()), str(dataset / "labels" / "b.nrrd"))


def no_dataset_json(dataset: Path) -> None:
    (dataset / "dataset.json").unlink()


def broken_dataset_json(dataset: Path) -> None:
    (dataset / "dataset.json").write_text("{")


def regions_only(dataset: Path) -> None:
    (dataset / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2]}}))


BAD_DATASETS = [
    (spoil_labels("b.nii.gz"), r"labels has no label map for 1 case\(s\): b"),
    (move_label, "b_0000.nii.gz and label map .*b.nii.gz differ in origin"),
    (turn_label, "differ in (origin|direction)"),
    (label_of_two_slices, "b.nii.gz has 2 dimensions"),
    (label_with_fractions, "labels/b.nii.gz has the value .*, which is not a whole number"),
    (image_4d, "b_0000.nii.gz has 4 dimensions"),
    (truncated_label, "labels/b.nii.gz .*cannot be read"),
    (damaged_image, "b_0000.nii.gz cannot be read"),
    (no_images, "images has no images"),
    (two_endings, "has both b.nii.gz and b.nrrd"),
    (no_dataset_json, "No dataset.json in or above .*--dataset_json"),
    (broken_dataset_json, "dataset.json is not valid JSON"),
    (regions_only, "has no foreground label of a single value"),
]


@pytest.mark.parametrize(("spoil", "expected"), BAD_DATASETS)
def test_simulate_bad_input_gives_one_sentence_and_no_file(
    spoil: Callable[[Path], None], expected: str, dataset: Path, capfd: pytest.CaptureFixture
) -> None:
    spoil(dataset)
    output = dataset / "out" / "prompts.json"
    arguments = ["-i", str(dataset / "images"), "-l", str(dataset / "labels"), "-o", str(output)]
    assert main(["simulate", *arguments]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "Error: " in line]
    assert re.search(expected, line)
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["--labels", "kidney"], "label 'kidney' is not a foreground label .* 'liver' (1), 'tumour' (2)"),
        (["--labels", "0"], "label 0 is not a foreground label"),
        (["-i", "nowhere"], "nowhere does not exist"),
        (["-l", "nowhere"], "nowhere does not exist"),
        (["--dataset_json", "nowhere.json"], "nowhere.json does not exist"),
    ],
)
def test_simulate_bad_option_gives_one_sentence(
    option: list[str], expected: str, dataset: Path, capsys: pytest.CaptureFixture
) -> None:
    output = dataset / "p.json"
    arguments = ["-i", str(dataset / "images"), "-l", str(dataset / "labels"), "-o", str(output), *option]
    assert main(["simulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in expected.split(".*"))
    assert not output.exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--points", "0"],
        ["--points", "x"],
        ["--min_volume", "-1"],
        ["--min_volume", "inf"],
        ["--min_volume", "x"],
        ["--seed", "x"],
        ["--per", "lesion"],
        ["--coordinates", "lps"],
        ["--where", "middle"],
    ],
)
def test_simulate_argparse_refuses(option: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["simulate", "-i", "i", "-l", "l", "-o", "o", *option])
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


# check


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


def test_check_broken_prompt_file_is_refused(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    (dataset / "prompts.json").write_text('{"version": 1}')
    assert main(["check", str(dataset / "prompts.json"), "-i", str(dataset / "images")]) == 2
    assert "the key 'coordinates' is missing" in capsys.readouterr().err


def test_command_without_subcommand_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


# files


def test_find_images_takes_the_first_channel(dataset: Path) -> None:
    (dataset / "images" / ".hidden_0000.nii.gz").touch()
    (dataset / "images" / "prompts.json").touch()
    assert {case: path.name for case, path in find_images(dataset / "images").items()} == {
        case: f"{case}_0000.nii.gz" for case in "abc"
    }


# real data


@pytest.mark.parametrize("where", ["random", "centre"])
def test_simulate_and_check_real_data(where: str, shared: Path, tmp_path: Path) -> None:
    task = shared / "data" / "Task04_Hippocampus"
    files = sorted((task / "labelsTr").glob("hippocampus_*.nii.gz"))[:5]
    if not files:
        pytest.skip("no Task04_Hippocampus in shared/data")
    (tmp_path / "images").mkdir()
    for path in files:
        image = task / "imagesTr" / path.name
        (tmp_path / "images" / path.name.replace(".nii.gz", "_0000.nii.gz")).symlink_to(image)
    output = tmp_path / "prompts.json"
    options = {"where": where, "coordinates": "RAS", "per": "case", "points": 3}
    simulate_prompts(tmp_path / "images", task / "labelsTr", output, **options)
    report = check_prompts(output, tmp_path / "images", dataset_json=task / "dataset.json")
    assert report.problems == []
    assert (report.cases, report.objects, report.points) == (len(files), 2 * len(files), 6 * len(files))
    for path in files:
        label_map = sitk.ReadImage(str(path))
        for label, voxels in clicked_voxels(output, path.name[:-7], label_map):
            expected = {"Anterior": 1, "Posterior": 2}[label]
            assert {label_map[voxel] for voxel in voxels} == {expected}
