"""One click in napari through nnInteractive's plugin, on a server.

Runs in an environment of its own, which has napari: ``napari_click.py URL KEY SCAN.npy Z,Y,X PICTURE.png`` prints how
many voxels the mask has after a click on the canvas, and after undo.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import napari
import numpy as np
from napari_nninteractive import widget_gui
from napari_nninteractive.widget_main import nnInteractiveWidget
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

SECONDS = 240


def wait_until(there: Callable[[], bool], what: str) -> None:
    """Let Qt work until something is there."""
    deadline = time.monotonic() + SECONDS
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {SECONDS} s")
        QApplication.processEvents()
        time.sleep(0.02)


def connect(viewer: napari.Viewer, url: str, key: str) -> nnInteractiveWidget:
    """The plugin's widget, initialised on the server as a user does it."""
    widget_gui.VersionChecker.start = lambda self: None  # it asks PyPI for newer versions
    widget = nnInteractiveWidget(viewer)
    viewer.window.add_dock_widget(widget, name="nnInteractive", area="right")
    widget.mode_switch.buttons[1].click()  # "Remote"
    widget.server_url_edit.setText(url)
    widget.api_key_edit.setText(key)
    widget.propagate_ckbx.setChecked(False)  # AutoZoom: an untrained mask that fills the patch makes the engine fail
    widget.init_button.click()
    wait_until(lambda: widget.point_layer_name in viewer.layers, "the session")
    return widget


def click(viewer: napari.Viewer, voxel: tuple[int, ...]) -> None:
    """A press of the left mouse button on the canvas, over a voxel (z, y, x)."""
    viewer.dims.set_current_step(0, voxel[0])
    getattr(viewer, "scene", viewer).camera.center = (0, *voxel[1:])  # napari 0.9 moved the camera
    canvas = viewer.window._qt_viewer.canvas.native
    QApplication.processEvents()
    QTest.mouseMove(canvas, canvas.rect().center())
    QTest.mouseClick(canvas, Qt.LeftButton, Qt.NoModifier, canvas.rect().center())


def main(url: str, key: str, scan: str, place: str, picture: str) -> None:
    """Click, take a picture, undo."""
    voxel = tuple(int(index) for index in place.split(","))
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.add_image(np.load(scan), name="scan")
    widget = connect(viewer, url, key)
    viewer.reset_view()
    click(viewer, voxel)
    mask = viewer.layers[widget.label_layer_name]
    wait_until(lambda: bool(np.any(mask.data)), "a mask")
    counts = [int(np.count_nonzero(mask.data))]
    clicked = np.round(viewer.layers[widget.point_layer_name].data[-1]).astype(int).tolist()
    QTest.qWait(500)
    viewer.window.screenshot(picture, canvas_only=False, flash=False)
    widget.undo_button.click()
    wait_until(lambda: not np.any(mask.data), "the empty mask")
    counts.append(int(np.count_nonzero(mask.data)))
    sys.stdout.write(json.dumps({"voxels": counts, "clicked": clicked, "licence": widget.session.license}) + "\n")
    viewer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
