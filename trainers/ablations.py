"""The rows of the paper's Table 2 between the baseline and ProMISe-C-B, which is ``ProMISeTrainer`` itself."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2_promise.trainers.promise import ProMISeTrainer


class SAMAdapter3DTrainer(ProMISeTrainer):
    """Baseline of Table 2, 3DSAM-adapter: one adapter, trilinear upsampling, no CNN encoder, no boundary loss."""

    architecture_overrides: ClassVar[dict[str, Any]] = {"adapters": 1, "upsampling": "trilinear", "cnn_encoder": None}
    boundary_weight = 0.0


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
