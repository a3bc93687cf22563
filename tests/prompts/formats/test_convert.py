"""Click files of viewers and challenges land on the voxels that were clicked, in an anisotropic oblique image.

napari's files were made by napari 0.9.2's own writer (``Points(...).save("x.csv")``); the CVPR challenge's by numpy,
as the challenge's evaluation script calls it; the others follow the tools' documentation.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import read_geometry
from nnunetv2_promise.prompts.convert import convert_prompts
from nnunetv2_promise.prompts.formats.table import FORMATS
from nnunetv2_promise.prompts.locate import locate_case
from nnunetv2_promise.prompts.schema import Prompt, PromptFile

SHAPE_ZYX = (5, 7, 9)
VOXELS_XYZ = [(1.0, 2.5, 3.0), (8.0, 6.0, 0.0), (7.25, 0.0, 4.0)]
DIRECTION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
NAPARI_CSV = "index,axis-0,axis-1,axis-2\r\n0.0,3.0,2.5,1.0\r\n1.0,0.0,6.0,8.0\r\n2.0,4.0,0.0,7.25\r\n"
NAPARI_NAMED_CSV = "index,axis-0,axis-1,axis-2,label\r\n0,3.0,2.5,1.0,tumour\r\n1,0.0,6.0,8.0,background\r\n"


def oblique_image() -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(SHAPE_ZYX, np.uint8))
    image.SetSpacing((0.8, 1.7, 4.1))
    image.SetOrigin((-40.0, 12.5, 300.0))
    image.SetDirection(DIRECTION.ravel().tolist())
    return image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Cases colon_1 and colon_12, so that one name starts with the other."""
    (tmp_path / "images").mkdir()
    for case in ("colon_1", "colon_12"):
        sitk.WriteImage(oblique_image(), str(tmp_path / "images" / f"{case}_0000.nii.gz"))
    return tmp_path / "images"


def lps() -> list[list[float]]:
    return [list(oblique_image().TransformContinuousIndexToPhysicalPoint(voxel)) for voxel in VOXELS_XYZ]


def ras() -> list[list[float]]:
    return [[-x, -y, z] for x, y, z in lps()]


def slicer_json(points: list[list[float]], world: str = "LPS", **markup: Any) -> str:
    """A point list as 3D Slicer saves it, with a point that was never placed."""
    controls = [
        {
            "id": str(number),
            "label": f"F-{number}",
            "description": "",
            "associatedNodeID": "",
            "position": point,
            "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, point in enumerate(points, start=1)
    ]
    controls.insert(1, {"id": "9", "label": "F-9", "position": [0.0, 0.0, 0.0], "positionStatus": "undefined"})
    content = {"type": "Fiducial", "coordinateSystem": world, "coordinateUnits": "mm", "controlPoints": controls}
    return json.dumps({"@schema": "https://x/markups-schema-v1.0.3.json#", "markups": [content | markup]})


def fcsv(points: list[list[float]], world: str) -> str:
    header = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {world}\n"
    header += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    rows = [f"vtkMRMLMarkupsFiducialNode_{n},{x},{y},{z},0,0,0,1,1,1,0,F-{n},,\n" for n, (x, y, z) in enumerate(points)]
    return header + "".join(rows)


def mps(points: list[list[float]], geometry: str = "") -> str:
    tags = [
        f"<point><id>{n}</id><specification>0</specification><x>{x}</x><y>{y}</y><z>{z}</z></point>"
        for n, (x, y, z) in enumerate(points)
    ]
    series = f"<time_series><time_series_id>0</time_series_id>{geometry}{''.join(tags)}</time_series>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<point_set_file><file_version>0.1</file_version>'
        f"<point_set>{series}</point_set></point_set_file>"
    )


def mps_in_a_geometry() -> str:
    """The same points in the coordinates of a point set that is turned and moved."""
    turn, offset = Rotation.from_euler("z", 30, degrees=True).as_matrix(), np.array([1.0, -2.0, 3.0])
    local = (np.array(lps()) - offset) @ turn
    cells = " ".join(f'm_{i}_{j}="{turn[i, j]}"' for i in range(3) for j in range(3))
    moved = f'<Geometry3D ImageGeometry="false"><IndexToWorld type="Matrix3x3" {cells}/>'
    moved += '<Offset type="Vector3D" x="1" y="-2" z="3"/></Geometry3D>'
    return mps(local.tolist(), moved)


