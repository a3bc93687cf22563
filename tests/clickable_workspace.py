"""A clickable U-Net, planned and trained by the real commands on the small dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from commands import DATASET, DATASET_ID, Workspace

CLICKABLE_PLANS = "InteractiveUNetTinyPlans"
TRAINER = "InteractiveUNetTrainer_limited"
PATCH = [16, 24, 24]


@dataclass(frozen=True)
class Clickable:
    """What was planned and trained.

    Attributes:
        workspace: nnU-Net's folders.
        plain: Folder of the plain nnU-Net of the same plans.
        model: Folder of the clickable U-Net that started from it.
        log: What training the latter printed.
    """

    workspace: Workspace
    plain: Path
    model: Path
    log: str


def plan_small(workspace: Workspace, *options: str, plans: str = CLICKABLE_PLANS) -> Path:
    """Plan with the real command, and make the network as small as tests need it."""
    planner = "InteractiveUNetTinyPlanner"
    workspace.run("nnUNetv2_promise_plan_and_preprocess", "-d", DATASET_ID, "-pl", planner, "-np", "2", *options)
    file = workspace.preprocessed / f"{plans}.json"
    content = json.loads(file.read_text())
    configuration = content["configurations"]["3d_fullres"]
    configuration["patch_size"] = PATCH
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 3,
        "features_per_stage": [8, 16, 16],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
    }
    file.write_text(json.dumps(content))
    return file


def train_small(workspace: Workspace, trainer: str, *options: str | Path, minutes: float) -> tuple[Path, str]:
    """Train fold 0 by stock ``nnUNetv2_train``; the model's folder and what was printed."""
    command = ("nnUNetv2_train", DATASET_ID, "3d_fullres", "0", "-tr", trainer, "-p", CLICKABLE_PLANS, "-device", "cpu")
    done = workspace.run(*command, *options, nnUNet_promise_minutes=str(minutes))
    return workspace.results / DATASET / f"{trainer}__{CLICKABLE_PLANS}__3d_fullres", done.stdout


def make_clickable(workspace: Workspace) -> Clickable:
    """Train the plain nnU-Net of plans that are there, and start the clickable one from it."""
    plain, _ = train_small(workspace, "nnUNetTrainer_limited", minutes=0.15)
    weights = plain / "fold_0" / "checkpoint_final.pth"
    model, log = train_small(workspace, TRAINER, "-pretrained_weights", weights, minutes=0.2)
    return Clickable(workspace, plain, model, log)
