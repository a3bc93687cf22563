"""Pictures of clicks: anatomy stands the right way up, and click and masks lie where they belong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.prompts.draw import MASK_COLOURS, draw_slices

SHAPE_ZYX = (6, 9, 14)
SPACING_XYZ = (0.8, 1.5, 4.0)
TILT = Rotation.from_euler("xyz", [8, -11, 14], degrees=True).as_matrix()
PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def make_geometry(direction: np.ndarray) -> ImageGeometry:
    return ImageGeometry(SHAPE_ZYX[::-1], SPACING_XYZ, (5.0, -7.0, 11.0), tuple(map(tuple, direction)))


def corner_towards(geometry: ImageGeometry, lps: tuple[int, int, int]) -> np.ndarray:
    """(z, y, x) of the corner voxel that lies farthest along a world direction."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in SHAPE_ZYX))))
    return corners[np.argmax(geometry.index_zyx_to_points(corners, "LPS") @ lps)]


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes}


def pixels(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def click(axes: Axes) -> tuple[float, float]:
    """(row, column)."""
    (line,) = [line for line in axes.lines if line.get_marker() == "+"]
    return float(line.get_ydata()[0]), float(line.get_xdata()[0])


# Expected (row end, column end) of a voxel at the patient's left, posterior, superior corner.
PLACES = {"axial": ("bottom", "right"), "coronal": ("top", "right"), "sagittal": ("top", "right")}


@pytest.mark.parametrize("number", range(len(PERMUTATIONS)))
@pytest.mark.parametrize("tilt", [np.eye(3), TILT], ids=["straight", "oblique"])
def test_left_posterior_superior_corner_stands_where_a_radiologist_expects_it(number: int, tilt: np.ndarray) -> None:
    geometry = make_geometry(tilt @ PERMUTATIONS[number])
    corner = corner_towards(geometry, (1, 1, 1))
    image = np.zeros(SHAPE_ZYX)
    image[tuple(corner)] = 1
    figure = draw_slices(image, geometry, corner)
    assert list(panels(figure)) == ["axial", "coronal", "sagittal"]
    for name, axes in panels(figure).items():
        row, column = np.unravel_index(np.argmax(pixels(axes)), pixels(axes).shape)
        rows, columns = pixels(axes).shape
        expected = tuple({"top": 0, "bottom": rows - 1, "left": 0, "right": columns - 1}[end] for end in PLACES[name])
        assert (row, column) == expected
        assert click(axes) == expected
        assert pixels(axes)[row, column] == 1


LETTERS = {"axial": "APRL", "coronal": "SIRL", "sagittal": "SIAP"}


@pytest.mark.parametrize("number", range(0, len(PERMUTATIONS), 5))
def test_letters_at_the_top_bottom_left_right(number: int) -> None:
    geometry = make_geometry(TILT @ PERMUTATIONS[number])
    for name, axes in panels(draw_slices(np.zeros(SHAPE_ZYX), geometry, (0, 0, 0))).items():
        found = {text.get_text(): text.get_position() for text in axes.texts}
        top, bottom, left, right = LETTERS[name]
        assert found[top][1] > 0.9
        assert found[bottom][1] < 0.1
        assert found[left][0] < 0.1
        assert found[right][0] > 0.9
        assert len(found) == 4


def test_slices_agree_with_sitk_reorientation() -> None:
    """ITK's own reorientation to LPS gives the axial slice as drawn, and the others upside down."""
    array = np.random.default_rng(0).normal(size=SHAPE_ZYX)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_XYZ)
    image.SetDirection((TILT @ PERMUTATIONS[17]).ravel().tolist())
    voxel_xyz = (10, 3, 4)
    figure = draw_slices(array, ImageGeometry.from_sitk(image), voxel_xyz[::-1])
    oriented = sitk.DICOMOrient(image, "LPS")
    x, y, z = oriented.TransformPhysicalPointToIndex(image.TransformIndexToPhysicalPoint(voxel_xyz))
    expected = sitk.GetArrayFromImage(oriented)
    np.testing.assert_array_equal(pixels(panels(figure)["axial"]), expected[z])
    np.testing.assert_array_equal(pixels(panels(figure)["coronal"]), expected[::-1, y])
    np.testing.assert_array_equal(pixels(panels(figure)["sagittal"]), expected[::-1, :, x])