def multiple_points(points: list[Any], names: list[str]) -> str:
    listed = [{"point": list(point), "name": name} for point, name in zip(points, names, strict=True)]
    return json.dumps({"version": {"major": 1, "minor": 0}, "type": "Multiple points", "points": listed})


NAMES = ["1", "2", "3"]
CONTENTS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "slicer LPS": ("mrk.json", lambda: slicer_json(lps()), {}),
    "slicer RAS": ("mrk.json", lambda: slicer_json(ras(), "RAS"), {}),
    "fcsv LPS": ("fcsv", lambda: fcsv(lps(), "LPS"), {}),
    "fcsv RAS": ("fcsv", lambda: fcsv(ras(), "RAS"), {}),
    "fcsv of 4.10 (RAS)": ("fcsv", lambda: fcsv(ras(), "0"), {}),
    "fcsv, LPS as number": ("fcsv", lambda: fcsv(lps(), "1"), {}),
    "mitk": ("mps", lambda: mps(lps()), {}),
    "mitk in a geometry": ("mps", mps_in_a_geometry, {}),
    "napari": ("csv", lambda: NAPARI_CSV, {}),
    "grand challenge voxel": ("json", lambda: multiple_points(VOXELS_XYZ, NAMES), {"coordinates": "voxel"}),
    "grand challenge mm": ("json", lambda: multiple_points(lps(), NAMES), {"coordinates": "LPS"}),
    "autopet": ("json", lambda: json.dumps({"tumor": VOXELS_XYZ, "background": []}), {"coordinates": "voxel"}),
}


def located(prompts: PromptFile, case: str, images: Path) -> list[tuple[float, ...]]:
    """Where the case's clicks land, (x, y, z), rounded: headers hold single precision."""
    found = locate_case(prompts, case, read_geometry(images / f"{case}_0000.nii.gz"), labels=None)
    return [tuple(np.round(item.index_zyx[0, ::-1], 3)) for item in found]


def convert(images: Path, ending: str, content: str, **options: Any) -> PromptFile:
    path = images.parent / f"colon_1.{ending}"
    path.write_text(content, newline="")
    return convert_prompts([path], images.parent / "p.json", **{"labels": ["tumour"], "images": images} | options)


@pytest.mark.parametrize("name", CONTENTS)
def test_points_land_on_the_voxels_that_were_clicked(name: str, images: Path) -> None:
    ending, content, options = CONTENTS[name]
    prompts = convert(images, ending, content(), **options)
    assert located(prompts, "colon_1", images) == VOXELS_XYZ
    assert prompts.cases["colon_12"] == ()


def test_every_format_of_the_table_is_tested() -> None:
    assert {known.ending for known in FORMATS} == {f".{ending}" for ending, _, _ in CONTENTS.values()} | {".npz"}


def save_challenge(path: Path, **arrays: Any) -> None:
    np.savez_compressed(path, imgs=np.zeros(SHAPE_ZYX, np.uint8), spacing=np.ones(3), **arrays)


def test_cvpr_challenge_classes_orders_and_boxes(images: Path) -> None:
    """As the challenge's script: clicks are lists of numpy integers in array order, one dictionary for each class."""
    first = {"fg": [list(np.argwhere(np.ones(SHAPE_ZYX))[70])], "bg": [[4, 0, 7], [0, 1, 2]]}
    edges = {"z_min": 1, "z_max": 4, "z_mid": 2, "z_mid_x_min": 3, "z_mid_y_min": 2, "z_mid_x_max": 8, "z_mid_y_max": 6}
    save_challenge(
        images.parent / "colon_1.npz",
        clicks=[first, {"fg": [[2, 3, 4]], "bg": []}],
        clicks_order=np.array([["bg", "fg", "bg"], ["fg"]], dtype=object),
        boxes=[edges, edges],
    )
    prompts = convert_prompts(
        [images.parent / "colon_1.npz"], images.parent / "p.json", labels=["a", "b"], images=images, object_of="list"
    )
    z, y, x = np.unravel_index(70, SHAPE_ZYX)
    box = (3.0, 2.0, 1.0, 8.0, 6.0, 4.0)
    assert prompts.cases["colon_1"] == (
        Prompt("a", ((x, y, z),), ((7.0, 0.0, 4.0), (2.0, 1.0, 0.0)), "-+-", box),
        Prompt("b", ((4.0, 3.0, 2.0),), box=box),
    )


