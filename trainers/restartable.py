"""Trainings that repeat, and that a kill does not change."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_promise.training.seeding import seed_everything


class RestartableTraining(nnUNetTrainer):
    """nnU-Net's training, seeded, so that one that was killed and goes on equals an undisturbed one.

    Exactly so on a CPU with ``nnUNet_n_proc_DA=0``; elsewhere the order of sums differs and loading is a race.
    """

    seed: ClassVar[int] = 0

    def initialize(self) -> None:
        """Seed, then build."""
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

    def on_train_start(self) -> None:
        """Seed the data loading, then nnU-Net's start."""
        seed_everything(self.seed, self.fold, self.local_rank, "data", self.current_epoch)
        super().on_train_start()

    def on_epoch_start(self) -> None:
        """Seed by the epoch's number, so that a resumed training draws what an undisturbed one draws."""
        seed_everything(self.seed, self.fold, self.local_rank, self.current_epoch)
        super().on_epoch_start()

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint, written under another name and renamed, so that a kill leaves the previous one.

        Only the process that wrote it renames it: another one would not know whether it is complete.
        """
        super().save_checkpoint(filename + ".tmp")
        if self.local_rank == 0 and not self.disable_checkpointing:
            os.replace(filename + ".tmp", filename)
