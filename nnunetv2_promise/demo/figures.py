"""The report's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nnunetv2_promise.html_page import data_url
from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.images.reading import read_geometry

WINDOW_HU = (-160, 240)
CLOSE_UP_MM = 48.0
TRUTH, MASK, CLICK, OTHERS = "#56b4e9", "#e69f00", "#ff4fa3", "#dddddd"


@dataclass(frozen=True)
class View:
    """What one picture shows, turned so that the patient stands upright; arrays (z, y, x).

    Attributes:
        image: HU.
        truth: bool, the clicked lesion.
        mask: bool, the prediction.
        others: bool, the lesions that were not clicked.
        click: Voxel of the click.
        spacing_mm: (z, y, x).
    """

    image: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    others: np.ndarray
    click: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def load_view(
    image: Path, lesions: Path, mask: Path, *, lesion: int, click_xyz: Sequence[float], coordinates: str
) -> View:
    """Read a scan, its lesion map and a prediction, and turn them to the patient's axes.

    Args:
        image: CT scan.
        lesions: Lesion map on the same grid.
        mask: Prediction on the same grid.
        lesion: Value of the clicked lesion.
        click_xyz: The click in ``coordinates`` of a prompt file.
        coordinates: ``"voxel"``, ``"LPS"`` or ``"RAS"``.
    """
    grid = read_geometry(image)
    click_lps_mm = grid.index_zyx_to_points(grid.points_to_index_zyx([click_xyz], coordinates), "LPS")
    turned = [sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS") for path in (image, lesions, mask)]
    image_zyx, lesions_zyx, mask_zyx = (sitk.GetArrayFromImage(item) for item in turned)
    geometry = ImageGeometry.from_sitk(turned[0])
    z, y, x = np.rint(geometry.points_to_index_zyx(click_lps_mm, "LPS")[0]).astype(int).tolist()
    others = (lesions_zyx > 0) & (lesions_zyx != lesion)
    return View(image_zyx, lesions_zyx == lesion, mask_zyx > 0, others, (z, y, x), geometry.spacing_zyx_mm)


def three_planes(view: View) -> str:
    """The whole axial plane through the click, and the three planes close up, as a data URL."""
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    whole, *close = figure.subplots(1, 4)
    draw_plane(whole, view, 0)
    whole.set_title("axial, whole", fontsize=9, color="#555555")
    for axis, (panel, name) in enumerate(zip(close, ("axial", "coronal", "sagittal"), strict=True)):
        draw_plane(panel, view, axis)
        _zoom(panel, view, axis)
        panel.set_title(f"{name}, {CLOSE_UP_MM:.0f} mm", fontsize=9, color="#555555")
    return data_url(figure)


def axial_tiles(views: Sequence[View], titles: Sequence[str]) -> str:
    """The axial plane through each of several clicks, as a data URL."""
    columns = max(len(views), 5)
    figure = Figure(figsize=(9.6, 2.4), layout="constrained")
    panels = figure.subplots(1, columns)
    for panel in panels:
        panel.set_axis_off()
    for panel, view, title in zip(panels, views, titles, strict=False):
        draw_plane(panel, view, 0)
        panel.set_title(title, fontsize=9, color="#555555")
    return data_url(figure)


def draw_plane(panel: Axes, view: View, axis: int) -> None:
    """Draw the plane through the click across one array axis: image, mask, truth, other lesions, click."""
    rows, columns = _rows_and_columns(axis)
    # Array rows run to the patient's back in axial planes, which belongs at the bottom, but upwards in the others.
    origin: Literal["upper", "lower"] = "upper" if axis == 0 else "lower"
    aspect = view.spacing_mm[rows] / view.spacing_mm[columns]
    image, truth, mask, others = (
        array.take(view.click[axis], axis=axis) for array in (view.image, view.truth, view.mask, view.others)
    )
    low, high = WINDOW_HU
    panel.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear", aspect=aspect, origin=origin)
    filled = np.ma.masked_where(~mask, mask)
    panel.imshow(filled, cmap=ListedColormap([MASK]), alpha=0.45, interpolation="nearest", aspect=aspect, origin=origin)
    for shape, colour, style in ((others, OTHERS, "dotted"), (truth, TRUTH, "solid")):
        if shape.any() and not shape.all():
            panel.contour(shape, levels=[0.5], colors=colour, linewidths=1.3, linestyles=style)
    panel.plot(view.click[columns], view.click[rows], "+", color=CLICK, markersize=9, markeredgewidth=1.8)
    panel.set_axis_off()


def _zoom(panel: Axes, view: View, axis: int) -> None:
    """Show a square of ``CLOSE_UP_MM`` around the click, moved into the image where it would leave it."""
    spans = []
    for each in _rows_and_columns(axis):
        half = min(CLOSE_UP_MM / view.spacing_mm[each], view.image.shape[each]) / 2
        centre = np.clip(view.click[each], half - 0.5, view.image.shape[each] - 0.5 - half)
        spans.append((centre - half, centre + half))
    rows, columns = spans
    panel.set_xlim(columns)
    panel.set_ylim(rows[::-1] if axis == 0 else rows)


def _rows_and_columns(axis: int) -> tuple[int, int]:
    """The array axes of the rows and columns of a plane across ``axis``."""
    rows, columns = (other for other in range(3) if other != axis)
    return rows, columns


def training_curve(logged: Mapping[str, Sequence[float]]) -> str:
    """Losses and online validation Dice over epochs, as a data URL.

    Args:
        logged: What nnU-Net keeps under ``logging`` in a checkpoint, one number for each finished epoch.
    """
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    losses, dice = figure.subplots(1, 2)
    losses.plot(logged["train_losses"], label="training", color="#0072b2")
    losses.plot(logged["val_losses"], label="validation", color="#d55e00")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend(frameon=False)
    dice.plot(logged["mean_fg_dice"], color="#009e73")
    dice.set(xlabel="epoch", ylabel="Dice on validation patches", ylim=(0, 1))
    for panel in (losses, dice):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    return data_url(figure)
