"""The folder that a user exports as ``nnUNet_extTrainer``; it only re-exports trainers."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "nnUNet_extTrainer"


def trainer_folder() -> Path:
    """The absolute path of the folder to export as ``nnUNet_extTrainer``."""
    return Path(__file__).resolve().parent


def make_trainers_known() -> None:
    """Let nnU-Net find our trainers in this process and its children, whether or not the user exported the folder."""
    folder = str(trainer_folder())
    known = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    if folder not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, folder])
