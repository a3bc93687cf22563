"""Prompts from nnU-Net's masks: by hand, and from a stock nnU-Net with random weights."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from labelled_images import to_image

from nnunetv2_promise.cli.prompts import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import read_geometry
from nnunetv2_promise.prompts import propose as propose_module
from nnunetv2_promise.prompts.locate import locate_case, read_previous_mask
from nnunetv2_promise.prompts.propose import StockModel, propose_from_masks, propose_from_model
from nnunetv2_promise.prompts.schema import PromptFile

SHAPE_ZYX = (9, 12, 20)
LABELS = {"background": 0, "organ": 1, "tumour": 2}


def write(array: np.ndarray, path: Path, *, origin: float = -40.0, spacing: Sequence[float] = (0.8, 1.7, 4.1)) -> None:
    image = to_image(array)
    image.SetOrigin((origin, 12.5, 300.0))
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def label_map() -> np.ndarray:
    """Tumours of 5 x 5 x 5 (x 2 to 6) and 3 x 3 x 3 voxels (x 10 to 12)."""
    array = np.zeros(SHAPE_ZYX, np.uint8)
    array[2:7, 2:7, 2:7] = array[1:4, 8:11, 10:13] = 2
    return array


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(np.zeros(SHAPE_ZYX, np.float32), tmp_path / "images" / "a_0000.nii.gz")
    write(label_map(), tmp_path / "masks" / "a.nii.gz")
    (tmp_path / "masks" / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    (tmp_path / "masks" / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    return tmp_path


def propose(folder: Path, **options: Any) -> PromptFile:
    return propose_from_masks(folder / "masks", folder / "images", folder / "prompts.json", **options)


def clicks_xyz(prompts: PromptFile, folder: Path) -> list[list[float]]:
    located = locate_case(prompts, "a", read_geometry(folder / "images" / "a_0000.nii.gz"), labels=LABELS)
    return [np.round(item.index_zyx[0, ::-1], 3).tolist() for item in located]


@pytest.mark.parametrize("coordinates", ["voxel", "LPS", "RAS"])
def test_components_are_clicked_where_they_are_deepest_and_keep_their_mask(coordinates: str, folder: Path) -> None:
    prompts = propose(folder, coordinates=coordinates)
    assert clicks_xyz(prompts, folder) == [[4, 4, 4], [11, 9, 2]]
    first, second = prompts.cases["a"]
    assert (first.label, first.previous_mask) == ("tumour", "prompts_masks/a_object1.nii.gz")
    for prompt, slices in ((first, np.s_[2:7, 2:7, 2:7]), (second, np.s_[1:4, 8:11, 10:13])):
        expected = np.zeros(SHAPE_ZYX, bool)
        expected[slices] = True
        np.testing.assert_array_equal(read_previous_mask(prompts.previous_mask_path(prompt)), expected)


def save_probabilities(folder: Path, tumour: np.ndarray) -> None:
    other = (1 - tumour) / 2
    np.savez_compressed(folder / "masks" / "a.npz", probabilities=np.stack([other, other, tumour]).astype(np.float16))


def test_most_certain_voxel_is_clicked(folder: Path) -> None:
    """The highest probability of all lies outside of the components, and that of another label does not count."""
    tumour = np.full(SHAPE_ZYX, 0.6)
    tumour[3, 5, 6], tumour[1, 8, 12], tumour[8, 11, 19] = 0.9, 0.7, 1.0
    save_probabilities(folder, tumour)
    assert clicks_xyz(propose(folder), folder) == [[6, 5, 3], [12, 8, 1]]


def test_of_equally_certain_voxels_the_deepest_is_clicked(folder: Path) -> None:
    tumour = np.full(SHAPE_ZYX, 0.5)
    tumour[2:7, 2:7, 2:5] = 0.9996
    tumour[4, 4, 4] = 1.0
    save_probabilities(folder, tumour)
    assert clicks_xyz(propose(folder), folder)[0] == [3, 4, 4]


def test_probabilities_of_a_reader_that_reorients_are_left_out(folder: Path) -> None:
    tumour = np.full(SHAPE_ZYX, 0.6)
    tumour[3, 5, 6] = 0.9
    save_probabilities(folder, tumour)
    (folder / "masks" / "plans.json").write_text(json.dumps({"image_reader_writer": "NibabelIOWithReorient"}))
    assert clicks_xyz(propose(folder), folder)[0] == [4, 4, 4]


def test_small_components_are_left_out_and_numbers_stay_without_gaps(folder: Path) -> None:
    voxel_mm3 = 0.8 * 1.7 * 4.1
    assert len(propose(folder, min_volume_mm3=27 * voxel_mm3 - 0.01).cases["a"]) == 2
    (prompt,) = propose(folder, min_volume_mm3=27 * voxel_mm3 + 0.01).cases["a"]
    assert prompt.previous_mask == "prompts_masks/a_object1.nii.gz"
    array = label_map()
    array[8, 11, 19] = 1  # labels come in their order, so that the smallest component is the first one
    write(array, folder / "masks" / "a.nii.gz")
    assert [item.label for item in propose(folder).cases["a"]] == ["organ", "tumour", "tumour"]
    kept = propose(folder, min_volume_mm3=2 * voxel_mm3).cases["a"]
    assert [item.previous_mask for item in kept] == [f"prompts_masks/a_object{number}.nii.gz" for number in (1, 2)]


def test_every_component_is_clicked_however_small(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Components of 0.125 and 0.027 mm3."""
    fine = (0.1, 0.1, 0.1)
    write(np.zeros(SHAPE_ZYX, np.float32), folder / "images" / "a_0000.nii.gz", spacing=fine)
    write(label_map(), folder / "masks" / "a.nii.gz", spacing=fine)
    assert len(propose(folder).cases["a"]) == 2
    monkeypatch.setattr(
        propose_module, "_predict", lambda model, images, masks: write(label_map(), masks / "a.nii.gz", spacing=fine)
    )
    model = StockModel(folder / "masks", ("0",))
    assert len(propose_from_model(model, folder / "images", folder / "prompts.json").cases["a"]) == 2


