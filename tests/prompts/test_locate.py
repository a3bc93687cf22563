"""From prompts of every kind to the voxels of an oblique image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from labelled_images import to_image

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.prompts.kinds import KINDS, listed_kinds, require_kinds
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case, read_previous_mask, similar_case
from nnunetv2_promise.prompts.schema import Point, Prompt, PromptFile, save_prompt_file

SHAPE_ZYX = (5, 7, 9)
IMAGE = to_image(np.zeros(SHAPE_ZYX, np.uint8))
GEOMETRY = ImageGeometry.from_sitk(IMAGE)


def in_coordinates(voxel_xyz: tuple[float, ...], coordinates: str) -> Point:
    """Converted by SimpleITK only."""
    if coordinates == "voxel":
        return voxel_xyz
    x, y, z = IMAGE.TransformContinuousIndexToPhysicalPoint(voxel_xyz)
    return (x, y, z) if coordinates == "LPS" else (-x, -y, z)


def locate(tmp_path: Path, coordinates: str, prompt: Prompt) -> LocatedPrompt:
    prompts = save_prompt_file(tmp_path / "p.json", {"a": [prompt]}, coordinates=coordinates)
    (located,) = locate_case(prompts, "a", GEOMETRY, labels={"t": 1})
    return located


@pytest.mark.parametrize("coordinates", ["voxel", "LPS", "RAS"])
def test_locate_every_kind(coordinates: str, tmp_path: Path) -> None:
    def at(*voxel_xyz: float) -> Point:
        return in_coordinates(voxel_xyz, coordinates)

    prompt = Prompt(
        "t",
        points=(at(1, 2, 3), at(8, 0, 0)),
        negative_points=(at(4.25, 5, 0),),
        order="-++",
        box=(*at(6, 1, 4), *at(2, 5, 0)),
        scribbles=((at(0, 0, 0), at(8, 6, 4)), (at(3, 3, 3),)),
    )
    located = locate(tmp_path, coordinates, prompt)
    np.testing.assert_allclose(located.index_zyx, [[3, 2, 1], [0, 0, 8]], atol=1e-9)
    np.testing.assert_allclose(located.negative_index_zyx, [[0, 5, 4.25]], atol=1e-9)
    clicks_zyx, positive = located.clicks_zyx()
    np.testing.assert_allclose(clicks_zyx, [[0, 5, 4.25], [3, 2, 1], [0, 0, 8]], atol=1e-9)
    assert positive.tolist() == [False, True, True]
    np.testing.assert_allclose(located.box_zyx, [[0, 1, 2], [4, 5, 6]], atol=1e-9)
    first, second = located.scribbles_zyx
    np.testing.assert_allclose(first, [[0, 0, 0], [4, 6, 8]], atol=1e-9)
    np.testing.assert_allclose(second, [[3, 3, 3]], atol=1e-9)
    assert located.previous_mask is None


def test_clicks_without_an_order_are_positive_first() -> None:
    clicks_zyx, positive = LocatedPrompt(1, np.ones((1, 3)), np.zeros((2, 3))).clicks_zyx()
    assert clicks_zyx.tolist() == [[1.0] * 3, [0.0] * 3, [0.0] * 3]
    assert positive.tolist() == [True, False, False]
    clicks_zyx, positive = LocatedPrompt(1, np.ones((2, 3))).clicks_zyx()
    assert (clicks_zyx.shape, positive.tolist()) == ((2, 3), [True, True])


OUT = (9.0, 0.0, 0.0)
IN = (8.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (Prompt("t", (IN, OUT)), r"object 1, point 2: \(9, 0, 0\) \(voxel\) lies outside"),
        (Prompt("t", (OUT, IN, OUT)), "object 1, point 1: "),
        (Prompt("t", (IN,), (IN, OUT)), "object 1, negative point 2: "),
        (Prompt("t", box=(*IN, *OUT)), "object 1, field 'box', corner 2: "),
        (Prompt("t", scribbles=((IN,), (IN, OUT))), "object 1, scribble 2, point 2: "),
        (Prompt("t", (IN,), previous_mask="absent.nii.gz"), "field 'previous_mask': .*absent.nii.gz does not exist"),
        (Prompt("t", (IN,), previous_mask="moved.nii.gz"), "the image and .*moved.nii.gz differ in origin"),
        (Prompt("t", (IN,), previous_mask="p.json"), "p.json cannot be read"),
        (Prompt("x", (OUT,)), "label 'x' is not a foreground label"),
    ],
)
def test_locate_names_what_does_not_fit_the_image(prompt: Prompt, expected: str, tmp_path: Path) -> None:
    moved = to_image(np.zeros(SHAPE_ZYX, np.uint8))
    moved.SetOrigin((-41.0, 12.5, 300.0))
    sitk.WriteImage(moved, str(tmp_path / "moved.nii.gz"))
    with pytest.raises(UserError, match=expected):
        locate(tmp_path, "voxel", prompt)


@pytest.mark.parametrize("coordinates", ["LPS", "RAS"])
def test_a_point_in_mm_outside_of_the_image_is_told_in_voxels(coordinates: str, tmp_path: Path) -> None:
    expected = (
        rf"point 1: \(.*\) \({coordinates}\) is voxel \(9, 6, 4\) \(x, y, z\), outside of the image: "
        r"the image has \(9, 7, 5\) voxels"
    )
    with pytest.raises(UserError, match=expected):
        locate(tmp_path, coordinates, Prompt("t", (in_coordinates((9, 6, 4), coordinates),)))


def test_previous_mask_is_what_is_not_0(tmp_path: Path) -> None:
    array = np.zeros(SHAPE_ZYX, np.int16)
    array[1, 2, 3], array[3, 0, 0], array[4, 6, 8] = 1, -1, 7
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(to_image(array), str(tmp_path / "masks" / "m.nii.gz"))
    located = locate(tmp_path, "voxel", Prompt("t", (IN,), previous_mask="masks/m.nii.gz"))
    assert located.previous_mask == tmp_path / "masks" / "m.nii.gz"
    assert np.argwhere(read_previous_mask(located.previous_mask)).tolist() == [[1, 2, 3], [3, 0, 0], [4, 6, 8]]


# what a model takes

KIND_EXAMPLES = {
    "points": Prompt("t", (IN,)),
    "negative_points": Prompt("t", negative_points=(IN,)),
    "box": Prompt("t", box=(*IN, *IN)),
    "scribbles": Prompt("t", scribbles=((IN,),)),
    "previous_mask": Prompt("t", (IN,), previous_mask="m.nii.gz"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_points_refuses_each_other_kind(kind: str) -> None:
    prompts = PromptFile(Path("p.json"), "voxel", {"z": (KIND_EXAMPLES["points"], KIND_EXAMPLES[kind])})
    if kind == "points":
        require_kinds(prompts, ["points"], model="ThisTrainer")
        return
    expected = f"^Prompt file p.json, case 'z', object 2 has {KINDS[kind]}, but ThisTrainer takes points only; remove"
    with pytest.raises(UserError, match=expected):
        require_kinds(prompts, ["points"], model="ThisTrainer")
    require_kinds(prompts, ["points", kind], model="ThisTrainer")


def test_kinds_are_listed_in_words() -> None:
    assert listed_kinds(["points"]) == "points"
    assert listed_kinds(["previous_mask", "points", "scribbles"]) == "points, scribbles and a previous mask"
    assert listed_kinds([]) == "nothing"


@pytest.mark.parametrize(
    ("case", "meant"),
    [("Scan_1", "scan_1"), ("scan_1_0000", "scan_1"), (" scan_1.nii.gz", "scan_1"), ("scan_2", None), ("a", None)],
)
def test_similar_case_is_the_one_that_was_meant(case: str, meant: str | None) -> None:
    hint = similar_case(case, ["b", "scan_1", "scan_3"])
    assert hint == ("" if meant is None else f"; write {meant!r}, the file's name without channel number and ending")
