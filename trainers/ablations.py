"""The rows of the paper's Table 2 between the baseline and ProMISe-C-B, which is ``ProMISeTrainer`` itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunetv2_promise.trainers.promise import ProMISeTrainer


class SAMAdapter3DTrainer(ProMISeTrainer):
    """Baseline of Table 2, 3DSAM-adapter, trained as its published code does.

    One adapter, trilinear upsampling, no CNN encoder, no boundary loss; 10 points from the object and 20 from anywhere,
    a learning rate that falls linearly to 1 % over 500 epochs.
    """

    epochs = 500
    random_points = 20
    last_learning_rate: ClassVar[float] = 0.01
    architecture_overrides: ClassVar[dict[str, Any]] = {"adapters": 1, "upsampling": "trilinear", "cnn_encoder": None}
    boundary_weight = 0.0

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW; the learning rate falls linearly towards a hundredth of its start, which it would reach at the end."""
        optimizer, _ = super().configure_optimizers()
        steps = self.num_epochs / (1 - self.last_learning_rate)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, steps, exponent=1.0)


class ProMISeTrainer_TwoAdapters(ProMISeTrainer):
    """Table 2, "+ two adapters"."""

    architecture_overrides: ClassVar[dict[str, Any]] = {"adapters": 2, "upsampling": "trilinear", "cnn_encoder": None}
    boundary_weight = 0.0


class ProMISeTrainer_UpConv(ProMISeTrainer):
    """Table 2, "+ up-conv"."""

    architecture_overrides: ClassVar[dict[str, Any]] = {"adapters": 2, "upsampling": "transposed", "cnn_encoder": None}
    boundary_weight = 0.0


class ProMISeTrainer_R(ProMISeTrainer):
    """Table 2, ProMISe-R: CNN features added as a residual, no boundary loss."""

    architecture_overrides: ClassVar[dict[str, Any]] = {"cnn_encoder": "residual"}
    boundary_weight = 0.0


class ProMISeTrainer_R_B(ProMISeTrainer):
    """Table 2, ProMISe-R-B: CNN features added as a residual, with boundary loss."""

    architecture_overrides: ClassVar[dict[str, Any]] = {"cnn_encoder": "residual"}


class ProMISeTrainer_C(ProMISeTrainer):
    """Table 2, ProMISe-C: CNN features concatenated, no boundary loss."""

    boundary_weight = 0.0