def test_aspect_is_that_of_the_spacing() -> None:
    axes = panels(draw_slices(np.zeros(SHAPE_ZYX), make_geometry(np.eye(3)), (1, 2, 3)))
    x_mm, y_mm, z_mm = SPACING_XYZ
    assert axes["axial"].get_aspect() == pytest.approx(y_mm / x_mm)
    assert axes["coronal"].get_aspect() == pytest.approx(z_mm / x_mm)
    assert axes["sagittal"].get_aspect() == pytest.approx(z_mm / y_mm)


def test_click_between_voxels_is_drawn_between_them() -> None:
    axes = panels(draw_slices(np.zeros(SHAPE_ZYX), make_geometry(np.eye(3)), (1.25, 2.5, 3.75)))
    assert click(axes["axial"]) == (2.5, 3.75)
    assert click(axes["coronal"]) == (5 - 1.25, 3.75)
    assert click(axes["sagittal"]) == (5 - 1.25, 2.5)


def test_masks_are_contours_round_their_voxels_with_a_legend() -> None:
    geometry = make_geometry(PERMUTATIONS[29])
    point = (2, 3, 4)
    truth, elsewhere = np.zeros(SHAPE_ZYX, dtype=bool), np.zeros(SHAPE_ZYX, dtype=bool)
    truth[2, 3, 4] = True
    elsewhere[5, 8, 13] = True
    figure = draw_slices(np.zeros(SHAPE_ZYX), geometry, point, masks={"truth": truth, "prediction": elsewhere})
    for axes in figure.axes:
        contours = [item for item in axes.collections if type(item).__name__ == "QuadContourSet"]
        (vertices,) = [path.vertices for item in contours for path in item.get_paths()]
        row, column = click(axes)
        np.testing.assert_allclose(vertices.min(axis=0), [column - 0.5, row - 0.5])
        np.testing.assert_allclose(vertices.max(axis=0), [column + 0.5, row + 0.5])
        assert same_color(contours[0].get_edgecolor()[0], MASK_COLOURS[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["click", "truth", "prediction"]


def test_place_without_a_click_shows_the_same_slices() -> None:
    image = np.random.default_rng(0).normal(size=SHAPE_ZYX)
    masks = {"truth": image > 1}
    clicked = draw_slices(image, make_geometry(np.eye(3)), (1, 2, 3), masks=masks)
    bare = draw_slices(image, make_geometry(np.eye(3)), (1, 2, 3), masks=masks, show_click=False)
    for with_click, without in zip(clicked.axes, bare.axes, strict=True):
        np.testing.assert_array_equal(pixels(with_click), pixels(without))
        assert (with_click.get_xlim(), with_click.get_ylim()) == (without.get_xlim(), without.get_ylim())
        assert len(without.lines) == 0
        assert len(without.collections) == 1
    (legend,) = bare.legends
    assert [text.get_text() for text in legend.get_texts()] == ["truth"]
    assert not draw_slices(image, make_geometry(np.eye(3)), (1, 2, 3), show_click=False).legends


def test_window_sets_black_and_white() -> None:
    image = np.random.default_rng(0).normal(size=SHAPE_ZYX)
    by_hand = draw_slices(image, make_geometry(np.eye(3)), (1, 2, 3), window=(-2, 5))
    assert {axes.images[0].get_clim() for axes in by_hand.axes} == {(-2, 5)}
    (automatic,) = {axes.images[0].get_clim() for axes in draw_slices(image, make_geometry(np.eye(3)), (1, 2, 3)).axes}
    assert image.min() < automatic[0] < automatic[1] < image.max()


def test_thin_images_are_drawn() -> None:
    geometry = ImageGeometry((5, 4, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(map(tuple, np.eye(3))))
    figure = draw_slices(np.zeros((1, 4, 5)), geometry, (0, 0, 0), masks={"all": np.ones((1, 4, 5), dtype=bool)})
    figure.canvas.draw()
    assert pixels(panels(figure)["coronal"]).shape == (1, 5)


def test_bad_arguments() -> None:
    geometry = make_geometry(np.eye(3))
    with pytest.raises(ValueError, match="the image has the shape"):
        draw_slices(np.zeros(SHAPE_ZYX[::-1]), geometry, (0, 0, 0))
    with pytest.raises(ValueError, match="truth has the shape"):
        draw_slices(np.zeros(SHAPE_ZYX), geometry, (0, 0, 0), masks={"truth": np.zeros((1, 1, 1))})
    with pytest.raises(ValueError, match="lie outside"):
        draw_slices(np.zeros(SHAPE_ZYX), geometry, (6, 0, 0))
