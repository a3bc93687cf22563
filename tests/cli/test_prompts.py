"""``nnUNetv2_promise_prompts simulate``: clicks land on their objects, and faults are told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from labelled_images import LABELS, SHAPE_ZYX, label_array, simulate, to_image, write_dataset

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.images.folders import find_images
from nnunetv2_promise.prompts.check import check_prompts
from nnunetv2_promise.prompts.schema import Prompt, load_prompt_file
from nnunetv2_promise.prompts.simulate import simulate_prompts


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path)


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


def test_simulate_clicks_on_every_object_however_small(dataset: Path) -> None:
    """Voxels of 0.125 mm3, and a tumour of one of them."""
    for path in [*dataset.glob("images/*.nii.gz"), *dataset.glob("labels/*.nii.gz")]:
        image = sitk.ReadImage(str(path))
        image.SetSpacing((0.5, 0.5, 0.5))
        sitk.WriteImage(image, str(path))
    cases = load_prompt_file(simulate(dataset)).cases
    assert {case: len(prompts) for case, prompts in cases.items()} == {"a": 4, "b": 3, "c": 0}


def test_simulate_has_seed_0_if_not_told(dataset: Path) -> None:
    assert simulate(dataset, "1.json").read_bytes() == simulate(dataset, "2.json", seed=0).read_bytes()


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
