"""Trainers that ``nnUNetv2_train -tr`` finds."""

from nnunetv2_promise.trainers.ablations import (
    ProMISeTrainer_C,
    ProMISeTrainer_R,
    ProMISeTrainer_R_B,
    ProMISeTrainer_TwoAdapters,
    ProMISeTrainer_UpConv,
    SAMAdapter3DTrainer,
)
from nnunetv2_promise.trainers.comparison import SwinUNETRTrainer, UXNet3DTrainer, nnFormerTrainer
from nnunetv2_promise.trainers.interactive import ProMISeInteractiveTrainer
from nnunetv2_promise.trainers.interactive_unet import InteractiveUNetTrainer
from nnunetv2_promise.trainers.lengths import (
    InteractiveUNetTrainer_1epoch,
    InteractiveUNetTrainer_5epochs,
    InteractiveUNetTrainer_20epochs,
    InteractiveUNetTrainer_50epochs,
    InteractiveUNetTrainer_100epochs,
    ProMISeInteractiveTrainer_1epoch,
    ProMISeInteractiveTrainer_5epochs,
    ProMISeInteractiveTrainer_20epochs,
    ProMISeInteractiveTrainer_50epochs,
    ProMISeInteractiveTrainer_100epochs,
    ProMISeInteractiveTrainer_500epochs,
    ProMISeTrainer_1epoch,
    ProMISeTrainer_5epochs,
    ProMISeTrainer_20epochs,
    ProMISeTrainer_50epochs,
    ProMISeTrainer_100epochs,
    ProMISeTrainer_500epochs,
)
from nnunetv2_promise.trainers.limited import LIMITED_TRAINERS
from nnunetv2_promise.trainers.promise import ProMISeTrainer

__all__ = [
    "InteractiveUNetTrainer",
    "InteractiveUNetTrainer_1epoch",
    "InteractiveUNetTrainer_5epochs",
    "InteractiveUNetTrainer_20epochs",
    "InteractiveUNetTrainer_50epochs",
    "InteractiveUNetTrainer_100epochs",
    "ProMISeInteractiveTrainer",
    "ProMISeInteractiveTrainer_1epoch",
    "ProMISeInteractiveTrainer_5epochs",
    "ProMISeInteractiveTrainer_20epochs",
    "ProMISeInteractiveTrainer_50epochs",
    "ProMISeInteractiveTrainer_100epochs",
    "ProMISeInteractiveTrainer_500epochs",
    "ProMISeTrainer",
    "ProMISeTrainer_1epoch",
    "ProMISeTrainer_5epochs",
    "ProMISeTrainer_20epochs",
    "ProMISeTrainer_50epochs",
    "ProMISeTrainer_100epochs",
    "ProMISeTrainer_500epochs",
    "ProMISeTrainer_C",
    "ProMISeTrainer_R",
    "ProMISeTrainer_R_B",
    "ProMISeTrainer_TwoAdapters",
    "ProMISeTrainer_UpConv",
    "SAMAdapter3DTrainer",
    "SwinUNETRTrainer",
    "UXNet3DTrainer",
    "nnFormerTrainer",
    *LIMITED_TRAINERS,
]
globals().update(LIMITED_TRAINERS)