def test_several_labels_are_no_single_object(images: Path) -> None:
    file = images.parent / "colon_1.npz"
    one = {"fg": [[2, 3, 4]], "bg": []}
    save_challenge(file, clicks=[one, one])
    with pytest.raises(UserError, match=r"colon_1.npz has several labels or boxes; --object case needs one"):
        convert_prompts([file], images.parent / "p.json", labels=["a", "b"], images=images, object_of="case")
    for labels in (["a", "a"], ["a"]):
        joined = convert_prompts([file], images.parent / "p.json", labels=labels, images=images, object_of="case")
        assert joined.cases["colon_1"] == (Prompt("a", ((4.0, 3.0, 2.0),) * 2),)


def test_a_single_object_has_one_box(tmp_path: Path) -> None:
    first, second = {"fg": [[2, 3, 4]], "bg": []}, {"fg": [], "bg": [[0, 1, 2]]}
    edges = {"z_min": 1, "z_max": 4, "z_mid": 2, "z_mid_x_min": 3, "z_mid_y_min": 2, "z_mid_x_max": 8, "z_mid_y_max": 6}
    save_challenge(tmp_path / "one.npz", clicks=[first], boxes=[edges])
    save_challenge(tmp_path / "two.npz", clicks=[first, second], boxes=[edges, edges])
    joined = convert_prompts([tmp_path / "one.npz"], tmp_path / "p.json", labels=["a"], object_of="case")
    assert joined.cases["one"] == (Prompt("a", ((4.0, 3.0, 2.0),), box=(3.0, 2.0, 1.0, 8.0, 6.0, 4.0)),)
    with pytest.raises(UserError, match=r"two.npz has several labels or boxes"):
        convert_prompts([tmp_path / "two.npz"], tmp_path / "p.json", labels=["a"], object_of="case")


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


def test_cvpr_challenge_runs_no_code(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images.parent)
    save_challenge(images.parent / "colon_1.npz", clicks=np.array([Bomb()], dtype=object))
    assert isinstance(pickle.loads(pickle.dumps(Path())), Path)
    with pytest.raises(UserError, match=r"colon_1.npz: 'clicks' cannot be read .*which is not clicks"):
        convert_prompts(["colon_1.npz"], "p.json", labels=["a"])
    assert not Path("exploded").exists()


# objects, signs, cases


def test_one_object_from_all_points_of_a_list(images: Path) -> None:
    prompts = convert(images, "csv", NAPARI_NAMED_CSV, object_of="list", negative=["back"])
    assert prompts.cases["colon_1"] == (Prompt("tumour", ((1.0, 2.5, 3.0),), ((8.0, 6.0, 0.0),)),)


def test_autopet_both_containers_give_the_same(images: Path) -> None:
    grouped = json.dumps({"tumor": VOXELS_XYZ[:2], "background": VOXELS_XYZ[2:]})
    named = multiple_points(VOXELS_XYZ, ["tumor", "tumor", "background"])
    results = [
        convert(images, "json", text, coordinates="voxel", object_of="case").cases["colon_1"]
        for text in (grouped, named)
    ]
    assert results[0] == results[1] == (Prompt("tumour", tuple(VOXELS_XYZ[:2]), tuple(VOXELS_XYZ[2:])),)


def test_files_of_a_case_are_joined_and_named_negative(images: Path) -> None:
    """LPS and RAS mix to LPS; the longest case name wins; the order of files is that of clicks."""
    folder = images.parent
    (folder / "colon_12_wrong.mrk.json").write_text(slicer_json(ras()[:1], "RAS"))
    (folder / "colon_12-right.fcsv").write_text(fcsv(lps()[1:], "LPS"))
    files = [folder / "colon_12_wrong.mrk.json", folder / "colon_12-right.fcsv"]
    prompts = convert_prompts(
        files, folder / "p.json", labels=["t"], images=images, object_of="case", negative=["wrong"]
    )
    assert prompts.coordinates == "LPS"
    (prompt,) = prompts.cases["colon_12"]
    np.testing.assert_allclose(prompt.negative_points, lps()[:1], atol=1e-9)
    np.testing.assert_allclose(prompt.points, lps()[1:], atol=1e-9)
    assert prompt.order == "-++"


