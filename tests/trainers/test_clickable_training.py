"""The clickable U-Net through the real commands: plans, start, what the folder holds, automatic masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from clickable_workspace import CLICKABLE_PLANS, TRAINER, Clickable, train_small
from commands import DATASET_ID, PLANS
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.weights.weight_files import read_weight_file
from nnunetv2_promise.planning.nninteractive_folder import read_nninteractive_folder
from nnunetv2_promise.trainers import InteractiveUNetTrainer, InteractiveUNetTrainer_KeepUNet


def test_plans_keep_voxels_and_axes_and_name_the_clickable_network(clickable: Clickable):
    plans = json.loads((clickable.workspace.preprocessed / f"{CLICKABLE_PLANS}.json").read_text())
    assert plans["transpose_forward"] == [0, 1, 2]
    assert list(plans["configurations"]) == ["3d_fullres"]
    configuration = PlansManager(plans).get_configuration("3d_fullres")
    assert configuration.normalization_schemes == ["ZScoreNormalization"]
    assert configuration.use_mask_for_norm == [False]
    for name in ("data", "seg", "probabilities"):
        assert configuration.configuration[f"resampling_fn_{name}"] == "no_resampling_hack"
    assert configuration.network_arch_class_name == "nnunetv2_promise.network_architectures.InteractiveUNet"
    assert configuration.network_arch_init_kwargs["labels"] == 2
    assert configuration.network_arch_init_kwargs["prompts"] == "decoder"


def test_pretrained_weights_of_a_plain_nnunet_are_taken_over_with_their_heads(clickable: Clickable):
    assert "Segmentation heads of" in clickable.log
    assert "checkpoint_final.pth: taken over." in clickable.log


def test_the_trained_folder_is_one_of_nninteractive(clickable: Clickable):
    folder = read_nninteractive_folder(clickable.model)
    assert folder.configuration_name == "3d_fullres"
    assert folder.inference_info["supported_interactions"]["points"]
    assert not folder.inference_info["supported_interactions"]["bbox3d"]
    assert (clickable.model / "LICENSE").read_text().startswith("No licence stated")
    assert not any(key.startswith(("module.", "_orig_mod.")) for key in folder.weights)


def test_corrections_have_been_trained_at_every_level(clickable: Clickable):
    weights = read_weight_file(clickable.model / "fold_0" / "checkpoint_final.pth")["network_weights"]
    for level in range(2):
        assert weights[f"corrections.seg_layers.levels.{level}.4.weight"].any()


def test_validation_tells_dice_without_and_with_clicks(clickable: Clickable):
    folder = clickable.model / "fold_0" / "validation"
    assert (folder / "summary.json").is_file()
    clicks = json.loads((folder / "clicks.json").read_text())
    assert len(clicks["mean_dice"]) == 6
    assert all(0 <= value <= 1 for row in clicks["objects"] for value in row["dice"])
    assert clicks["mean_dice"][5] > clicks["mean_dice"][0]


def test_a_kept_unet_gives_its_own_masks_and_learns_from_clicks(clickable: Clickable):
    weights_file = clickable.plain / "fold_0" / "checkpoint_final.pth"
    options = ("-pretrained_weights", weights_file)
    model, log = train_small(clickable.workspace, "InteractiveUNetTrainer_KeepUNet_limited", *options, minutes=0.1)
    assert "taken over." in log
    before, after = (read_weight_file(folder / "fold_0" / "checkpoint_final.pth")["network_weights"]
                     for folder in (clickable.plain, model))  # fmt: skip
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert after["corrections.seg_layers.levels.0.4.weight"].any()
    for mask in (clickable.plain / "fold_0" / "validation").glob("*.nii.gz"):
        expected, found = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
            for file in (mask, model / "fold_0" / "validation" / mask.name)
        )
        np.testing.assert_array_equal(found, expected)
    assert read_nninteractive_folder(model).configuration_name == "3d_fullres"


def test_an_nnunet_is_clickable_without_training(clickable: Clickable):
    trainer = "InteractiveUNetTrainer_KeepUNet_0epochs"
    options = ("-pretrained_weights", clickable.plain / "fold_0" / "checkpoint_final.pth")
    model, _ = train_small(clickable.workspace, trainer, *options, minutes=1)
    weights = read_weight_file(model / "fold_0" / "checkpoint_final.pth")["network_weights"]
    assert not any(weights[f"corrections.seg_layers.levels.{level}.4.weight"].any() for level in range(2))
    assert weights["corrections.seg_layers.click_weight"] == 1
    clicks = json.loads((model / "fold_0" / "validation" / "clicks.json").read_text())
    assert clicks["mean_dice"][5] > clicks["mean_dice"][0]
    assert read_nninteractive_folder(model).configuration_name == "3d_fullres"
    _, resumed = train_small(clickable.workspace, trainer, "--c", minutes=1)
    assert "Training done." in resumed


def test_a_kept_unet_has_to_be_there(clickable: Clickable):
    command = ("nnUNetv2_train", DATASET_ID, "3d_fullres", "1", "-tr", "InteractiveUNetTrainer_KeepUNet_limited")
    done = clickable.workspace.run(
        *command, "-p", CLICKABLE_PLANS, "-device", "cpu", check=False, nnUNet_promise_minutes="0.1"
    )
    assert done.returncode
    assert "keeps the U-Net that it starts from; add -pretrained_weights CHECKPOINT" in done.stdout + done.stderr


def test_plans_with_prompts_beside_the_image_leave_nothing_to_learn_beside_a_kept_unet():
    trainer = object.__new__(InteractiveUNetTrainer_KeepUNet)
    trainer.prompts = "input"
    with pytest.raises(UserError, match="put interactions beside the image; use InteractiveUNetTrainer"):
        trainer.configure_optimizers()


def test_stock_predict_gives_the_automatic_mask(clickable: Clickable, tmp_path):
    command = ("nnUNetv2_predict", "-i", clickable.workspace.images, "-o", tmp_path, "-d", DATASET_ID)
    model = ("-c", "3d_fullres", "-f", "0", "-tr", TRAINER, "-p", CLICKABLE_PLANS, "-device", "cpu")
    clickable.workspace.run(*command, *model, "-npp", "1", "-nps", "1", nnUNet_promise_minutes="1")
    masks = sorted(tmp_path.glob("*.nii.gz"))
    assert len(masks) == 2
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(masks[0]))))) <= {0, 1, 2}


def test_plans_of_another_kind_end_in_a_sentence(clickable: Clickable, monkeypatch):
    folders = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    for variable in folders:
        monkeypatch.setenv(variable, clickable.workspace.environment()[variable])
    plans = json.loads((clickable.workspace.preprocessed / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((clickable.workspace.preprocessed / "dataset.json").read_text())
    with pytest.raises(UserError, match="not for a clickable U-Net"):
        InteractiveUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
