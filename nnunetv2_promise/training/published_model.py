"""A published checkpoint as a model folder that nnU-Net's predictor and ours use."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunetv2_promise.dataset.environment import dataset_name_of, nnunet_folder
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.network_architectures.weights.published import PublishedCheckpoint, read_published_checkpoint
from nnunetv2_promise.planning.architectures import NETWORK_CLASS
from nnunetv2_promise.planning.fitting import Choice, FittedPatch
from nnunetv2_promise.planning.planner import CONFIGURATION, CT_SPACING_MM, ProMISePlanner

CHECKPOINT = Path("fold_0", "checkpoint_final.pth")
TRAINERS = {"ProMISe": "ProMISeTrainer", "3DSAM-adapter": "SAMAdapter3DTrainer"}
PAPER_EPOCHS = 200

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportRequest:
    """What ``nnUNetv2_promise_import_checkpoint`` was asked for.

    Attributes:
        checkpoint: The published file.
        dataset: Number or name of the dataset that the model is for; its labels and intensities are taken.
        model_folder: Where the model goes; must not hold one.
        configuration: Name of the configuration in the plans.
        plans: Name of the plans.
    """

    checkpoint: Path
    dataset: str
    model_folder: Path
    configuration: str
    plans: str


class PublishedPlanner(ProMISePlanner):
    """Plans what the published checkpoints were trained with: CT, 1 mm isotropic, the checkpoint's own patch.

    Args:
        dataset: Name of a planned dataset.
        plans_name: Name of the plans.
        options: Constructor options of the checkpoint's network.
    """

    def __init__(self, dataset: str, *, plans_name: str, options: Mapping[str, Any]) -> None:
        super().__init__(dataset, plans_name=plans_name)
        self.options = dict(options)

    def choose(self) -> Choice:
        """The published spacing, the checkpoint's patch, batch size 1."""
        fitted = FittedPatch(list(self.options["patch_size"]), activation_checkpointing=False)
        reasons = ["Network, patch and spacing are those of a published checkpoint."]
        return Choice([CT_SPACING_MM] * 3, fitted, batch_size=1, reasons=reasons)

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Only make the plans JSON: they belong to the model folder, not to the dataset."""
        recursive_fix_for_json_export(plans)

    def _architecture_plans(self, fitted: FittedPatch) -> dict[str, Any]:
        arch_kwargs = {**self.options, "activation_checkpointing": fitted.activation_checkpointing}
        return {"network_class_name": NETWORK_CLASS, "arch_kwargs": arch_kwargs, "_kw_requires_import": []}

    def _copy_dataset_json(self) -> None:
        """The model folder gets its own copy."""


def import_checkpoint(request: ImportRequest) -> None:
    """Write ``dataset.json``, ``plans.json`` and ``fold_0/checkpoint_final.pth``; all of them or none.

    Raises:
        UserError: If the file is not a published checkpoint, the dataset is not planned or is not one-channel CT, or
            the model folder holds a model already.
    """
    folder = request.model_folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; name a new folder with -o.")
    name = dataset_name_of(int(request.dataset)) if request.dataset.isdigit() else request.dataset
    dataset_json = _checked_dataset(name)
    published = read_published_checkpoint(request.checkpoint)
    plans = _plans(name, request, published)
    with atomic_path(folder / CHECKPOINT) as temporary:
        torch.save(_nnunet_checkpoint(published, plans, dataset_json, request.configuration), temporary)
    write_json(plans, folder / "plans.json")
    write_json(dataset_json, folder / "dataset.json")
    _logger.info("Wrote the model folder %s; predict with nnUNetv2_promise_predict -m %s.", folder, folder)


def _checked_dataset(name: str) -> dict[str, Any]:
    """The dataset's ``dataset.json``, if it is a planned one-channel CT dataset."""
    fingerprint = nnunet_folder("nnUNet_preprocessed") / name / "dataset_fingerprint.json"
    if not fingerprint.is_file():
        raise UserError(
            f"{fingerprint} does not exist; run nnUNetv2_promise_plan_and_preprocess for {name} first, since the model "
            "normalises by that dataset's intensities."
        )
    file = nnunet_folder("nnUNet_raw") / name / "dataset.json"
    content = read_json(file)
    channels = list(content.get("channel_names", {}).values())
    if [str(channel).casefold() for channel in channels] != ["ct"]:
        raise UserError(f"{file} has the channels {channels}; the published checkpoints segment CT with one channel.")
    return content


def _plans(name: str, request: ImportRequest, published: PublishedCheckpoint) -> dict[str, Any]:
    """Plans for the checkpoint's network on the dataset's intensities."""
    plans = PublishedPlanner(name, plans_name=request.plans, options=published.options).plan_experiment()
    plans["configurations"] = {request.configuration: plans["configurations"][CONFIGURATION]}
    return plans


def _nnunet_checkpoint(
    published: PublishedCheckpoint, plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str
) -> dict[str, Any]:
    """The weights as ``nnUNetTrainer.save_checkpoint`` lays them out, without the state of a training."""
    return {
        "network_weights": {f"network.{key}": value for key, value in published.state.items()},
        "optimizer_state": None,
        "grad_scaler_state": None,
        "current_epoch": PAPER_EPOCHS,
        "init_args": {"plans": plans, "configuration": configuration, "fold": 0, "dataset_json": dataset_json},
        "trainer_name": TRAINERS[published.method],
        "inference_allowed_mirroring_axes": None,
    }
