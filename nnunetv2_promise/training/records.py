"""What a trained model's folder says about itself."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import distributed

from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.training.trainer_protocol import PromptTraining

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

PACKAGES = ("nnunetv2-promise", "nnunetv2", "torch", "batchgenerators", "batchgeneratorsv2", "monai", "numpy")
_KNOBS = (
    "target",
    "placement",
    "boundary_weight",
    "object_points",
    "random_points",
    "correction_lr_factor",
    "click_weight",
    "zoom_share",
)


TRAINING_RECORD = "training_record.json"
"""In a fold's folder: which cases the model was trained and validated on, and how many steps it took."""


def note_training(trainer: nnUNetTrainer, *, seed: int, start: str) -> None:
    """Start or resume the record of a training: cases, seed, start weights, batch size; epochs are noted one by one.

    A resumed training keeps what is noted of earlier epochs.

    Args:
        trainer: At the start of its training.
        seed: Of the training.
        start: Which weights it starts from, in words.
    """
    train, validation = trainer.do_split()
    record: dict[str, Any] = {
        "train": sorted(map(str, train)),
        "validation": sorted(map(str, validation)),
        "seed": seed,
        "start": "given weights" if "-pretrained_weights" in sys.argv else start,
        "batch_size": trainer.batch_size * (distributed.get_world_size() if trainer.is_ddp else 1),
        "steps": [],
    }
    file = Path(trainer.output_folder, TRAINING_RECORD)
    if trainer.current_epoch and file.is_file():
        before = read_json(file)
        record |= {"start": before["start"], "steps": before["steps"][: trainer.current_epoch]}
    write_json(record, file)


def note_epoch(trainer: nnUNetTrainer, steps: int) -> None:
    """Add the steps of the current epoch to the record."""
    file = Path(trainer.output_folder, TRAINING_RECORD)
    record = read_json(file)
    write_json({**record, "steps": [*record["steps"][: trainer.current_epoch], steps]}, file)


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
        "- Do not run `nnUNetv2_apply_postprocessing` on its masks: keeping the largest component of a label deletes "
        "the other clicked objects.",
        "",
        "```bash",
        f"nnUNetv2_promise_predict -i IMAGES -o OUTPUT -d {plans.dataset_name} -c {trainer.configuration_name} "
        f"-tr {name} -p {plans.plans_name} -f {trainer.fold} --prompts prompts.json",
        "```",
        "",
    ]
    with atomic_path(Path(trainer.output_folder_base, "MODEL_CARD.md")) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
