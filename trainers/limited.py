"""Trainings of a given number of minutes, patches or epochs, so that methods can be compared at equal cost."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import ClassVar

from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import distributed

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers import ablations, comparison, interactive, interactive_unet, kept_unet, promise
from nnunetv2_promise.trainers.restartable import RestartableTraining, trainers_of

MINUTES_VARIABLE = "nnUNet_promise_minutes"
PATCHES_VARIABLE = "nnUNet_promise_patches"
EPOCHS_VARIABLE = "nnUNet_promise_epochs"
VALIDATION_VARIABLE = "nnUNet_promise_final_validation"


@dataclass(frozen=True)
class Budget:
    """What a training may cost: minutes, patches that it sees, or epochs; the others are None."""

    minutes: float | None = None
    patches: int | None = None
    epochs: int | None = None


def budget_from_environment() -> Budget:
    """The budget that ``nnUNet_promise_minutes``, ``nnUNet_promise_patches`` or ``nnUNet_promise_epochs`` gives.

    Raises:
        UserError: If none or several are set, or the one that is set is not a positive number, whole but for minutes.
    """
    given = {
        name: os.environ.get(variable, "")
        for name, variable in (
            ("minutes", MINUTES_VARIABLE),
            ("patches", PATCHES_VARIABLE),
            ("epochs", EPOCHS_VARIABLE),
        )
    }
    given = {name: value for name, value in given.items() if value}
    if len(given) != 1:
        which = "several are set" if given else "none is set"
        raise UserError(
            f"{MINUTES_VARIABLE}, {PATCHES_VARIABLE} and {EPOCHS_VARIABLE}: {which}; set one of these "
            "variables to what training may take."
        )
    ((name, value),) = given.items()
    if name == "minutes":
        return Budget(minutes=_minutes(value))
    variable = PATCHES_VARIABLE if name == "patches" else EPOCHS_VARIABLE
    return Budget(**{name: _whole(value, variable, name)})


def _minutes(value: str) -> float:
    try:
        minutes = float(value)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise UserError(f"{MINUTES_VARIABLE} is '{value}'; set it to the minutes that training may take, such as 30.")
    return minutes


def _whole(value: str, variable: str, what: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value)):
        raise UserError(f"{variable} is '{value}'; set it to a whole number of {what}, 1 or more.")
    return int(value)


class OutOfTime(Exception):  # noqa: N818 - an end that is foreseen, no error
    """Leaves nnU-Net's loop over epochs."""


