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
from nnunetv2_promise.trainers.limited import (
    ProMISeTrainer_C_limited,
    ProMISeTrainer_limited,
    ProMISeTrainer_R_B_limited,
    ProMISeTrainer_R_limited,
    ProMISeTrainer_TwoAdapters_limited,
    ProMISeTrainer_UpConv_limited,
    SAMAdapter3DTrainer_limited,
    SwinUNETRTrainer_limited,
    UXNet3DTrainer_limited,
    nnFormerTrainer_limited,
    nnUNetTrainer_limited,
)
from nnunetv2_promise.trainers.promise import ProMISeTrainer

__all__ = [
    "ProMISeTrainer",
    "ProMISeTrainer_1epoch",
    "ProMISeTrainer_5epochs",
    "ProMISeTrainer_20epochs",
    "ProMISeTrainer_50epochs",
    "ProMISeTrainer_100epochs",
    "ProMISeTrainer_500epochs",
    "ProMISeTrainer_C",
    "ProMISeTrainer_C_limited",
    "ProMISeTrainer_R",
    "ProMISeTrainer_R_B",
    "ProMISeTrainer_R_B_limited",
    "ProMISeTrainer_R_limited",
    "ProMISeTrainer_TwoAdapters",
    "ProMISeTrainer_TwoAdapters_limited",
    "ProMISeTrainer_UpConv",
    "ProMISeTrainer_UpConv_limited",
    "ProMISeTrainer_limited",
    "SAMAdapter3DTrainer",
    "SAMAdapter3DTrainer_limited",
    "SwinUNETRTrainer",
    "SwinUNETRTrainer_limited",
    "UXNet3DTrainer",
    "UXNet3DTrainer_limited",
    "nnFormerTrainer",
    "nnFormerTrainer_limited",
    "nnUNetTrainer_limited",
]
