"""A trained model's folder, checked before its weights are used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise.dataset.environment import dataset_name_of
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.network_architectures.weights.weight_files import read_weight_file
from nnunetv2_promise.planning.nninteractive_folder import is_nninteractive_folder
from nnunetv2_promise.planning.plan_changes import check_plans_of_weights
from nnunetv2_promise.trainer_search import find_trainer

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

CHECKPOINT_KEYS = ("network_weights", "init_args", "trainer_name")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder.

    Attributes:
        path: Holds ``plans.json``, ``dataset.json`` and ``fold_X``.
        configuration: Name of a configuration of the plans.
        folds: Folds to average.
        checkpoint: File name in each fold's folder.
    """

    path: Path
    configuration: str
    folds: tuple[int | str, ...]
    checkpoint: str

    @cached_property
    def plans(self) -> dict[str, Any]:
        """Content of ``plans.json``."""
        return read_json(self.path / "plans.json")

    @cached_property
    def dataset_json(self) -> dict[str, Any]:
        """Content of ``dataset.json``."""
        return read_json(self.path / "dataset.json")

    @property
    def checkpoints(self) -> list[Path]:
        """One file for each fold."""
        return [self.path / f"fold_{fold}" / self.checkpoint for fold in self.folds]

    def prompt_kinds(self) -> tuple[str, ...]:
        """The kinds of prompts that the model takes; keys of ``prompts.kinds.KINDS``."""
        trainer = find_trainer(str(read_checkpoint(self.checkpoints[0]).get("trainer_name")))
        return getattr(trainer, "prompt_kinds", ("points",))

    def check_files(self) -> None:
        """Check that everything is there.

        Raises:
            UserError: If a file is missing or is not JSON, or the plans lack the configuration.
        """
        for checkpoint in self.checkpoints:
            if not checkpoint.is_file():
                present = sorted(
                    folder.name for folder in self.path.glob("fold_*") if (folder / self.checkpoint).is_file()
                )
                listed = ", ".join(present) or "none"
                raise UserError(
                    f"{checkpoint} does not exist; folds with this checkpoint: {listed}. Correct -f or -chk."
                )
        for name, key in (("plans.json", "configurations"), ("dataset.json", "labels")):
            if key not in read_json(self.path / name):
                raise UserError(f"{self.path / name} has no '{key}'; restore the file that training wrote.")
        if self.configuration not in self.plans["configurations"]:
            listed = ", ".join(self.plans["configurations"])
            raise UserError(f"-c {self.configuration}: {self.path / 'plans.json'} has the configurations {listed}.")

    def check_checkpoints(self) -> None:
        """Read each checkpoint without running pickled code, and compare it with the network that the plans describe.

        Raises:
            UserError: If one is corrupt, is not an nnU-Net checkpoint, was written by another trainer or with other
                plans, does not fit the plans, or holds code.
        """
        for path in self.checkpoints:
            content = read_checkpoint(path)
            missing = [key for key in CHECKPOINT_KEYS if key not in content]
            if missing:
                raise UserError(f"{path} has no '{missing[0]}'; it is not an nnU-Net checkpoint; name one with -chk.")
            trainer = find_trainer(str(content["trainer_name"]))
            if trainer is None:
                raise UserError(
                    f"{path} was written by {content['trainer_name']}, which is not found; add the folder of that "
                    "trainer to the variable nnUNet_extTrainer."
                )
            if not getattr(trainer, "prompt_kinds", ()):
                if is_nninteractive_folder(self.path):
                    raise UserError(
                        f"{self.path} is a model folder for nnInteractive's engine; use nnUNetv2_promise_predict, or "
                        "nnInteractive's own session and viewers, for it."
                    )
                raise UserError(
                    f"{path} was written by {content['trainer_name']}, which takes no prompts; "
                    "use nnUNetv2_predict for it, or the folder of a ProMISe model."
                )
            self._check_weights(path, content, trainer)
            check_plans_of_weights(
                content["init_args"],
                {"plans": self.plans, "dataset_json": self.dataset_json},
                self.configuration,
                checkpoint=str(path),
                folder=str(self.path),
            )

    def _check_weights(self, path: Path, content: dict[str, Any], trainer: type[nnUNetTrainer]) -> None:
        plans = PlansManager(self.plans)
        settings = plans.get_configuration(self.configuration)
        channels = determine_num_input_channels(plans, settings, self.dataset_json)
        heads = plans.get_label_manager(self.dataset_json).num_segmentation_heads
        with torch.device("meta"):
            expected = trainer.build_network_architecture(plans, settings, channels, heads).state_dict()
        weights = content["network_weights"]
        for name, tensor in expected.items():
            if name not in weights:
                raise UserError(f"{path} lacks the weight {name} of the network in plans.json; restore the folder.")
            if weights[name].shape != tensor.shape:
                raise UserError(
                    f"{path}: weight {name} has shape {tuple(weights[name].shape)}, the network in plans.json needs "
                    f"{tuple(tensor.shape)}; restore the folder."
                )


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, memory-mapped.

    Raises:
        UserError: If the file is corrupt, or holds objects that could run code when loaded.
    """
    content = read_weight_file(path, remedy="restore it, or train again", mapped=True)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a checkpoint; name another file.")
    return content


def open_model_folder(path: Path, *, configuration: str, folds: Sequence[str], checkpoint: str) -> ModelFolder:
    """A model folder whose files are there.

    Args:
        path: The folder.
        configuration: Name of a configuration.
        folds: Numbers of folds, or ``all``.
        checkpoint: File name in each fold's folder.

    Raises:
        UserError: If it does not exist or is incomplete.
    """
    numbers = tuple(int(fold) if fold.isdigit() else fold for fold in folds)
    wrong = [fold for fold in numbers if isinstance(fold, str) and fold != "all"]
    if wrong:
        raise UserError(f"-f {wrong[0]}: a fold is a number or 'all'.")
    if not path.is_dir():
        raise UserError(f"There is no model folder {path}; train the model, or correct -d, -c, -tr, -p or -m.")
    model = ModelFolder(path=path, configuration=configuration, folds=numbers, checkpoint=checkpoint)
    model.check_files()
    return model


def results_folder(dataset: str | None, *, trainer: str, plans: str, configuration: str) -> Path:
    """Where nnU-Net keeps a model: its folder in ``nnUNet_results``.

    Args:
        dataset: Number or name of the dataset.
        trainer: Name of the trainer.
        plans: Plans identifier.
        configuration: Name of the configuration.

    Raises:
        UserError: If the dataset is not named, or the variable is not set.
    """
    if dataset is None:
        raise UserError("Name the dataset with -d, or the model folder with -m.")
    results = os.environ.get("nnUNet_results")
    if not results:
        raise UserError("The variable nnUNet_results is not set; set it to nnU-Net's results folder, or use -m.")
    name = dataset_name_of(int(dataset)) if dataset.isdigit() else dataset
    return Path(results, name, f"{trainer}__{plans}__{configuration}")
