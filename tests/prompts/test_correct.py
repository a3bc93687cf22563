"""The next click on a wrong mask: by hand, and repeated until the mask is right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.correct import correct_prompts
from nnunetv2_promise.prompts.schema import Prompt, PromptFile, load_prompt_file, save_prompt_file

SHAPE_ZYX = (9, 12, 20)
SPACING_XYZ = (1.0, 2.0, 4.0)


def write(array: np.ndarray, path: Path, *, origin: float = 0.0) -> None:
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(SPACING_XYZ)
    image.SetOrigin((origin, 5.0, -3.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def block(*slices: slice) -> np.ndarray:
    array = np.zeros(SHAPE_ZYX, np.uint8)
    array[slices] = 1
    return array


LEFT = block(slice(3, 6), slice(3, 8), slice(1, 6))
RIGHT = block(slice(3, 6), slice(3, 8), slice(10, 15))
ON_LEFT = (3.0, 5.0, 4.0)
ON_RIGHT = (12.0, 5.0, 4.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Case a: two tumours that look alike, each clicked once."""
    write(np.zeros(SHAPE_ZYX), tmp_path / "images" / "a_0000.nii.gz")
    write(LEFT | RIGHT, tmp_path / "labels" / "a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "tumour": 1, "cyst": 2}}))
    save(tmp_path, Prompt("tumour", (ON_LEFT,)), Prompt("tumour", (ON_RIGHT,)))
    return tmp_path


def save(folder: Path, *prompts: Prompt) -> None:
    save_prompt_file(folder / "first.json", {"a": prompts}, coordinates="voxel")


def correct(folder: Path, **options: str) -> PromptFile:
    names = [folder / name for name in ("first.json", "images", "labels", "masks", "second.json")]
    written = correct_prompts(*names, **options)
    assert load_prompt_file(folder / "second.json") == written
    return written


def test_missing_and_superfluous_voxels_of_one_mask_per_object(folder: Path) -> None:
    """Left: nothing is there. Right: a block of 3 x 3 x 3 beside it should not be; its middle is (17, 5, 4)."""
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a_object1.nii.gz")
    write(RIGHT | block(slice(3, 6), slice(4, 7), slice(16, 19)), folder / "masks" / "a_object2.nii.gz")
    left, right = correct(folder).cases["a"]
    assert left == Prompt("tumour", (ON_LEFT, ON_LEFT), previous_mask="masks/a_object1.nii.gz")
    assert right == Prompt("tumour", (ON_RIGHT,), ((17.0, 5.0, 4.0),), previous_mask="masks/a_object2.nii.gz")


def test_masks_of_single_objects_in_a_folder_of_the_case(folder: Path) -> None:
    """As prediction writes them beside its label maps; the label map, which is right, is not looked at."""
    write(LEFT | RIGHT, folder / "masks" / "a.nii.gz")
    write(LEFT, folder / "masks" / "instances" / "a" / "object_001.nii.gz")
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "instances" / "a" / "object_002.nii.gz")
    left, right = correct(folder).cases["a"]
    assert left == Prompt("tumour", (ON_LEFT,), previous_mask="masks/instances/a/object_001.nii.gz")
    assert right == Prompt("tumour", (ON_RIGHT, ON_RIGHT), previous_mask="masks/instances/a/object_002.nii.gz")


def test_right_masks_get_no_click(folder: Path) -> None:
    write(LEFT, folder / "masks" / "a_object1.nii.gz")
    write(RIGHT * 7, folder / "masks" / "a_object2.nii.gz")
    assert [len(prompt.clicks) for prompt in correct(folder).cases["a"]] == [1, 1]


def test_label_map_gives_each_object_its_own_part(folder: Path) -> None:
    """The map holds all of the left tumour and a part of the right one: (10 to 12) of (10 to 14) along x."""
    write(LEFT | block(slice(3, 6), slice(3, 8), slice(10, 13)), folder / "masks" / "a.nii.gz")
    left, right = correct(folder).cases["a"]
    assert left == Prompt("tumour", (ON_LEFT,))
    assert right.negative_points == ()
    assert right.previous_mask is None
    ((_, (x, y, z)),) = [right.points]
    assert (x in (13.0, 14.0), y, z) == (True, 5.0, 4.0)


def test_label_map_in_which_two_objects_have_run_together(folder: Path) -> None:
    """The bridge is superfluous for both; the neighbour, which has a click of its own, is not."""
    bridge = block(slice(4, 5), slice(5, 6), slice(6, 10))
    write(LEFT | RIGHT | bridge, folder / "masks" / "a.nii.gz")
    for prompt in correct(folder).cases["a"]:
        ((x, y, z),) = prompt.negative_points
        assert (x in (7.0, 8.0), y, z) == (True, 5.0, 4.0)


def test_another_label_that_touches_an_object_is_none_of_it(folder: Path) -> None:
    both = LEFT + 2 * block(slice(3, 6), slice(3, 8), slice(6, 9))
    write(both, folder / "labels" / "a.nii.gz")
    write(both, folder / "masks" / "a.nii.gz")
    prompts = Prompt("tumour", (ON_LEFT,)), Prompt("cyst", ((7.0, 5.0, 4.0),))
    save(folder, *prompts)
    assert correct(folder).cases["a"] == prompts


