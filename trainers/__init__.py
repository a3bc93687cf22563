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
from nnunetv2_promise.trainers.lengths import (
    ProMISeTrainer_1epoch,
    ProMISeTrainer_5epochs,
    ProMISeTrainer_20epochs,
    ProMISeTrainer_50epochs,
    ProMISeTrainer_100epochs,
    ProMISeTrainer_500epochs,
)
from nnunetv2_promise.trainers.promise import ProMISeTrainer
from nnunetv2_promise.trainers.timed import ProMISeTrainer_timed, nnUNetTrainer_timed

__all__ = [
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
    "ProMISeTrainer_timed",
    "SAMAdapter3DTrainer",
    "SwinUNETRTrainer",
    "UXNet3DTrainer",
    "nnFormerTrainer",
    "nnUNetTrainer_timed",
]
