"""Model selection of clicked models: no post-processing that deletes objects, no comparison with click-free methods."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from commands import Workspace
from nnunetv2.postprocessing.remove_connected_components import remove_all_but_largest_component_from_segmentation
from scipy import ndimage

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.model_selection import forget_postprocessing, require_comparable


def two_objects() -> np.ndarray:
    """Two clicked objects of one label."""
    labels = np.zeros((12, 14, 20), np.uint8)
    labels[2:8, 3:9, 2:8] = 1
    labels[4:8, 4:8, 14:18] = 1
    return labels


def test_after_model_selection_the_stock_command_keeps_every_clicked_object(tmp_path: Path) -> None:
    pickle, kwargs = tmp_path / "postprocessing.pkl", {"labels_or_regions": [1]}
    assert ndimage.label(remove_all_but_largest_component_from_segmentation(two_objects(), **kwargs))[1] == 1
    save_pickle(([remove_all_but_largest_component_from_segmentation], [kwargs]), str(pickle))
    described = {"input_folder": {"mean": {"1": 0.8}}, "postprocessed": {"mean": {"1": 0.9}}}
    pickle.with_suffix(".json").write_text(json.dumps({**described, "postprocessing_fns": ["x"]}))
    (tmp_path / "postprocessed").mkdir()
    forget_postprocessing(pickle)
    assert not (tmp_path / "postprocessed").exists()
    now = json.loads(pickle.with_suffix(".json").read_text())
    assert (now["postprocessing_fns"], now["postprocessed"]) == ([], {"mean": {"1": 0.8}})

    masks = tmp_path / "masks"
    masks.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(two_objects()), str(masks / "case.nii.gz"))
    (masks / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    (masks / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    Workspace(tmp_path).run(
        "nnUNetv2_apply_postprocessing", "-i", masks, "-o", tmp_path / "out", "-pp_pkl_file", pickle, "-np", "1"
    )
    kept = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "case.nii.gz")))
    np.testing.assert_array_equal(kept, two_objects())


def test_clicked_models_are_not_compared_with_others() -> None:
    assert require_comparable(["ProMISeTrainer", "ProMISeTrainer_5epochs"])
    assert not require_comparable(["nnUNetTrainer"])
    with pytest.raises(UserError, match=r"ProMISeTrainer was told by clicks .* and nnUNetTrainer was not"):
        require_comparable(["ProMISeTrainer", "nnUNetTrainer"])
    with pytest.raises(UserError, match="-tr Nobody is not found"):
        require_comparable(["Nobody"])