class LimitedTraining(RestartableTraining):
    """A training within a budget that the environment gives, with a full learning rate schedule.

    Epochs: that many, all else is the trainer's own.

    Patches: the number of epochs is fixed, each has its share of the steps that make up so many patches.

    Minutes: the number of epochs is fixed; their length follows the time that the last one took, so that training ends
    on time whatever else the machine does. Validation between epochs is kept short and comes out of the same minutes. A
    resumed training gets the share of the minutes that its remaining epochs are worth. No epoch starts once the time is
    over, so a training is late by one step at most, or by the first epoch's steps where these alone take longer.
    """

    save_every: int
    current_epoch: int

    timed_epochs: ClassVar[int] = 20
    timed_val_iterations: ClassVar[int] = 1
    first_epoch_steps: ClassVar[int] = 4
    minutes_worth_a_drawing: ClassVar[float] = 20

    def initialize(self) -> None:
        """Fix the number of epochs before the learning rate schedule is made; save at least each twentieth."""
        self.budget = budget_from_environment()
        self.num_epochs = self.budget.epochs or self.timed_epochs
        if self.budget.patches is not None:
            steps = math.ceil(self.budget.patches / self.configuration_manager.batch_size)
            self.num_epochs = min(self.timed_epochs, steps)
        self.save_every = min(self.save_every, max(1, self.num_epochs // 20))
        super().initialize()

    def length_in_words(self) -> str:
        """The budget, since the number of iterations follows it; else as usual."""
        if self.budget.patches is not None:
            return f"{self.budget.patches} patches"
        if self.budget.minutes is None:
            return super().length_in_words()
        return f"{self.budget.minutes:g} minutes"

    def run_training(self) -> None:
        """nnU-Net's loop, which ends early if there is no time for another epoch."""
        try:
            super().run_training()
        except OutOfTime:
            self.print_to_log_file(
                f"The time was over after {self.current_epoch} of {self.num_epochs} epochs: this machine is too slow "
                f"for {self.budget.minutes} minutes, the learning rate did not reach its end."
            )
            # The checkpoint says that nothing is left to do, or a restart would train for longer than allowed.
            self.current_epoch = self.num_epochs
            self.on_train_end()

    def on_train_start(self) -> None:
        """A short first epoch tells how fast this machine is."""
        super().on_train_start()
        if self.budget.minutes is None:
            return
        self.num_iterations_per_epoch = self.first_epoch_steps
        self.num_val_iterations_per_epoch = self.timed_val_iterations
        self.epoch_began: float | None = None
        self.deadline = monotonic() + 60 * self.budget.minutes * (1 - self.current_epoch / self.num_epochs)

    def on_epoch_start(self) -> None:
        """Fit the epoch into its share of the time that is left, or of the patches."""
        if self.budget.minutes is not None:
            self._fit_epoch(monotonic())
        if self.budget.patches is not None:
            processes = distributed.get_world_size() if self.is_ddp else 1
            steps = math.ceil(self.budget.patches / (self.batch_size * processes))
            begun, ended = (steps * epoch // self.num_epochs for epoch in (self.current_epoch, self.current_epoch + 1))
            self.num_iterations_per_epoch = max(1, ended - begun)
        super().on_epoch_start()

    def _fit_epoch(self, now: float) -> None:
        if self.epoch_began is not None:
            per_step = (now - self.epoch_began) / self.num_iterations_per_epoch
            share = (self.deadline - now) / (self.num_epochs - self.current_epoch)
            steps = self._agree(max(1, round(share / per_step)) if share > 0 else 0)
            if not steps:
                raise OutOfTime
            self.num_iterations_per_epoch = steps
        self.epoch_began = now

    def _agree(self, steps: int) -> int:
        """The first process's number: processes that take different numbers of steps wait for each other forever."""
        agreed = [steps]
        if self.is_ddp:
            distributed.broadcast_object_list(agreed, src=0)
        return agreed[0]

    def on_epoch_end(self) -> None:
        """As usual, but a short training draws its curves once, at its end: that takes seconds each time."""
        with _undrawn(self.logger) if self._draws_at_end else nullcontext():
            super().on_epoch_end()

    @property
    def _draws_at_end(self) -> bool:
        return self.budget.minutes is not None and self.budget.minutes < self.minutes_worth_a_drawing

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """As usual, unless ``nnUNet_promise_final_validation`` is 0: then somebody else scores the held-out cases."""
        if os.environ.get(VALIDATION_VARIABLE) != "0":
            super().perform_actual_validation(save_probabilities)

    def on_train_end(self) -> None:
        """Log how well the time was kept."""
        super().on_train_end()
        if self.budget.minutes is not None:
            minutes = self.budget.minutes + (monotonic() - self.deadline) / 60
            self.print_to_log_file(f"Trained {minutes:.2f} minutes of {self.budget.minutes:g}.")
        if self._draws_at_end and self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)


@contextmanager
def _undrawn(logger: MetaLogger) -> Iterator[None]:
    """nnU-Net's logger, which draws nothing while the block runs."""
    logger.plot_progress_png = lambda output_folder: None
    try:
        yield
    finally:
        del logger.plot_progress_png  # the class's own is left


class nnUNetTrainer_limited(LimitedTraining):
    """nnU-Net's own trainer within a budget, and seeded."""


def limited(trainer: type[nnUNetTrainer]) -> type[LimitedTraining]:
    """``NAME_limited`` of a trainer, as a class of this module, where pickle finds it."""
    members = {"__module__": __name__, "__doc__": f"``{trainer.__name__}`` within a budget."}
    return type(f"{trainer.__name__}_limited", (LimitedTraining, trainer), members)


_MODULES = (promise, ablations, interactive, interactive_unet, kept_unet, comparison)
globals().update({variant.__name__: variant for variant in map(limited, trainers_of(*_MODULES))})
