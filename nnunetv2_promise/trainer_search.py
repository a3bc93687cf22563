"""Which trainers nnU-Net finds: its own, the user's, and ours through the variable ``nnUNet_extTrainer``."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

VARIABLE = "nnUNet_extTrainer"


def trainer_folder() -> Path:
    """The absolute path of the folder to export as ``nnUNet_extTrainer``."""
    return Path(__file__).resolve().parent / "nnunet_trainers"


def trainer_search_path() -> str:
    """The value of ``nnUNet_extTrainer`` with which nnU-Net finds the user's trainers and ours."""
    folder = str(trainer_folder())
    known = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    return os.pathsep.join(known if folder in known else [*known, folder])


def make_trainers_known() -> None:
    """Let nnU-Net find our trainers in this process and its children, whether or not the user exported the folder."""
    os.environ[VARIABLE] = trainer_search_path()


def find_trainer(name: str) -> type[nnUNetTrainer] | None:
    """The trainer that ``nnUNetv2_train -tr NAME`` would use: nnU-Net's, the user's or ours; None if there is none.

    Our folder is searched first, since nnU-Net imports all of its own trainers before it looks anywhere else.
    """
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    make_trainers_known()
    _wake_lazy_modules()
    folder = str(trainer_folder())
    with contextlib.redirect_stdout(io.StringIO()):
        ours = recursive_find_python_class(
            folder, name, None, base_folder=folder, cleanup_imports_from_base_folder=True
        )
        if ours is not None:
            return ours
        try:
            return recursive_find_trainer_class_by_name(name)
        except (RuntimeError, AssertionError):
            return None


def _wake_lazy_modules() -> None:
    """Ask every loaded module for its file, so that lazy ones import now what they import when they are asked.

    nnU-Net asks them while it walks through ``sys.modules``, and a module that is added meanwhile ends the walk with a
    ``RuntimeError``, before any trainer is found.
    """
    before = -1
    while before != len(sys.modules):
        before = len(sys.modules)
        for module in list(sys.modules.values()):
            if getattr(module, "__file__", None) is None:
                getattr(module, "__path__", None)
