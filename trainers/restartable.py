"""Trainings that repeat, and that a kill does not change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed

from nnunetv2_promise.dataset.sources import require_same_sources
from nnunetv2_promise.dataset.splits import ensure_usual_splits, require_split
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.inference.model_folder import read_checkpoint
from nnunetv2_promise.planning.plan_changes import check_same_plans
from nnunetv2_promise.training.records import note_epoch, note_training
from nnunetv2_promise.training.seeding import seed_everything

SEED_VARIABLE = "nnUNet_promise_seed"
"""Environment variable with the training's seed, for several trainings of one fold."""


def seed_from_environment(default: int) -> int:
    """The seed that ``nnUNet_promise_seed`` gives, or the trainer's own.

    Raises:
        UserError: If it is not a whole number from 0.
    """
    value = os.environ.get(SEED_VARIABLE, "")
    if not value:
        return default
    if not (value.isascii() and value.isdigit()):
        raise UserError(f"{SEED_VARIABLE} is '{value}'; set it to a whole number, 0 or more.")
    return int(value)


def trainers_of(*modules: ModuleType) -> Iterator[type[nnUNetTrainer]]:
    """The trainers that modules define, not those that they import.

    Trainers have ``Trainer`` in their names, as nnU-Net's have; the classes that they are built from have not.
    """
    for module in modules:
        for item in list(vars(module).values()):
            if isinstance(item, type) and issubclass(item, nnUNetTrainer) and item.__module__ == module.__name__:
                if "Trainer" in item.__name__:
                    yield item


class RestartableTraining(nnUNetTrainer):
    """nnU-Net's training, seeded, so that one that was killed and resumed equals an undisturbed one.

    Exactly so on a CPU with ``nnUNet_n_proc_DA=0``; elsewhere the order of sums differs and loading is a race.
    """

    is_ddp: bool
    batch_size: int
    local_rank: int

    seed: int = 0
    start_weights: str = "random weights"
    _best_ema: float | None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp and device.type == "cpu":
            self.device = device  # nnU-Net gives each process a GPU

    def initialize(self) -> None:
        """Seed, then build."""
        self.seed = seed_from_environment(self.seed)
        seed_everything(self.seed, self.fold, "network")
        super().initialize()

    @staticmethod
    def get_training_transforms(*args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's augmentation, without its race between two ways to blur, which differ in the last bits."""
        transforms = nnUNetTrainer.get_training_transforms(*args, **kwargs)
        for step in transforms.transforms:
            if isinstance(getattr(step, "transform", None), GaussianBlurTransform):
                step.transform.benchmark = False
        return transforms

    def length_in_words(self) -> str:
        """How long the training is, for the model card."""
        return f"{self.num_epochs} epochs of {self.num_iterations_per_epoch} iterations"

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split, which must name every case of the dataset; usual folds are there whole before it looks."""
        dataset_class = self.dataset_class or infer_dataset_class(self.preprocessed_dataset_folder)
        cases = dataset_class.get_identifiers(self.preprocessed_dataset_folder)
        require_split(Path(self.preprocessed_dataset_folder_base), cases, self.fold)
        if self.fold != "all":
            ensure_usual_splits(Path(self.preprocessed_dataset_folder_base), cases)
        return super().do_split()

    def on_train_start(self) -> None:
        """Seed the data loading, then nnU-Net's start, which writes the plans; note which cases the model sees."""
        self._require_plans_of_folder()
        require_same_sources(Path(self.preprocessed_dataset_folder_base), self.configuration_manager.data_identifier)
        seed_everything(self.seed, self.fold, self.local_rank, "data", self.current_epoch)
        super().on_train_start()
        if self.local_rank == 0:
            note_training(self, seed=self.seed, start=self.start_weights)

    def on_epoch_start(self) -> None:
        """Seed by the epoch's number, so that a resumed training draws what an undisturbed one draws."""
        seed_everything(self.seed, self.fold, self.local_rank, self.current_epoch)
        super().on_epoch_start()

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """nnU-Net's pseudo Dice; an epoch that neither has nor predicts foreground repeats the average so far.

        Its Dice would be NaN, and with it every later average, so that no checkpoint would ever be the best again.
        """
        counts = ("tp_hard", "fp_hard", "fn_hard")
        if not self._sum_over_processes(sum(np.sum(output[name]) for output in val_outputs for name in counts)):
            averages = self.logger.get_value("ema_fg_dice", step=None)[: self.current_epoch]
            average = next((value for value in reversed(averages) if not np.isnan(value)), 0.0)
            # The Dice of these counts is the average.
            for name, value in zip(counts, (average, 1 - average, 1 - average), strict=True):
                val_outputs[0][name] = np.full_like(val_outputs[0][name], value, dtype=np.float64)
        super().on_validation_epoch_end(val_outputs)

    def _sum_over_processes(self, counts: Any) -> Any:
        """The sum of numbers or arrays over all training processes."""
        gathered = [counts]
        if self.is_ddp:
            gathered = [counts] * distributed.get_world_size()
            distributed.all_gather_object(gathered, counts)
        return np.sum(gathered, axis=0)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """nnU-Net's loading of a checkpoint of these very plans; a best average that is NaN is none."""
        self._require_same_plans(filename_or_checkpoint)
        super().load_checkpoint(filename_or_checkpoint)
        if self._best_ema is not None and np.isnan(self._best_ema):
            self._best_ema = None

    def _require_same_plans(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        checkpoint, name = filename_or_checkpoint, "The checkpoint"
        if isinstance(checkpoint, str):
            name = checkpoint
            checkpoint = read_checkpoint(name)  # nnU-Net reads it again, without being careful
        begun_with = checkpoint.get("init_args", {})
        check_same_plans(begun_with, self._plans_and_dataset, self.configuration_name, checkpoint=name)

    def _require_plans_of_folder(self) -> None:
        """All folds of a model share one ``plans.json``; what was trained with other plans must keep its own."""
        folder = Path(self.output_folder_base)
        trained = sorted(folder.glob("fold_*/checkpoint_*.pth"))
        files = {"plans": folder / "plans.json", "dataset_json": folder / "dataset.json"}
        if trained and all(file.is_file() for file in files.values()):
            begun_with = {name: read_json(file) for name, file in files.items()}
            check_same_plans(begun_with, self._plans_and_dataset, self.configuration_name, checkpoint=str(trained[0]))

    @property
    def _plans_and_dataset(self) -> dict[str, Any]:
        return {"plans": self.plans_manager.plans, "dataset_json": self.dataset_json}

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """nnU-Net's end of an epoch, whose steps are noted."""
        super().on_train_epoch_end(train_outputs)
        if self.local_rank == 0:
            note_epoch(self, len(train_outputs))

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint, written under another name and renamed, so that a kill leaves the previous one.

        Only the process that wrote it renames it: another one would not know whether it is complete.
        """
        super().save_checkpoint(filename + ".tmp")
        if self.local_rank == 0 and not self.disable_checkpointing:
            os.replace(filename + ".tmp", filename)