def test_component_around_a_click_that_missed_is_superfluous(folder: Path) -> None:
    """The click at x = 18 hit nothing; its truth is the nearest tumour, the right one. The mask is around the click."""
    save(folder, Prompt("tumour", ((18.0, 10.0, 4.0),)))
    write(block(slice(4, 5), slice(10, 11), slice(18, 19)), folder / "masks" / "a.nii.gz")
    (prompt,) = correct(folder).cases["a"]
    assert prompt.points[1:] == (ON_RIGHT,)
    write(RIGHT | block(slice(4, 5), slice(10, 11), slice(18, 19)), folder / "masks" / "a.nii.gz")
    (prompt,) = correct(folder).cases["a"]
    assert prompt.negative_points == ((18.0, 10.0, 4.0),)


def test_nearest_is_in_mm(folder: Path) -> None:
    """6 voxels along x are 6 mm, 2 along z are 8 mm."""
    truth = block(slice(0, 1), slice(0, 1), slice(6, 7)) | block(slice(2, 3), slice(0, 1), slice(0, 1))
    write(truth, folder / "labels" / "a.nii.gz")
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a.nii.gz")
    save(folder, Prompt("tumour", ((0.0, 0.0, 0.0),)))
    (prompt,) = correct(folder).cases["a"]
    assert prompt.points[1] == (6.0, 0.0, 0.0)


@pytest.mark.parametrize("prompt", [Prompt("tumour", box=(*ON_RIGHT, *ON_RIGHT)), Prompt(1, scribbles=((ON_RIGHT,),))])
def test_box_and_scribble_show_where_the_object_is(prompt: Prompt, folder: Path) -> None:
    save(folder, prompt)
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a.nii.gz")
    (corrected,) = correct(folder).cases["a"]
    assert corrected.points == (ON_RIGHT,)


def test_middle_of_a_box_shows_where_the_object_is(folder: Path) -> None:
    """From x = 0 to 10: the middle lies on the left tumour, the far corner on the right one."""
    save(folder, Prompt("tumour", box=(0.0, 5.0, 4.0, 10.0, 5.0, 4.0)))
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a.nii.gz")
    assert correct(folder).cases["a"][0].points == (ON_LEFT,)


def test_per_case_the_whole_label_is_the_object(folder: Path) -> None:
    save(folder, Prompt("tumour", (ON_LEFT,)))
    write(LEFT, folder / "masks" / "a.nii.gz")
    assert len(correct(folder).cases["a"][0].points) == 1
    assert correct(folder, per="case").cases["a"][0].points[1] == ON_RIGHT


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (Prompt("cyst", (ON_LEFT,)), "the label map has no voxel of its label"),
        (Prompt("tumour", negative_points=(ON_LEFT,)), "nothing shows where it is"),
    ],
)
def test_object_without_truth_or_place_stays_as_it_is(
    prompt: Prompt, reason: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder, prompt)
    write(LEFT, folder / "masks" / "a.nii.gz")
    assert correct(folder).cases["a"] == (prompt,)
    assert f"Case a, object 1 gets no click: {reason}." in caplog.text


def test_corrections_in_world_coordinates_land_on_the_same_voxels(folder: Path) -> None:
    save_prompt_file(folder / "first.json", {"a": [Prompt("tumour", ((-12.0, -15.0, 13.0),))]}, coordinates="RAS")
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a.nii.gz")
    (prompt,) = correct(folder).cases["a"]
    assert prompt.points == ((-12.0, -15.0, 13.0),) * 2


def test_repeated_corrections_reach_the_truth(folder: Path) -> None:
    """A model that obeys each click within 2 voxels: the clicks run out once the mask is right."""
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a_object1.nii.gz")
    save(folder, Prompt("tumour", (ON_LEFT,)))
    for _ in range(40):
        (prompt,) = correct(folder).cases["a"]
        before = load_prompt_file(folder / "first.json").cases["a"][0]
        if prompt.clicks == before.clicks:
            break
        save(folder, prompt)
        mask = np.zeros(SHAPE_ZYX, bool)
        for click in prompt.clicks:
            x, y, z = map(int, click.point)
            near = np.s_[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            mask[near] = LEFT[near]
        write(mask, folder / "masks" / "a_object1.nii.gz")
    np.testing.assert_array_equal(mask, LEFT)
    assert 3 <= len(prompt.clicks) < 40


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("masks/a.nii.gz", "masks has no mask of case 'a', object 1; name it a_object1 or a"),
        ("labels/a.nii.gz", "labels has no"),
        ("images/a_0000.nii.gz", "images has no image"),
        ("moved", "masks/a.nii.gz and its image differ in origin"),
    ],
)
def test_missing_or_moved_files_are_named(spoil: str, expected: str, folder: Path) -> None:
    for name in ("masks", "labels", "images"):
        write(LEFT, folder / name / "z.nii.gz")
    write(LEFT, folder / "images" / "z_0000.nii.gz")
    write(LEFT, folder / "masks" / "a.nii.gz", origin=3.0 if spoil == "moved" else 0.0)
    if spoil != "moved":
        (folder / spoil).unlink()
    with pytest.raises(UserError, match=expected):
        correct(folder)
    assert not (folder / "second.json").exists()


def test_command(folder: Path, capsys: pytest.CaptureFixture) -> None:
    write(np.zeros(SHAPE_ZYX), folder / "masks" / "a.nii.gz")
    places = [f"{option}{folder / name}" for option, name in (("-i", "images"), ("-l", "labels"), ("-o", "first.json"))]
    corrections = ["--correct", str(folder / "masks"), "--prompts", str(folder / "first.json")]
    assert main(["simulate", *places, *corrections]) == 0
    assert "first.json: 1 cases, 2 objects, 4 clicks." in capsys.readouterr().out
    for wrong, expected in (
        (corrections[:2], "belong together"),
        ([*corrections, "--seed", "1"], "leave out the options"),
    ):
        assert main(["simulate", *places, *wrong]) == 2
        assert expected in capsys.readouterr().err
