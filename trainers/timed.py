"""Trainings of a given number of minutes, so that methods of different speed can be compared fairly."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers.promise import ProMISeTrainer

if TYPE_CHECKING:
    Base = nnUNetTrainer
else:
    Base = object

MINUTES_VARIABLE = "nnUNet_promise_minutes"


class TimedTraining(Base):
    """Mixin: as many iterations as fit into ``nnUNet_promise_minutes``, with a full learning rate schedule.

    The first steps are timed; they count as training and decide how long an epoch is. Validation between epochs is kept
    short and comes out of the same minutes.
    """

    timed_epochs: ClassVar[int] = 20
    timed_val_iterations: ClassVar[int] = 2
    probe_steps: ClassVar[int] = 4

    def on_train_start(self) -> None:
        """Measure a step, then plan epochs and learning rates for the minutes."""
        seconds = 60 * minutes_from_environment()
        self.num_epochs = self.timed_epochs
        super().on_train_start()
        self.network.train()
        next_batch = self.dataloader_train
        self.train_step(next(next_batch))
        start = monotonic()
        for _ in range(self.probe_steps):
            self.train_step(next(next_batch))
        per_step = (monotonic() - start) / self.probe_steps
        steps = max(1.0, seconds / per_step - self.probe_steps - 1)
        # A validation step costs about a third of a training step.
        per_epoch = steps / self.timed_epochs - self.timed_val_iterations / 3
        self.num_iterations_per_epoch = max(1, round(per_epoch))
        self.num_val_iterations_per_epoch = self.timed_val_iterations
        self.optimizer, self.lr_scheduler = self.configure_optimizers()
        self.print_to_log_file(
            f"{seconds / 60:g} minutes: {self.num_epochs} epochs of {self.num_iterations_per_epoch} iterations, "
            f"{per_step:.2f} s each."
        )


def minutes_from_environment() -> float:
    """The minutes that a training may take.

    Raises:
        UserError: If the variable is not set or no positive number.
    """
    value = os.environ.get(MINUTES_VARIABLE, "")
    try:
        minutes = float(value)
    except ValueError:
        minutes = 0.0
    if not minutes > 0:
        raise UserError(f"The variable {MINUTES_VARIABLE} is '{value}'; set it to the minutes that training may take.")
    return minutes


class ProMISeTrainer_timed(TimedTraining, ProMISeTrainer):
    """``ProMISeTrainer`` for ``nnUNet_promise_minutes``."""


class nnUNetTrainer_timed(TimedTraining, nnUNetTrainer):
    """nnU-Net's own trainer for ``nnUNet_promise_minutes``."""
