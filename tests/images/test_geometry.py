"""Where points lie: against SimpleITK, by hand, and there and back."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import (
    ImageGeometry,
    check_inside,
    check_spacing,
    geometry_difference,
    nearest_voxel,
    swap_ras_and_lps,
)
from nnunetv2_promise.images.reading import read_geometry

SIZE_XYZ = (11, 7, 5)
SPACING_MM = (0.7, 1.9, 4.3)
ORIGIN_MM = (-31.0, 47.5, 12.25)
ROTATION = Rotation.from_euler("xyz", [25, -40, 65], degrees=True).as_matrix()
DIRECTIONS = {
    "identity": np.eye(3),
    "rotated": ROTATION,
    "left-handed": ROTATION @ np.diag([1, 1, -1]),
    "permuted": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}


def make_image(direction: np.ndarray = ROTATION, pixel_type: int = sitk.sitkInt16) -> sitk.Image:
    image = sitk.Image(SIZE_XYZ, pixel_type)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin(ORIGIN_MM)
    image.SetDirection(np.asarray(direction, dtype=float).ravel().tolist())
    return image


def geometry_of(**changes: object) -> ImageGeometry:
    fields = {
        "size_xyz": SIZE_XYZ,
        "spacing_mm": SPACING_MM,
        "origin_lps_mm": ORIGIN_MM,
        "direction": tuple(map(tuple, ROTATION)),
    }
    return ImageGeometry(**{**fields, **changes})


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_points_agree_with_sitk_after_reading_a_file(name: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{ending}"
    sitk.WriteImage(make_image(DIRECTIONS[name]), str(path))
    image, geometry = sitk.ReadImage(str(path)), read_geometry(path)
    rng = np.random.default_rng(0)
    lps_mm = rng.uniform(-60, 60, size=(20, 3))
    expected_xyz = np.array([image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in lps_mm])
    np.testing.assert_allclose(geometry.points_to_index_zyx(lps_mm, "LPS"), expected_xyz[:, ::-1], atol=1e-9)
    ras_mm = lps_mm * [-1, -1, 1]
    np.testing.assert_allclose(geometry.points_to_index_zyx(ras_mm, "RAS"), expected_xyz[:, ::-1], atol=1e-9)
    index_xyz = rng.uniform(-2, 12, size=(20, 3))
    expected_mm = [image.TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in index_xyz]
    np.testing.assert_allclose(geometry.index_zyx_to_points(index_xyz[:, ::-1], "LPS"), expected_mm, atol=1e-9)


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("coordinates", ["voxel", "LPS", "RAS"])
def test_point_finds_the_one_bright_voxel(name: str, coordinates: str) -> None:
    image = make_image(DIRECTIONS[name])
    bright_xyz = (9, 5, 2)
    image[bright_xyz] = 1
    x_mm, y_mm, z_mm = image.TransformIndexToPhysicalPoint(bright_xyz)
    point = {"voxel": bright_xyz, "LPS": (x_mm, y_mm, z_mm), "RAS": (-x_mm, -y_mm, z_mm)}[coordinates]
    geometry = ImageGeometry.from_sitk(image)
    voxel = nearest_voxel(geometry.points_to_index_zyx([point], coordinates), geometry.size_zyx)[0]
    assert sitk.GetArrayFromImage(image)[tuple(voxel)] == 1


def test_world_by_hand() -> None:
    """Index x runs to posterior, y to superior, z to the right: every axis and sign can be seen."""
    direction = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    geometry = geometry_of(spacing_mm=(2.0, 3.0, 5.0), origin_lps_mm=(100.0, 10.0, 1.0), direction=direction)
    index_zyx = [[3, 2, 1]]
    np.testing.assert_allclose(geometry.index_zyx_to_points(index_zyx, "LPS"), [[85.0, 12.0, 7.0]])
    np.testing.assert_allclose(geometry.index_zyx_to_points(index_zyx, "RAS"), [[-85.0, -12.0, 7.0]])
    np.testing.assert_allclose(geometry.points_to_index_zyx([[85, 12, 7]], "LPS"), index_zyx)
    assert geometry.orientation_letters() == (("A", "P"), ("I", "S"), ("L", "R"))


def test_voxel_coordinates_only_swap_axes() -> None:
    np.testing.assert_array_equal(geometry_of().points_to_index_zyx([[1, 2, 3.5]], "voxel"), [[3.5, 2, 1]])
    np.testing.assert_array_equal(geometry_of().index_zyx_to_points([[3.5, 2, 1]], "voxel"), [[1, 2, 3.5]])


angles = st.floats(-180, 180)
grids = st.builds(
    lambda euler, mirror, spacing, origin: geometry_of(
        spacing_mm=spacing,
        origin_lps_mm=origin,
        direction=tuple(
            map(tuple, Rotation.from_euler("xyz", euler, degrees=True).as_matrix() * [1, 1, -1 if mirror else 1])
        ),
    ),
    st.tuples(angles, angles, angles),
    st.booleans(),
    st.tuples(*[st.floats(0.2, 8.0)] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
)


@settings(max_examples=100, deadline=None)
@given(
    grid=grids,
    coordinates=st.sampled_from(["voxel", "LPS", "RAS"]),
    points=st.lists(st.tuples(*[st.floats(-600, 600)] * 3), max_size=4),
)
def test_there_and_back_is_the_same_point(grid: ImageGeometry, coordinates: str, points: list) -> None:
    index = grid.points_to_index_zyx(points, coordinates)
    assert index.shape == (len(points), 3)
    back = grid.index_zyx_to_points(index, coordinates)
    np.testing.assert_allclose(back, np.reshape(points, (-1, 3)), atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(grid=grids, index=st.tuples(*[st.floats(0, 4)] * 3))
def test_the_three_coordinates_name_the_same_place(grid: ImageGeometry, index: tuple) -> None:
    for coordinates in ("voxel", "LPS", "RAS"):
        points = grid.index_zyx_to_points([index], coordinates)
        np.testing.assert_allclose(grid.points_to_index_zyx(points, coordinates), [index], atol=1e-6)


def test_unknown_coordinates_are_refused() -> None:
    with pytest.raises(ValueError, match="'lps'; it must be 'voxel', 'LPS' or 'RAS'"):
        geometry_of().points_to_index_zyx([[0, 0, 0]], "lps")
    with pytest.raises(ValueError, match="it must be"):
        geometry_of().index_zyx_to_points([[0, 0, 0]], "mm")


def test_check_inside_border_is_half_a_voxel_beyond_the_centres() -> None:
    size = (5, 7, 11)
    inside = [[0, 0, 0], [4, 6, 10], [-0.5, 0, 0], [4.5, 6.5, 10.5], [2.2, 3.3, 4.4]]
    outside = [[-0.51, 0, 0], [0, 6.51, 0], [0, 0, 10.51], [5, 0, 0], [0, 7, 0], [0, 0, 11], [10, 6, 4]]
    assert check_inside(inside, size).tolist() == []
    assert check_inside(outside, size).tolist() == list(range(len(outside)))
    assert check_inside([*inside, *outside], size).tolist() == list(range(5, 12))
    assert check_inside(np.zeros((0, 3)), size).tolist() == []


def test_check_inside_not_a_number_is_outside() -> None:
    assert check_inside([[np.nan, 0, 0]], (5, 5, 5)).tolist() == [0]


def test_nearest_voxel_rounds_half_up_and_stays_inside() -> None:
    index = [[-0.5, 0.49, 0.5], [4.5, 1.5, 2.5], [3.51, 3.49, 10.5]]
    expected = [[0, 0, 1], [4, 2, 3], [4, 3, 10]]
    assert nearest_voxel(index, (5, 7, 11)).tolist() == expected
    assert nearest_voxel([[3.5, 5.5, 7.5]], (4, 6, 8)).tolist() == [[3, 5, 7]]
    assert nearest_voxel([[-0.50005, 5.50005, -0.50005]], (4, 6, 8)).tolist() == [[0, 5, 0]]
    with pytest.raises(ValueError, match=r"Points \[1\] lie outside"):
        nearest_voxel([[0, 0, 0], [0, 7, 0]], (5, 7, 11))


def test_a_fourth_axis_is_left_out() -> None:
    joined = sitk.JoinSeries([make_image(), make_image()])
    assert ImageGeometry.from_sitk(joined) == ImageGeometry.from_sitk(make_image())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image.SetOrigin((0, float("nan"), 0)), "has NaN or infinite numbers"),
        (lambda image: image.SetSpacing((1, float("inf"), 1)), "has NaN or infinite numbers"),
        (lambda image: image.SetDirection((1, 1, 0, 0, 1e-4, 0, 0, 0, 1)), "has a degenerate grid"),
        (lambda image: image.SetDirection((1, 0.003, 0, 0, 1, 0, 0, 0, 1)), "is sheared"),
        (lambda image: image.SetDirection((1, 0.0015, 0, 0, 1, 0, 0, 0, 1)), None),
        (lambda image: image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1)), None),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(change: Callable[[sitk.Image], None], words: str | None) -> None:
    image = make_image()
    change(image)
    if words is None:
        ImageGeometry.from_sitk(image, name="scan.mha")
    else:
        with pytest.raises(UserError, match=f"Image scan.mha {words}"):
            ImageGeometry.from_sitk(image, name="scan.mha")


def test_a_negative_spacing_in_a_file_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(make_image(np.eye(3)), str(tmp_path / "scan.nii"))
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    struct.pack_into("<f", content, 80, -0.5)  # pixdim of x
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(UserError, match=r"scan\.nii has a degenerate grid \(spacing or directions\)"):
        read_geometry(tmp_path / "scan.nii")


def test_grids_are_told_to_four_digits() -> None:
    other = geometry_of(spacing_mm=(0.712345, 1.9, 4.3))
    assert geometry_difference(geometry_of(), other) == "spacing (0.7, 1.9, 4.3) and (0.7123, 1.9, 4.3) mm (x, y, z)"


def test_derived_numbers() -> None:
    geometry = geometry_of()
    assert geometry.size_zyx == (5, 7, 11)
    assert geometry.spacing_zyx_mm == (4.3, 1.9, 0.7)
    assert geometry.voxel_volume_mm3 == pytest.approx(0.7 * 1.9 * 4.3)


def test_geometry_difference_names_what_differs() -> None:
    base = geometry_of()
    assert geometry_difference(base, base) is None
    nudged = geometry_of(origin_lps_mm=(-31.0 + 1e-3, 47.5, 12.25))
    assert geometry_difference(base, nudged) is None
    turned = geometry_of(size_xyz=(7, 11, 5))
    assert "size (11, 7, 5) and (7, 11, 5)" in geometry_difference(base, turned)
    assert "size (7, 11, 5) and (11, 7, 5)" in geometry_difference(turned, base)
    assert "spacing" in geometry_difference(base, geometry_of(spacing_mm=(1.9, 0.7, 4.3)))
    assert geometry_difference(base, geometry_of(spacing_mm=(0.7 * 1.0009, 1.9, 4.3))) is None
    assert "spacing" in geometry_difference(base, geometry_of(spacing_mm=(0.7 * 1.0011, 1.9, 4.3)))
    shifted = geometry_of(origin_lps_mm=(31.0, 47.5, 12.25))
    assert "origin (-31.0, 47.5, 12.25) and (31.0, 47.5, 12.25) mm" in geometry_difference(base, shifted)
    assert "direction (corners up to" in geometry_difference(base, geometry_of(direction=tuple(map(tuple, ROTATION.T))))


@pytest.mark.parametrize("still_xyz", [(0, 0, 0), (9, 7, 4)])
@pytest.mark.parametrize("corner_zyx", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)])
def test_geometry_difference_looks_at_every_corner(corner_zyx: tuple[int, ...], still_xyz: tuple[int, ...]) -> None:
    """Shears that leave all corners but some where they are, the first one (0, 0, 0) or the last one (9, 7, 4)."""
    straight = geometry_of(size_xyz=(10, 8, 5), spacing_mm=(1.0, 1.0, 1.0), direction=tuple(map(tuple, np.eye(3))))
    for apart_mm, differs in ((0.099, False), (0.101, True)):
        tilted = np.eye(3)
        for axis, at_end in enumerate(corner_zyx[::-1]):
            if at_end:
                tilted[(axis + 1) % 3, axis] = apart_mm / (9, 7, 4)[axis] / (3**0.5 if sum(corner_zyx) == 3 else 1)
        other = geometry_of(
            size_xyz=(10, 8, 5),
            spacing_mm=(1.0, 1.0, 1.0),
            origin_lps_mm=tuple(ORIGIN_MM - (tilted - np.eye(3)) @ still_xyz),
            direction=tuple(map(tuple, tilted)),
        )
        assert (geometry_difference(straight, other) is not None) == differs


def test_geometry_difference_measures_in_the_shortest_edge() -> None:
    base = geometry_of()  # the shortest edge is 0.7 mm
    assert geometry_difference(base, geometry_of(origin_lps_mm=(-31.0, 47.5, 12.25 + 0.069))) is None
    assert geometry_difference(base, geometry_of(origin_lps_mm=(-31.0, 47.5, 12.25 + 0.071))) is not None


def test_swap_ras_and_lps_by_hand() -> None:
    swapped = swap_ras_and_lps([[1.5, -2, 3], [4, 5, -6]])
    assert swapped.tolist() == [[-1.5, 2, 3], [-4, -5, -6]]
    assert swap_ras_and_lps(swapped).tolist() == [[1.5, -2, 3], [4, 5, -6]]
    assert swap_ras_and_lps([]).shape == (0, 3)


def test_apply_to_gives_an_image_the_grid() -> None:
    image = sitk.Image(SIZE_XYZ, sitk.sitkUInt8)
    geometry_of().apply_to(image)
    assert ImageGeometry.from_sitk(image) == ImageGeometry.from_sitk(make_image())


@pytest.mark.parametrize(
    ("spacing_mm", "fine"),
    [((0.7, 1.9, 4.3), True), ((50, 1, 1), True), ((1, 1, 51), False), ((0.02, 1, 1), True), ((1, 0.019, 1), False)],
)
def test_check_spacing_refuses_other_units(spacing_mm: tuple[float, float, float], fine: bool) -> None:
    geometry = geometry_of(spacing_mm=spacing_mm)
    if fine:
        check_spacing(geometry, (1.0, 1.0, 1.0), name="scan.nii.gz", usual="the model was trained at")
    else:
        with pytest.raises(
            UserError, match=r"scan\.nii\.gz has a spacing .*trained at 1 x 1 x 1 mm; its unit may be wrong"
        ):
            check_spacing(geometry, (1.0, 1.0, 1.0), name="scan.nii.gz", usual="the model was trained at")


def test_check_spacing_compares_axis_by_axis() -> None:
    geometry = geometry_of(spacing_mm=(0.1, 1, 10))
    check_spacing(geometry, (10, 1, 0.1), name="a", usual="b")
    with pytest.raises(UserError, match=r"10 x 1 x 0\.1 mm \(z, y, x\) and b 0\.1 x 1 x 10 mm"):
        check_spacing(geometry, (0.1, 1, 10), name="a", usual="b")