def test_each_case_gets_the_clicks_of_its_own_files(images: Path) -> None:
    files = [images.parent / "colon_12.csv", images.parent / "colon_1.csv"]
    files[0].write_text(NAPARI_CSV)
    files[1].write_text(NAPARI_CSV.replace("3.0,2.5,1.0", "2.0,4.0,5.0"))
    prompts = convert_prompts(files, images.parent / "p.json", labels=["t"], images=images)
    assert located(prompts, "colon_12", images) == VOXELS_XYZ
    assert located(prompts, "colon_1", images) == [(5.0, 4.0, 2.0), *VOXELS_XYZ[1:]]


def test_coordinates_that_the_format_says_too_may_be_given(images: Path) -> None:
    prompts = convert(images, "csv", NAPARI_CSV, coordinates="voxel")
    assert located(prompts, "colon_1", images) == VOXELS_XYZ


def test_without_images_the_file_name_is_the_case(tmp_path: Path) -> None:
    (tmp_path / "left lung.csv").write_text(NAPARI_CSV)
    prompts = convert_prompts([tmp_path / "left lung.csv"], tmp_path / "p.json", labels=[2])
    assert list(prompts.cases) == ["left lung"]
    assert prompts.cases["left lung"][0] == Prompt(2, (VOXELS_XYZ[0],))
    assert list(convert_prompts([tmp_path / "left lung.csv"], tmp_path / "p.json", labels=[2], case="b").cases) == ["b"]


BAD: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "unknown ending": ("txt", "", {}, r"has an ending that no format of clicks has; known are .mrk.json \(3D Slicer\)"),
    "no such file": ("csv", None, {}, "colon_1.csv does not exist"),
    "voxel or mm not said": ("json", multiple_points(VOXELS_XYZ, NAMES), {}, "say it with --coordinates"),
    "said twice": ("csv", NAPARI_CSV, {"coordinates": "LPS"}, "is in voxel by its format; leave out --coordinates LPS"),
    "said twice, in a file of mm": (
        "mps", mps(VOXELS_XYZ), {"coordinates": "voxel"}, "is in LPS by its format; leave out --coordinates voxel",
    ),
    "no case of that name": ("csv", NAPARI_CSV, {"case": "lung"}, "named after no case of the images"),
    "outside": ("csv", NAPARI_CSV.replace("3.0,2.5", "9,9"), {}, r"case 'colon_1', object 1, point 1: .*outside"),
    "negative alone": ("csv", NAPARI_NAMED_CSV, {"negative": ["back"]}, "join them with --object list or"),
    "only negative": (
        "json", json.dumps({"background": VOXELS_XYZ}), {"coordinates": "voxel", "object_of": "list"},
        "negative points only",
    ),
    "two labels for one list": ("csv", NAPARI_CSV, {"labels": ["a", "b"]}, r"1 list\(s\) .*--label names 2"),
    "slicer, no markups": ("mrk.json", "{}", {}, "has no list 'markups'"),
    "slicer, a line": ("mrk.json", slicer_json([], type="Line"), {}, "markup of type 'Line'; only point lists"),
    "slicer, cm": ("mrk.json", slicer_json([], coordinateUnits="cm"), {}, "coordinates in 'cm'; save .* in mm"),
    "slicer, IJK": ("mrk.json", slicer_json([], "IJK"), {}, "coordinate system 'IJK'; save the points in LPS or RAS"),
    "slicer, two numbers": ("mrk.json", slicer_json([[1.0, 2.0]]), {}, r"point 1: \[1.0, 2.0\] is given, but a point"),
    "slicer, no JSON": ("mrk.json", "{", {}, "is not valid JSON"),
    "fcsv without a world": ("fcsv", "a,1,2,3\n", {}, "has no line '# CoordinateSystem"),
    "fcsv IJK": ("fcsv", fcsv([], "2"), {}, "coordinate system '2'"),
    "fcsv, a word": ("fcsv", fcsv([["a", 1, 2]], "LPS"), {}, "point 1: .* a point is three numbers"),
    "fcsv, comma decimals": ("fcsv", "# CoordinateSystem = LPS\n# columns = id,y,z\n1,2,3\n", {}, "x, y and z must be"),
    "mitk, no XML": ("mps", "<point_set_file>", {}, "is not XML"),
    "mitk, other XML": ("mps", "<svg/>", {}, "starts with <svg>"),
    "mitk, entities": ("mps", "<!DOCTYPE a [<!ENTITY b 'c'>]><point_set_file/>", {}, "defines XML entities"),
    "mitk, no z": ("mps", mps([[1, 2, ""]]), {}, "point 1: .* is given, but a point is three numbers"),
    "mitk, broken geometry": ("mps", mps([], "<Geometry3D><IndexToWorld/></Geometry3D>"), {}, "Geometry3D that"),
    "mitk, two times": ("mps", mps([]).replace("<time_series>", "<time_series/><time_series>"), {}, "has 2 time steps"),
    "napari 2D": ("csv", "index,axis-0,axis-1\n0,1,2\n", {}, "has the columns index, axis-0, axis-1; the CSV of a 3D"),
    "napari, empty": ("csv", "", {}, "the CSV of a 3D points layer has"),
    "napari, a word": ("csv", NAPARI_CSV.replace("2.5", "x"), {}, "point 1: .*'x'"),
    "json of another kind": ("json", "[1]", {"coordinates": "voxel"}, "is neither of Grand Challenge's type"),
    "json, points of numbers": ("json", '{"points": [1]}', {"coordinates": "voxel"}, "not objects with 'point'"),
    "json, tumor as number": ("json", '{"tumor": 3}', {"coordinates": "voxel"}, "'tumor' must be a list of points"),
    "npz that is not one": ("npz", "PK", {}, "'clicks' cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_file_gives_one_sentence_and_no_file(name: str, images: Path) -> None:
    ending, content, options, expected = BAD[name]
    path = images.parent / f"colon_1.{ending}"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=expected) as caught:
        convert_prompts([path], images.parent / "p.json", **{"labels": ["tumour"], "images": images} | options)
    assert "\n" not in str(caught.value)
    assert not (images.parent / "p.json").exists()


