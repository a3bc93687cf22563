"""Pictures of a click: the three slices through it, as a radiologist looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from nnunetv2_promise.images.geometry import ImageGeometry, nearest_voxel

MASK_COLOURS = ("#ffb000", "#2fb5ff", "#ff4d8d", "#57d957", "#b48cff")
_CLICK_COLOUR = "#ff3030"
_WORLD_PAIRS = ("LR", "AP", "SI")


@dataclass(frozen=True)
class _View:
    """One panel: which array axes run down and to the right, and whether each of them is turned round.

    Attributes:
        name: Plane that the panel is nearest to.
        across: Array axis that is cut.
        down: Array axis that runs down, and to the right in ``right``.
        turn: For (down, right), whether the axis is drawn from its end to its start.
        letters: Patient side at the (top, bottom, left, right) edge.
    """

    name: str
    across: int
    down: int
    right: int
    turn: tuple[bool, bool]
    letters: tuple[str, str, str, str]


def draw_slices(
    image_zyx: NDArray,
    geometry: ImageGeometry,
    point_zyx: ArrayLike,
    *,
    masks: Mapping[str, NDArray] | None = None,
    title: str = "",
    window: tuple[float, float] | None = None,
    show_click: bool = True,
) -> Figure:
    """Draw the axial, coronal and sagittal slice through a click.

    Slices are cut along array axes; in an oblique image each panel is named after the plane that it is nearest to.
    The patient's right is on the left of a picture, anterior or superior is at the top, and anterior is on the left of
    the sagittal slice. All panels have one scale in mm.

    Args:
        image_zyx: (D, H, W) image.
        geometry: Its grid.
        point_zyx: (3,) continuous index in (z, y, x) order, inside of the image.
        masks: Name -> (D, H, W) mask on the same grid, drawn as contours with a legend.
        title: Heading.
        window: Intensities drawn black and white; by default the 1st and 99th percentile of the three slices.
        show_click: Whether the point is drawn; False for a place that nobody clicked.

    Returns:
        A figure, to be written with ``savefig``; it belongs to no window and needs no display.

    Raises:
        ValueError: If the point lies outside, or the shape of the image or a mask is not that of the grid.
    """
    masks = masks or {}
    for name, array in {"the image": image_zyx, **masks}.items():
        if array.shape != geometry.size_zyx:
            raise ValueError(f"{name} has the shape {array.shape}; the grid has {geometry.size_zyx}.")
    point = np.asarray(point_zyx, dtype=float).reshape(3)
    voxel = nearest_voxel(point, geometry.size_zyx)[0]
    views = _views(geometry)
    slices = [_cut(image_zyx, view, voxel).astype(float) for view in views]
    window = window or tuple(np.percentile(np.concatenate([part.ravel() for part in slices]), (1, 99)))
    figure = _empty_figure(views, geometry, title)
    for axes, view, part in zip(figure.axes, views, slices, strict=True):
        ratio = geometry.spacing_zyx_mm[view.down] / geometry.spacing_zyx_mm[view.right]
        axes.imshow(part, cmap="gray", vmin=window[0], vmax=window[1], aspect=ratio, interpolation="nearest")
        for mask, colour in zip(masks.values(), _colours(len(masks)), strict=True):
            _draw_contour(axes, _cut(mask, view, voxel) != 0, colour)
        if show_click:
            _draw_click(axes, _place(point, view, geometry), part.shape)
        _show_all(axes, part.shape)
        _draw_letters(axes, view)
    _draw_legend(figure, masks, show_click=show_click)
    return figure


def _views(geometry: ImageGeometry) -> list[_View]:
    """The three panels; array axes and turns follow from the directions of the image."""
    ends = geometry.orientation_letters()[::-1]
    axis_of = [next(axis for axis, pair in enumerate(ends) if pair[1] in world) for world in _WORLD_PAIRS]

    def view(name: str, across: int, down: tuple[int, str], right: tuple[int, str]) -> _View:
        turn = (ends[down[0]][1] != down[1], ends[right[0]][1] != right[1])
        (top, bottom), (left, right_end) = (
            ends[axis][::-1] if turned else ends[axis] for (axis, _), turned in zip((down, right), turn, strict=True)
        )
        return _View(name, across, down[0], right[0], turn, (top, bottom, left, right_end))

    sideways, forwards, upwards = axis_of
    return [
        view("axial", upwards, (forwards, "P"), (sideways, "L")),
        view("coronal", forwards, (upwards, "I"), (sideways, "L")),
        view("sagittal", sideways, (upwards, "I"), (forwards, "P")),
    ]


def _cut(array_zyx: NDArray, view: _View, voxel: NDArray[np.int64]) -> NDArray:
    """(rows, columns) slice as drawn: rows run down, columns to the right."""
    part = np.take(array_zyx, int(voxel[view.across]), axis=view.across)
    if view.down > view.right:
        part = part.T
    return part[:: -1 if view.turn[0] else 1, :: -1 if view.turn[1] else 1]


def _place(point_zyx: NDArray, view: _View, geometry: ImageGeometry) -> tuple[float, float]:
    """(row, column) of the click as drawn."""
    row, column = (
        geometry.size_zyx[axis] - 1 - point_zyx[axis] if turned else point_zyx[axis]
        for axis, turned in zip((view.down, view.right), view.turn, strict=True)
    )
    return float(row), float(column)


def _empty_figure(views: Sequence[_View], geometry: ImageGeometry, title: str) -> Figure:
    extents_mm = np.multiply(geometry.size_zyx, geometry.spacing_zyx_mm)
    widths_mm = [extents_mm[view.right] for view in views]
    height_mm = max(extents_mm[view.down] for view in views)
    width_inches = float(np.clip(4.0 * sum(widths_mm) / height_mm, 6.0, 14.0))
    figure = Figure(figsize=(width_inches, width_inches * height_mm / sum(widths_mm) + 1.2), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, view in zip(figure.subplots(1, 3, width_ratios=widths_mm), views, strict=True):
        axes.set_title(view.name, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor("black")
    return figure


def _draw_contour(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    if not mask.any():
        return
    rows, columns = (np.arange(-1, n + 1) for n in mask.shape)
    axes.contour(columns, rows, np.pad(mask, 1).astype(float), levels=[0.5], colors=[colour], linewidths=1.4)


def _draw_click(axes: Axes, place: tuple[float, float], shape: tuple[int, ...]) -> None:
    """A cross hair with a gap, so that the voxel under it stays visible."""
    row, column = place
    rows, columns = shape
    gap_rows, gap_columns = max(1.0, rows / 25), max(1.0, columns / 25)
    style: dict[str, Any] = {"colors": _CLICK_COLOUR, "linewidths": 0.8, "alpha": 0.9}
    axes.hlines([row] * 2, [-0.5, column + gap_columns], [column - gap_columns, columns - 0.5], **style)
    axes.vlines([column] * 2, [-0.5, row + gap_rows], [row - gap_rows, rows - 0.5], **style)
    axes.plot(column, row, marker="+", color=_CLICK_COLOUR, markersize=5, markeredgewidth=1.0)


def _show_all(axes: Axes, shape: tuple[int, ...]) -> None:
    """The whole slice and nothing beyond, whatever was drawn on it."""
    rows, columns = shape
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)


def _draw_letters(axes: Axes, view: _View) -> None:
    places = [(0.5, 0.99, "center", "top"), (0.5, 0.01, "center", "bottom")]
    places += [(0.01, 0.5, "left", "center"), (0.99, 0.5, "right", "center")]
    for letter, (x, y, horizontal, vertical) in zip(view.letters, places, strict=True):
        axes.text(
            x, y, letter, color="white", fontsize=9, fontweight="bold", ha=horizontal, va=vertical,
            transform=axes.transAxes, bbox={"facecolor": "black", "alpha": 0.55, "pad": 1.2, "linewidth": 0},
        )  # fmt: skip


def _draw_legend(figure: Figure, masks: Mapping[str, NDArray], *, show_click: bool) -> None:
    click = Line2D([], [], color=_CLICK_COLOUR, marker="+", linewidth=0.8, label="click")
    handles = [click] if show_click else []
    handles += [
        Line2D([], [], color=colour, linewidth=2, label=name)
        for name, colour in zip(masks, _colours(len(masks)), strict=True)
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)


def _colours(n: int) -> list[str]:
    return [MASK_COLOURS[number % len(MASK_COLOURS)] for number in range(n)]
