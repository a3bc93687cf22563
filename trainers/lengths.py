"""Shorter and longer trainings; an epoch is one random patch for each training case."""

from __future__ import annotations

from nnunetv2_promise.trainers.promise import ProMISeTrainer


class ProMISeTrainer_1epoch(ProMISeTrainer):
    """One epoch, to see whether everything runs."""

    epochs = 1


class ProMISeTrainer_5epochs(ProMISeTrainer):
    """Five epochs, to see whether the loss falls."""

    epochs = 5


class ProMISeTrainer_20epochs(ProMISeTrainer):
    """Twenty epochs."""

    epochs = 20


class ProMISeTrainer_50epochs(ProMISeTrainer):
    """Fifty epochs."""

    epochs = 50


class ProMISeTrainer_100epochs(ProMISeTrainer):
    """A hundred epochs."""

    epochs = 100


class ProMISeTrainer_500epochs(ProMISeTrainer):
    """As long as the published checkpoints were trained."""

    epochs = 500
