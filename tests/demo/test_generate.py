"""The demo's generated scans."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from nnunetv2_promise.demo.generate import DemoData, generate
from nnunetv2_promise.demo.lesions import DIAMETER_MM, GAP_MM
from nnunetv2_promise.demo.phantom import LESIONS_PER_SCAN, Scan, make_scan


@pytest.fixture(scope="module")
def scans() -> list[Scan]:
    return [make_scan(np.random.default_rng([7, number]), oblique=number % 3 == 2) for number in range(6)]


def arrays(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    return sitk.GetArrayFromImage(scan.image), sitk.GetArrayFromImage(scan.lesions)


def test_scans_are_anisotropic_and_about_96_mm_per_axis(scans: list[Scan]) -> None:
    for scan in scans:
        spacing_mm = np.array(scan.image.GetSpacing())
        field_mm = spacing_mm * scan.image.GetSize()
        assert 0.8 <= spacing_mm[0] == spacing_mm[1] <= 1.2
        assert 1.5 <= spacing_mm[2] <= 3.0
        assert ((field_mm > 84) & (field_mm < 108)).all()
        assert scan.image.GetPixelID() == sitk.sitkInt16
    assert len({scan.image.GetSize() for scan in scans}) == len(scans)


def test_every_third_scan_is_oblique_and_its_lesions_share_its_grid(scans: list[Scan]) -> None:
    for number, scan in enumerate(scans):
        direction = np.reshape(scan.image.GetDirection(), (3, 3))
        aligned = np.allclose(np.abs(direction), np.eye(3))
        assert aligned != (number % 3 == 2)
        assert scan.lesions.GetDirection() == scan.image.GetDirection()
        assert scan.lesions.GetOrigin() == scan.image.GetOrigin()


def test_lesions_are_connected_of_the_stated_size_and_apart(scans: list[Scan]) -> None:
    for scan in scans:
        _, lesions = arrays(scan)
        spacing_mm = scan.image.GetSpacing()[::-1]
        values = range(1, int(lesions.max()) + 1)
        assert LESIONS_PER_SCAN[0] <= len(values) <= LESIONS_PER_SCAN[1]
        for value in values:
            assert ndimage.label(lesions == value)[1] == 1
            box = ndimage.find_objects(lesions)[value - 1]
            extent_mm = max((part.stop - part.start) * s for part, s in zip(box, spacing_mm, strict=True))
            assert DIAMETER_MM[0] * 0.7 < extent_mm < DIAMETER_MM[1] * 1.25
        for one, other in combinations(values, 2):
            to_one_mm = ndimage.distance_transform_edt(lesions != one, sampling=spacing_mm)
            assert to_one_mm[lesions == other].min() > GAP_MM


def test_lesions_of_a_scan_look_alike_and_darker_than_their_surroundings(scans: list[Scan]) -> None:
    for scan in scans:
        image, lesions = arrays(scan)
        means = [image[lesions == value].mean() for value in range(1, int(lesions.max()) + 1)]
        around = ndimage.binary_dilation(lesions > 0, iterations=4) & ~ndimage.binary_dilation(
            lesions > 0, iterations=2
        )
        assert max(means) - min(means) < 30
        assert np.median(image[around]) - max(means) > 20


def test_chosen_is_any_of_the_lesions(scans: list[Scan]) -> None:
    assert all(1 <= scan.chosen <= arrays(scan)[1].max() for scan in scans)
    assert len({scan.chosen for scan in scans}) > 1


def test_same_seed_gives_same_voxels_and_another_seed_does_not() -> None:
    first, second, other = (make_scan(np.random.default_rng([seed, 0]), oblique=True) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(arrays(first), arrays(second), strict=True))
    assert first.chosen == second.chosen
    assert first.image.GetDirection() == second.image.GetDirection()
    assert arrays(first)[0].shape != arrays(other)[0].shape


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return generate(tmp_path_factory.mktemp("demo"), training=2, test=1)


def test_task_is_an_msd_folder(data: DemoData) -> None:
    description = json.loads((data.task / "dataset.json").read_text(encoding="utf-8"))
    assert description["modality"] == {"0": "CT"}
    assert description["labels"] == {"0": "background", "1": "tumour"}
    assert description["numTraining"] == len(description["training"]) == 2
    assert description["numTest"] == len(description["test"]) == 1
    named = [entry[key] for entry in description["training"] for key in ("image", "label")] + description["test"]
    assert sorted((data.task / name).resolve() for name in named) == sorted(data.task.glob("images*/*")) + sorted(
        data.task.glob("labelsTr/*")
    )


def test_exactly_one_lesion_of_a_test_scan_is_chosen(data: DemoData) -> None:
    (label_file,) = data.test_labels.iterdir()
    label, lesions = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (label_file, data.test_lesions / label_file.name)
    )
    labelled = np.unique(lesions[label == 1])
    assert labelled.size == 1
    assert np.array_equal(label == 1, lesions == labelled[0])
    assert lesions.max() >= LESIONS_PER_SCAN[0]


def test_every_lesion_of_a_training_scan_is_labelled(data: DemoData) -> None:
    for number, path in enumerate(sorted((data.task / "labelsTr").iterdir())):
        scan = make_scan(np.random.default_rng([0, number]), oblique=number % 3 == 2)
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), arrays(scan)[1] > 0)


def test_truth_of_test_scans_is_not_in_the_task(data: DemoData) -> None:
    assert sorted(path.name for path in data.task.iterdir()) == ["dataset.json", "imagesTr", "imagesTs", "labelsTr"]
    assert {path.name for path in Path(data.task / "labelsTr").iterdir()} == {"demo_001.nii.gz", "demo_002.nii.gz"}
