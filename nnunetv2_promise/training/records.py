"""What a trained model's folder says about itself."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path

from nnunetv2_promise.files import atomic_path, write_json
from nnunetv2_promise.training.trainer_protocol import PromptTraining

PACKAGES = ("nnunetv2-promise", "nnunetv2", "torch", "batchgenerators", "batchgeneratorsv2", "monai", "numpy")
_KNOBS = (
    "target",
    "boundary_weight",
    "object_points",
    "random_points",
    "entrance_lr_factor",
    "click_weight",
    "zoom_share",
)


def write_run_record(trainer: PromptTraining) -> None:
    """Write ``run.json`` beside the checkpoints: command line, seed, versions and settings of this run."""
    record = {
        "command": sys.argv,
        "trainer": type(trainer).__name__,
        "seed": trainer.seed,
        "fold": trainer.fold,
        "length": trainer.length_in_words(),
        "first_epoch": trainer.current_epoch,
        "epochs": trainer.num_epochs,
        "iterations_per_epoch": trainer.num_iterations_per_epoch,
        "batch_size": trainer.batch_size,
        "initial_lr": trainer.initial_lr,
        "foreground_share": trainer.oversample_foreground_percent,
        **{name: getattr(trainer, name) for name in _KNOBS if hasattr(trainer, name)},
        "device": str(trainer.device),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "configuration": trainer.configuration_manager.configuration,
    }
    write_json(record, Path(trainer.output_folder, "run.json"))


def write_model_card(trainer: PromptTraining) -> None:
    """Write ``MODEL_CARD.md`` into the model's folder: what it was trained on, what it expects, how to call it."""
    dataset = trainer.dataset_json
    channels = ", ".join(str(name) for name in dataset["channel_names"].values())
    labels = ", ".join(f"{name} ({value})" for name, value in dataset["labels"].items() if name != "background")
    spacing = " x ".join(f"{float(s):.3g}" for s in trainer.configuration_manager.spacing)
    plans, name = trainer.plans_manager, type(trainer).__name__
    lines = [
        f"# {name} on {plans.dataset_name}",
        "",
        "A promptable model: it segments the object that is clicked, on a "
        f"patch of {tuple(trainer.configuration_manager.patch_size)} voxels (z, y, x) at {spacing} mm.",
        "",
        f"- Images: {channels}; file ending {dataset['file_ending']}.",
        f"- Labels that a prompt may name: {labels}.",
        f"- Training: {trainer.length_in_words()}, seed {trainer.seed}; details in `run.json` of each fold.",
        f"- Software: nnunetv2-promise {version('nnunetv2-promise')}, nnunetv2 {version('nnunetv2')}.",
        "- Without a prompt the model says nothing: the mask is empty. It has not been validated for clinical use.",
        "",
        "```bash",
        f"nnUNetv2_promise_predict -i IMAGES -o OUTPUT -d {plans.dataset_name} -c {trainer.configuration_name} "
        f"-tr {name} -p {plans.plans_name} -f {trainer.fold} --prompts prompts.json",
        "```",
        "",
    ]
    with atomic_path(Path(trainer.output_folder_base, "MODEL_CARD.md")) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