def test_voxels_and_mm_do_not_mix(images: Path) -> None:
    (images.parent / "colon_1.csv").write_text(NAPARI_CSV)
    (images.parent / "colon_12.mps").write_text(mps(lps()))
    files = [images.parent / "colon_1.csv", images.parent / "colon_12.mps"]
    with pytest.raises(UserError, match=r"colon_1.csv is in voxels and .*colon_12.mps in mm; convert them to prompt"):
        convert_prompts(files, images.parent / "p.json", labels=["t"])
    with pytest.raises(UserError, match="--case names the case of one file, but 2 are given"):
        convert_prompts(files, images.parent / "p.json", labels=["t"], case="a")
    with pytest.raises(UserError, match="--case names the case of one file, but 0 are given"):
        convert_prompts([], images.parent / "p.json", labels=["t"], case="a")


@pytest.mark.parametrize("arrays", [{}, {"clicks": [3]}, {"clicks": [{"fg": [[1, 2]]}]}, {"boxes": [{"z_min": 1}]}])
def test_challenge_file_of_another_form_gives_one_sentence(arrays: dict, tmp_path: Path) -> None:
    save_challenge(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=r"a.npz"):
        convert_prompts([tmp_path / "a.npz"], tmp_path / "p.json", labels=["t"], object_of="list")


def test_command(images: Path, capsys: pytest.CaptureFixture) -> None:
    (images.parent / "colon_1.csv").write_text(NAPARI_CSV)
    output = images.parent / "p.json"
    places = [str(images.parent / "colon_1.csv"), "-o", str(output), "-i", str(images)]
    assert main(["convert", *places, "--label", "tumour"]) == 0
    assert "p.json: 2 cases, 3 objects, 3 clicks, 1 cases without an object." in capsys.readouterr().out
    assert main(["check", str(output), "-i", str(images)]) == 0
    assert main(["convert", *places, "--label", "a", "b"]) == 2
