"""Training on SAM's weights through ``nnUNetv2_train``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from commands import DATASET_ID, PLANS, Workspace

from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file

SAM_PLANS = "SAMPlans"


def plan_with_sam(workspace: Workspace, checkpoint: str) -> None:
    """Plans with SAM's ViT-B on a patch of one attention window, so that a CPU trains it."""
    plans = json.loads((workspace.preprocessed / f"{PLANS}.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    patch = [32, 32, 32]
    configuration |= {"patch_size": patch, "batch_size": 1}
    configuration["promise"] |= {"window_size": patch, "sam_checkpoint": checkpoint}
    configuration["architecture"]["arch_kwargs"] = {"encoder": "vit_b", "patch_size": patch, "decoder_channels": 8}
    plans["plans_name"] = SAM_PLANS
    (workspace.preprocessed / f"{SAM_PLANS}.json").write_text(json.dumps(plans))


def test_missing_weights_say_how_to_get_them(workspace: Workspace, tmp_path: Path) -> None:
    plan_with_sam(workspace, "vit_b")
    done = workspace.run(
        "nnUNetv2_train", DATASET_ID, "3d_fullres", "0", "-tr", "ProMISeTrainer_1epoch", "-p", SAM_PLANS, "-device",
        "cpu", check=False, nnUNet_promise_sam=str(tmp_path),
    )  # fmt: skip
    assert done.returncode
    last = done.stderr.strip().splitlines()[-1]
    assert "nnUNetv2_promise_download_sam vit_b" in last
    assert "ProMISeTinyPlanner" in last


def test_stock_plans_mean_sams_vit_b_on_nnunets_patch() -> None:
    stock = {
        "patch_size": [28, 256, 224],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.x.PlainConvUNet",
            "arch_kwargs": {"n": 6},
        },
    }
    settings = PromptSettings.from_configuration(stock)
    patch = {"patch_size": (28, 256, 224), "activation_checkpointing": True}  # such a patch needs the memory
    assert settings.architecture == {"encoder": "vit_b", **patch}
    assert settings.window_size == settings.patch_size == (28, 256, 224)
    assert (settings.sam_checkpoint, settings.initial_lr, settings.foreground_share) == ("vit_b", 4e-4, 0.5)


def write_sam_file(folder: Path) -> dict[str, torch.Tensor]:
    """A file as ``nnUNetv2_promise_download_sam vit_b`` leaves it, with random weights; what is in it."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().state_dict()
    torch.save(sam, folder / "sam_vit_b_01ec64.pth")
    return sam


@pytest.mark.slow
def test_stock_plans_train_and_predict_without_naming_plans(workspace: Workspace, tmp_path: Path) -> None:
    write_sam_file(tmp_path)
    # nnU-Net's planner fails where nnUNet_n_proc_DA asks for no worker.
    workspace.run("nnUNetv2_plan_and_preprocess", "-d", DATASET_ID, "-c", "3d_fullres", nnUNet_n_proc_DA="1")
    trainer, sam = "ProMISeTrainer_1epoch", {"nnUNet_promise_sam": str(tmp_path)}
    done = workspace.run("nnUNetv2_train", DATASET_ID, "3d_fullres", "0", "-tr", trainer, "-device", "cpu", **sam)
    assert "SAM weights" in done.stdout
    prompts = tmp_path / "prompts.json"
    clicks = [Prompt(label="organ", points=((6.0, 5.0, 4.0),))]
    save_prompt_file(prompts, {"scan_008": clicks, "scan_009": clicks}, coordinates="voxel")
    workspace.run(
        "nnUNetv2_predict", "-i", workspace.images, "-o", tmp_path / "masks", "-d", DATASET_ID, "-c", "3d_fullres",
        "-f", "0", "-tr", trainer, "-device", "cpu", "-npp", "1", "-nps", "1", nnUNet_prompts=str(prompts),
    )  # fmt: skip
    for name in ("scan_008", "scan_009"):
        mask = sitk.ReadImage(str(tmp_path / "masks" / f"{name}.nii.gz"))
        image = sitk.ReadImage(str(workspace.images / f"{name}_0000.nii.gz"))
        assert mask.GetSize() == image.GetSize()
        assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1}


@pytest.mark.slow
def test_sam_stays_frozen_through_the_whole_command(workspace: Workspace, tmp_path: Path) -> None:
    sam, file = write_sam_file(tmp_path), tmp_path / "sam_vit_b_01ec64.pth"
    plan_with_sam(workspace, "vit_b")
    trainer = "ProMISeTrainer_1epoch"
    arguments = [DATASET_ID, "3d_fullres", "0", "-tr", trainer, "-p", SAM_PLANS, "-device", "cpu"]
    done = workspace.run("nnUNetv2_train", *arguments, nnUNet_promise_sam=str(tmp_path))
    assert f"SAM weights: {file}" in done.stdout
    assert "parameters are trained" in done.stdout
    folder = workspace.model(trainer).with_name(f"{trainer}__{SAM_PLANS}__3d_fullres") / "fold_0"
    weights = torch.load(folder / "checkpoint_final.pth", map_location="cpu", weights_only=False)["network_weights"]
    frozen = {
        f"network.image_encoder.{name}": sam[f"image_encoder.{name}"]
        for name in ("blocks.3.attn.qkv.weight", "blocks.11.mlp.lin2.bias", "blocks.2.attn.rel_pos_h", "pos_embed")
    }
    for name, value in frozen.items():
        assert torch.equal(weights[name].reshape(value.shape), value), name
    changed = sam["image_encoder.blocks.3.norm1.weight"]
    assert not torch.equal(weights["network.image_encoder.blocks.3.norm1.weight"], changed)
    # Going on and predicting need no SAM file: the checkpoint holds its weights.
    file.unlink()
    workspace.run("nnUNetv2_train", *arguments, "--val", nnUNet_promise_sam=str(tmp_path))
