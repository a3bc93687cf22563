"""Writes the demo's data set in the form of the Medical Segmentation Decathlon (MSD)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.demo.phantom import make_scan
from nnunetv2_promise.files import atomic_path, write_json

TASK = "Task501_DemoLesions"
LABEL = "tumour"


@dataclass(frozen=True)
class DemoData:
    """Where the generated data lie under one folder.

    Attributes:
        task: The MSD folder: dataset.json, imagesTr, labelsTr, imagesTs.
        test_labels: CASE.nii.gz, one lesion of each test scan, chosen at random; kept apart from the task.
        test_lesions: CASE.nii.gz, every lesion of each test scan as 1..n.
    """

    task: Path
    test_labels: Path
    test_lesions: Path

    @classmethod
    def under(cls, folder: Path) -> DemoData:
        """The usual places under ``folder``."""
        return cls(folder / TASK, folder / "test_labels", folder / "test_lesions")


def generate(folder: Path, *, training: int = 24, test: int = 8, seed: int = 0) -> DemoData:
    """Generate training and test scans; the same arguments give the same voxels.

    Args:
        folder: Where to write, see ``DemoData``.
        training: Number of labelled training scans.
        test: Number of test scans.
        seed: Every scan has its own random stream from this seed and its number.
    """
    data = DemoData.under(folder)
    cases = [f"demo_{number:03d}" for number in range(1, training + test + 1)]
    for number, case in enumerate(cases):
        scan = make_scan(np.random.default_rng([seed, number]), oblique=number % 3 == 2)
        if number < training:
            _write(scan.image, data.task / "imagesTr" / f"{case}.nii.gz")
            _write(_mask(scan.lesions > 0), data.task / "labelsTr" / f"{case}.nii.gz")
        else:
            _write(scan.image, data.task / "imagesTs" / f"{case}.nii.gz")
            _write(_mask(scan.lesions == scan.chosen), data.test_labels / f"{case}.nii.gz")
            _write(scan.lesions, data.test_lesions / f"{case}.nii.gz")
    write_json(_description(cases[:training], cases[training:]), data.task / "dataset.json")
    return data


def _mask(voxels: sitk.Image) -> sitk.Image:
    return sitk.Cast(voxels, sitk.sitkUInt8)


def _write(image: sitk.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


def _description(training: list[str], test: list[str]) -> dict[str, object]:
    """The dataset.json of an MSD task."""
    return {
        "name": "DemoLesions",
        "description": "Generated CT scans with several look-alike lesions each, all of them labelled",
        "licence": "Apache-2.0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": LABEL},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [{"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in training],
        "test": [f"./imagesTs/{c}.nii.gz" for c in test],
    }