def test_nothing_found_gives_an_empty_case(folder: Path) -> None:
    write(np.zeros(SHAPE_ZYX, np.uint8), folder / "masks" / "a.nii.gz")
    assert propose(folder).cases == {"a": ()}


def test_region_of_one_label_is_that_label(folder: Path) -> None:
    expected = propose(folder).cases
    labels = {"background": 0, "organ": [1], "tumour": [2]}
    (folder / "masks" / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert propose(folder).cases == expected


def test_bad_input_gives_one_sentence(folder: Path) -> None:
    for shape in ((3, 2, 2, 2), (3, 9, 12, 21), (2, *SHAPE_ZYX), (1, *SHAPE_ZYX)):
        np.savez_compressed(folder / "masks" / "a.npz", probabilities=np.zeros(shape))
        with pytest.raises(UserError, match=rf"a.npz holds an array of {re.escape(str(shape))}, which does not fit"):
            propose(folder)
    np.savez_compressed(folder / "masks" / "a.npz", probabilities=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"a.npz does not hold nnU-Net's probabilities \(Object arrays cannot"):
        propose(folder)
    (folder / "masks" / "a.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"a.npz does not hold nnU-Net's probabilities"):
        propose(folder)
    (folder / "masks" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole": [1, 2]}}))
    with pytest.raises(UserError, match="has regions of several labels"):
        propose(folder)
    write(label_map(), folder / "masks" / "a.nii.gz", origin=0.0)
    (folder / "masks" / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    with pytest.raises(UserError, match=r"masks/a.nii.gz and its image differ in origin"):
        propose(folder)
    (folder / "masks" / "a.nii.gz").rename(folder / "masks" / "b.nii.gz")
    with pytest.raises(UserError, match=r"masks has no mask for 1 case\(s\): a"):
        propose(folder)
    assert not (folder / "prompts.json").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--masks", "masks", "-f", "0"], "--masks needs no model; leave out -f"),
        (["-m", "images"], "-m images has no dataset.json; name the folder of a trained model"),
        (["-m", "masks", "--dataset_json", "x"], "leave out --dataset_json"),
        (["-m", "masks", "-device", "cpu"], "nnU-Net could not predict with -m masks (FileNotFoundError: [Errno 2] No"),
    ],
)
def test_command_refuses(
    options: list[str],
    expected: str,
    folder: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["propose", *options, "-i", "images", "-o", "out/p.json"]) == 2
    assert expected in capsys.readouterr().err
    assert not list(folder.glob("out/*"))


def test_the_output_folder_is_made_and_nothing_else_is_left_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(model: StockModel, images: Path, masks: Path) -> None:
        write(label_map(), masks / "a.nii.gz")

    monkeypatch.setattr(propose_module, "_predict", predict)
    model = StockModel(folder / "masks", ("0",), "checkpoint_final.pth", "cpu")
    propose_from_model(model, folder / "images", folder / "new" / "deeper" / "p.json")
    assert sorted(path.name for path in (folder / "new" / "deeper").iterdir()) == ["p.json", "p_masks"]


def save_stock_model(folder: Path) -> None:
    """A folder as nnU-Net's training leaves it, with a U-Net of two stages and random weights."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    kwargs = {
        "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True, "nonlin": "torch.nn.LeakyReLU",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    }  # fmt: skip
    needed = ["conv_op", "norm_op", "nonlin"]
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    configuration = {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [8, 12, 16],
        "spacing": [4.1, 1.7, 0.8], "normalization_schemes": ["NoNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False}, "resampling_fn_seg_kwargs": {"is_seg": True},
        "resampling_fn_probabilities_kwargs": {"is_seg": False}, "batch_dice": False,
        "architecture": {"network_class_name": name, "arch_kwargs": kwargs, "_kw_requires_import": needed},
    }  # fmt: skip
    plans = {
        "dataset_name": "Dataset001_A", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration}, "foreground_intensity_properties_per_channel": {"0": {}},
    }  # fmt: skip
    dataset = {"labels": LABELS, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "numTraining": 1}
    torch.manual_seed(3)
    network = get_network_from_plans(name, kwargs, needed, 1, 3, allow_init=True, deep_supervision=False)
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"},
        "network_weights": network.state_dict(), "inference_allowed_mirroring_axes": None,
    }  # fmt: skip
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


@pytest.mark.slow
def test_stock_nnunet_proposes(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = tmp_path_factory.mktemp("bin") / "python"  # as with pip install --user, no script lies beside it
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    noise = np.random.default_rng(1).normal(size=SHAPE_ZYX).astype(np.float32)
    write(noise, folder / "images" / "a_0000.nii.gz")
    save_stock_model(folder / "model")
    command = ["propose", "-m", str(folder / "model"), "-i", str(folder / "images"), "-o", str(folder / "p.json")]
    assert main([*command, "-device", "cpu"]) == 0
    assert "p.json: 1 cases" in capsys.readouterr().out
    assert main(["check", str(folder / "p.json"), "-i", str(folder / "images"), "--dataset_json",
                 str(folder / "model" / "dataset.json")]) == 0  # fmt: skip
    content = json.loads((folder / "p.json").read_text())["cases"]["a"]
    assert content
    covered = sum(read_previous_mask(folder / item["previous_mask"]).astype(int) for item in content)
    assert covered.max() == 1
    assert {path.name for path in folder.iterdir()} == {"images", "masks", "model", "p.json", "p_masks"}
