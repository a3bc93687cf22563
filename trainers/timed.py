"""Trainings of a given number of minutes, so that methods of different speed can be compared fairly."""

from __future__ import annotations

import os
from time import monotonic
from typing import ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers.promise import ProMISeTrainer

MINUTES_VARIABLE = "nnUNet_promise_minutes"


class TimedTraining(nnUNetTrainer):
    """As many iterations as fit into ``nnUNet_promise_minutes``, with a full learning rate schedule.

    The number of epochs is fixed; their length follows the time that the last one took, so that training ends on time
    whatever else the machine does. Validation between epochs is kept short and comes out of the same minutes. A resumed
    training gets the share of the minutes that its remaining epochs are worth.
    """

    timed_epochs: ClassVar[int] = 20
    timed_val_iterations: ClassVar[int] = 2
    first_epoch_steps: ClassVar[int] = 4

    def initialize(self) -> None:
        """Fix the number of epochs before the learning rate schedule is made."""
        self.seconds = 60 * minutes_from_environment()
        self.num_epochs = self.timed_epochs
        super().initialize()

    def on_train_start(self) -> None:
        """A short first epoch tells how fast this machine is."""
        super().on_train_start()
        self.num_iterations_per_epoch = self.first_epoch_steps
        self.num_val_iterations_per_epoch = self.timed_val_iterations
        self.epoch_began: float | None = None
        self.deadline = monotonic() + self.seconds * (1 - self.current_epoch / self.num_epochs)

    def on_epoch_start(self) -> None:
        """Fit the epoch into its share of the time that is left."""
        super().on_epoch_start()
        now = monotonic()
        if self.epoch_began is not None:
            per_step = (now - self.epoch_began) / self.num_iterations_per_epoch
            share = (self.deadline - now) / (self.num_epochs - self.current_epoch)
            self.num_iterations_per_epoch = max(1, round(share / per_step))
        self.epoch_began = now

    def on_train_end(self) -> None:
        """Log how well the time was kept."""
        super().on_train_end()
        self.print_to_log_file(f"Trained {(self.seconds + monotonic() - self.deadline) / 60:.2f} minutes.")


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
    if not 0 < minutes < float("inf"):
        raise UserError(f"The variable {MINUTES_VARIABLE} is '{value}'; set it to the minutes that training may take.")
    return minutes


class ProMISeTrainer_timed(TimedTraining, ProMISeTrainer):
    """``ProMISeTrainer`` for ``nnUNet_promise_minutes``."""


class nnUNetTrainer_timed(TimedTraining):
    """nnU-Net's own trainer for ``nnUNet_promise_minutes``."""
