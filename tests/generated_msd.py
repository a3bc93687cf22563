"""Tiny MSD folders for the tests of dataset and planning."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

SPACING_MM = (0.8, 0.9, 2.0)  # x, y, z
ORIGIN_MM = (10.0, -20.0, 30.0)
SHAPE = (12, 16, 20)  # z, y, x


def write_volume(
    array: np.ndarray,
    path: Path,
    *,
    spacing: Sequence[float] = SPACING_MM,
    origin: Sequence[float] = ORIGIN_MM,
    direction: Sequence[float] | None = None,
) -> None:
    """Write (z, y, x), or (channel, z, y, x) as a 4D image."""
    if array.ndim == 4:
        volumes = [sitk.GetImageFromArray(volume) for volume in array]
        for volume in volumes:
            volume.SetSpacing(spacing)
            volume.SetOrigin(origin)
        image = sitk.JoinSeries(volumes)
    else:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        if direction is not None:
            image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def label_map(index: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A box of label 1 and one of label 2; no label 2 in case 0."""
    label = np.zeros(shape, dtype=np.uint8)
    label[2:6, 3:9, 4 : 9 + index % 3] = 1
    if index:
        label[7:10, 10:14, 12:17] = 2
    return label


def write_msd(
    folder: Path,
    *,
    cases: int = 4,
    tests: int = 1,
    modality: Sequence[str] = ("CT",),
    labels: Sequence[str] = ("background", "organ", "cancer"),
    shape: tuple[int, ...] = SHAPE,
    spacing: Sequence[float] = SPACING_MM,
    make_label: Callable[[int, tuple[int, ...]], np.ndarray] = label_map,
) -> Path:
    """Write an MSD folder; labels beyond the named ones are dropped."""
    rng = np.random.default_rng(7)
    for index in range(cases + tests):
        name = f"scan_{index:03d}.nii.gz"
        label = make_label(index, shape)
        label[label >= len(labels)] = 0
        channels = [rng.normal(40, 10, shape) + 80 * (label > 0) for _ in modality]
        image = np.array(channels, dtype=np.int16) if len(modality) > 1 else channels[0].astype(np.int16)
        part = "Tr" if index < cases else "Ts"
        write_volume(image, folder / f"images{part}" / name, spacing=spacing)
        if part == "Tr":
            write_volume(label, folder / "labelsTr" / name, spacing=spacing)
    content = {
        "name": folder.name.split("_")[-1],
        "description": "generated",
        "modality": {str(index): name for index, name in enumerate(modality)},
        "labels": {str(value): name for value, name in enumerate(labels)},
        "numTraining": cases,
        "numTest": tests,
        "training": [
            {"image": f"./imagesTr/scan_{i:03d}.nii.gz", "label": f"./labelsTr/scan_{i:03d}.nii.gz"}
            for i in range(cases)
        ],
        "test": [f"./imagesTs/scan_{i:03d}.nii.gz" for i in range(cases, cases + tests)],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def read_array(path: Path | str) -> np.ndarray:
    """The voxels, (z, y, x)."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
