"""Images with labels, oblique, anisotropic and left-handed, that prompts are made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from nnunetv2_promise.prompts.simulate import simulate_prompts

SHAPE_ZYX = (9, 14, 22)


DIRECTION = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ np.diag([1, -1, 1])


LABELS = {"background": 0, "liver": 1, "tumour": 2}


def to_image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 1.7, 4.1))
    image.SetOrigin((-40.0, 12.5, 300.0))
    image.SetDirection(DIRECTION.ravel().tolist())
    return image


def label_array() -> np.ndarray:
    """One liver; tumours of 27, 8 and 1 voxels."""
    array = np.zeros(SHAPE_ZYX, dtype=np.uint8)
    array[0:3, 0:9, 0:20] = 1
    array[4:7, 1:4, 2:5] = 2
    array[4:6, 9:11, 15:17] = 2
    array[8, 13, 21] = 2
    return array


def write_dataset(folder: Path) -> Path:
    """Cases a and b with objects, c without; oblique, anisotropic, left-handed."""
    for part in ("images", "labels"):
        (folder / part).mkdir()
    arrays = {"a": label_array(), "b": np.where(label_array() == 1, 0, label_array()), "c": np.zeros(SHAPE_ZYX)}
    for case, array in arrays.items():
        sitk.WriteImage(to_image(array.astype(np.uint8)), str(folder / "labels" / f"{case}.nii.gz"))
        image = to_image(np.random.default_rng(0).normal(size=SHAPE_ZYX).astype(np.float32))
        sitk.WriteImage(image, str(folder / "images" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(image, str(folder / "images" / f"{case}_0001.nii.gz"))
    (folder / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    return folder


def simulate(dataset: Path, name: str = "prompts.json", **options: Any) -> Path:
    output = dataset / name
    simulate_prompts(dataset / "images", dataset / "labels", output, **options)
    return output
