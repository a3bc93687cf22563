"""The fingerprint lists every object's size; stock nnU-Net still reads it."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_msd import SPACING_MM, edit_json, write_msd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

from nnunetv2_promise.dataset.msd_conversion import convert_msd
from nnunetv2_promise.planning.fingerprint import ObjectFingerprintExtractor, foreground_values
from nnunetv2_promise.planning.object_sizes import measure_objects, summarize_objects


def slow_objects(label: np.ndarray, value: int) -> list[tuple[int, tuple[int, int, int]]]:
    """Voxel count and extent of each component by flood fill over all 26 neighbours."""
    left = set(map(tuple, np.argwhere(label == value).tolist()))
    objects = []
    while left:
        stack = [left.pop()]
        members = []
        while stack:
            voxel = stack.pop()
            members.append(voxel)
            for step in itertools.product((-1, 0, 1), repeat=3):
                neighbour = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if neighbour in left:
                    left.remove(neighbour)
                    stack.append(neighbour)
        extent = tuple((np.max(members, axis=0) - np.min(members, axis=0) + 1).tolist())
        objects.append((len(members), extent))
    return sorted(objects)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 2)))
@settings(max_examples=80, deadline=None)
def test_measure_objects_equals_flood_fill(label: np.ndarray) -> None:
    spacing = (2.0, 0.5, 0.25)
    measured = measure_objects(label, spacing, {"one": (1,), "two": (2,)})
    for name, value in (("one", 1), ("two", 2)):
        found = measured[name]
        extents = np.array(found["extent_mm"]).reshape(-1, 3) / spacing
        objects = sorted(zip(found["voxels"], map(tuple, extents.astype(int).tolist()), strict=True))
        assert objects == slow_objects(label, value)
        assert np.allclose(found["volume_mm3"], np.array(found["voxels"]) * 0.25)


def test_measure_objects_touching_at_a_corner_is_one_object() -> None:
    label = np.zeros((4, 4, 4), dtype=np.uint8)
    label[0, 0, 0] = label[1, 1, 1] = 1
    label[3, 3, 3] = 1
    found = measure_objects(label, (3.0, 2.0, 1.0), {"a": (1,)})["a"]
    assert found["voxels"] == [2, 1]
    assert found["volume_mm3"] == [12.0, 6.0]
    assert found["extent_mm"] == [[6.0, 4.0, 2.0], [3.0, 2.0, 1.0]]


def test_measure_objects_region_joins_its_values() -> None:
    label = np.array([[[1, 2, 0, 2]]], dtype=np.uint8)
    found = measure_objects(label, (1.0, 1.0, 1.0), {"whole": (1, 2), "core": (2,)})
    assert found["whole"]["voxels"] == [2, 1]
    assert found["core"]["voxels"] == [1, 1]


def test_summarize_objects_without_any_object_is_empty() -> None:
    measured = {"case": measure_objects(np.zeros((2, 2, 2), np.uint8), (1, 1, 1), {"a": (1,)})}
    summary = summarize_objects(measured, {"a": (1,)})["a"]
    assert summary["number"] == 0
    assert summary["cases_without"] == ["case"]
    assert summary["percentiles"] == {}


def test_foreground_values_leaves_background_and_ignore_out() -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    assert foreground_values(labels) == {"whole": (1, 2), "core": (2,)}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A dataset of four cases and its fingerprint, made with two spawned workers."""
    folder = tmp_path_factory.mktemp("fingerprint")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, str(folder / variable))
        convert_msd(write_msd(folder / "Task10_Colon"), 10)
        fingerprint = ObjectFingerprintExtractor(10, 2).run(overwrite_existing=True)
    return folder, fingerprint


@pytest.fixture
def folder(extracted: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(extracted[0] / variable))
    return extracted[0]


def test_extractor_adds_objects_of_every_label(extracted: tuple[Path, dict[str, Any]]) -> None:
    labels = extracted[1]["objects"]["labels"]
    assert set(labels) == {"organ", "cancer"}
    x_mm, y_mm, z_mm = SPACING_MM
    # Case 0 of generated_msd: a box of 4 x 6 x 5 voxels of label 1, nothing of label 2.
    case = labels["organ"]["cases"]["scan_000"]
    assert case["number"] == 1
    assert case["voxels"] == [120]
    assert case["volume_mm3"] == pytest.approx([120 * x_mm * y_mm * z_mm])
    assert case["extent_mm"] == [pytest.approx([4 * z_mm, 6 * y_mm, 5 * x_mm])]
    assert labels["cancer"]["cases_without"] == ["scan_000"]
    assert labels["cancer"]["number"] == 3
    assert labels["organ"]["percentiles"]["extent_mm"]["50.0"] == pytest.approx([4 * z_mm, 6 * y_mm, 5.5 * x_mm])


def test_extractor_keeps_stock_content(extracted: tuple[Path, dict[str, Any]], folder: Path) -> None:
    file = folder / "nnUNet_preprocessed" / "Dataset010_Colon" / "dataset_fingerprint.json"
    ours = json.loads(file.read_text())
    assert DatasetFingerprintExtractor(10, 1).run(overwrite_existing=False) == ours
    stock_keys = {
        "spacings",
        "shapes_after_crop",
        "foreground_intensity_properties_per_channel",
        "median_relative_size_after_cropping",
    }
    assert set(ours) == stock_keys | {"objects"}
    assert len(ours["spacings"]) == 4


def test_extractor_reuses_a_fingerprint_of_the_same_dataset_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr(DatasetFingerprintExtractor, "run", lambda self, overwrite_existing: runs.append(1))
    file = folder / "nnUNet_preprocessed" / "Dataset010_Colon" / "dataset_fingerprint.json"
    before = os.stat(file).st_mtime_ns
    ObjectFingerprintExtractor(10, 1).run()
    assert os.stat(file).st_mtime_ns == before
    assert runs == []
    original = file.read_text()
    edit_json(file, lambda content: content.pop("objects"))  # as stock nnU-Net writes it
    ObjectFingerprintExtractor(10, 1).run()
    assert json.loads(file.read_text()) == json.loads(original)
    edit_json(file, lambda content: content["objects"].update(dataset_json_sha256="of another dataset"))
    ObjectFingerprintExtractor(10, 1).run()
    assert json.loads(file.read_text()) == json.loads(original)
    assert len(runs) == 2
