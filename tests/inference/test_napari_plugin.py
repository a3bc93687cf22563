"""napari with nnInteractive's plugin drives a trained folder on the stock server, in a window that nobody sees.

napari needs an environment of its own: ``PROMISE_TEST_NAPARI`` names its Python, which has ``napari[pyqt6]`` and
``napari-nninteractive``. ``PROMISE_TEST_NAPARI_PICTURE`` names a file that the screenshot is copied to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from clickable_workspace import Clickable
from test_nninteractive_engine import KEY, serving

DRIVER = Path(__file__).resolve().parents[1] / "napari_click.py"
CLICK = (8, 12, 14)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_click_in_napari_becomes_a_mask_and_undo_takes_it_back(clickable: Clickable, tmp_path: Path) -> None:
    python = os.environ.get("PROMISE_TEST_NAPARI")
    if python is None or shutil.which("xvfb-run") is None:
        pytest.skip("needs xvfb-run, and PROMISE_TEST_NAPARI that names the Python of an environment with napari")
    scan = sitk.GetArrayFromImage(sitk.ReadImage(str(min(clickable.workspace.images.glob("*_0000.nii.gz")))))
    np.save(tmp_path / "scan.npy", scan)
    picture = tmp_path / "napari.png"
    # Settings that a user of this machine keeps are neither read nor written, and nothing is looked up on the net.
    private = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    with serving(clickable.model, "--api-key", KEY) as url:
        done = subprocess.run(
            ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24", python, DRIVER, url, KEY, tmp_path / "scan.npy",
             ",".join(map(str, CLICK)), picture],
            env=os.environ | private, capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["voxels"][0] > 0
    assert found["voxels"][1] == 0
    assert found["clicked"] == pytest.approx(CLICK, abs=1)
    assert found["licence"].startswith("No licence stated")
    assert picture.stat().st_size > 10_000
    if "PROMISE_TEST_NAPARI_PICTURE" in os.environ:
        shutil.copy(picture, os.environ["PROMISE_TEST_NAPARI_PICTURE"])
