"""Shorter and longer trainings.

An epoch of ProMISe is one random patch for each training case, one of a U-Net nnU-Net's 250 iterations.
"""

from __future__ import annotations

from nnunetv2_promise.trainers.interactive import ProMISeInteractiveTrainer
from nnunetv2_promise.trainers.interactive_unet import InteractiveUNetTrainer
from nnunetv2_promise.trainers.kept_unet import InteractiveUNetTrainer_KeepUNet
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


class ProMISeInteractiveTrainer_1epoch(ProMISeInteractiveTrainer):
    """One epoch, to see whether everything runs."""

    epochs = 1


class ProMISeInteractiveTrainer_5epochs(ProMISeInteractiveTrainer):
    """Five epochs, to see whether the loss falls."""

    epochs = 5


class ProMISeInteractiveTrainer_20epochs(ProMISeInteractiveTrainer):
    """Twenty epochs."""

    epochs = 20


class ProMISeInteractiveTrainer_50epochs(ProMISeInteractiveTrainer):
    """Fifty epochs."""

    epochs = 50


class ProMISeInteractiveTrainer_100epochs(ProMISeInteractiveTrainer):
    """A hundred epochs."""

    epochs = 100


class ProMISeInteractiveTrainer_500epochs(ProMISeInteractiveTrainer):
    """Five hundred epochs."""

    epochs = 500


class InteractiveUNetTrainer_1epoch(InteractiveUNetTrainer):
    """One epoch, to see whether everything runs."""

    epochs = 1


class InteractiveUNetTrainer_5epochs(InteractiveUNetTrainer):
    """Five epochs, to see whether the loss falls."""

    epochs = 5


class InteractiveUNetTrainer_20epochs(InteractiveUNetTrainer):
    """Twenty epochs."""

    epochs = 20


class InteractiveUNetTrainer_50epochs(InteractiveUNetTrainer):
    """Fifty epochs."""

    epochs = 50


class InteractiveUNetTrainer_100epochs(InteractiveUNetTrainer):
    """A hundred epochs."""

    epochs = 100


class InteractiveUNetTrainer_KeepUNet_0epochs(InteractiveUNetTrainer_KeepUNet):
    """No training: clicks count as they do before any, and an nnU-Net is clickable at once."""

    epochs = 0
