"""Names for readers: the paper's for its methods, plain words for conditions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

METHODS = {
    "nnUNetTrainer": "nnU-Net",
    "UXNet3DTrainer": "3D UX-Net",
    "nnFormerTrainer": "nnFormer",
    "SwinUNETRTrainer": "Swin UNETR",
    "SAMAdapter3DTrainer": "3DSAM-adapter",
    "ProMISeTrainer": "ProMISe",
    "ProMISeTrainer_TwoAdapters": "3DSAM-adapter + two adapters",
    "ProMISeTrainer_UpConv": "3DSAM-adapter + two adapters + up-conv",
    "ProMISeTrainer_R": "ProMISe-R",
    "ProMISeTrainer_R_B": "ProMISe-R-B",
    "ProMISeTrainer_C": "ProMISe-C",
}
"""Trainer class -> name of its method in the paper."""

ABLATIONS = {
    "SAMAdapter3DTrainer": "baseline (3DSAM-adapter)",
    "ProMISeTrainer_TwoAdapters": "+ two adapters",
    "ProMISeTrainer_UpConv": "+ up-conv",
    "ProMISeTrainer_R": "ProMISe-R",
    "ProMISeTrainer_R_B": "ProMISe-R-B",
    "ProMISeTrainer_C": "ProMISe-C",
    "ProMISeTrainer": "ProMISe-C-B",
}
"""Trainer class -> row of the paper's Table 2, in its order."""

_LIMITED = re.compile(r"_limited$")
_EPOCHS = re.compile(r"_(\d+)epochs?$")


def method_class(trainer: str) -> str:
    """The class of a trainer without what says how long it trains: ``ProMISeTrainer_R`` of ``..._R_limited``."""
    return _EPOCHS.sub("", _LIMITED.sub("", trainer))


def trainer_name(trainer: str) -> str:
    """The paper's name of a trainer's method; a class that the paper does not know keeps its own.

    A number of epochs in the class's name stays visible; a common limit (``_limited``) does not, as the report states
    the budget once.
    """
    name = METHODS.get(method_class(trainer))
    if name is None:
        return trainer
    epochs = _EPOCHS.search(_LIMITED.sub("", trainer))
    if epochs is None:
        return name
    return f"{name} ({epochs.group(1)} epoch{'' if epochs.group(1) == '1' else 's'})"


def system_names(trainer_of: Mapping[str, str]) -> dict[str, str]:
    """Names of systems with the trainer's class replaced by its method's name.

    Args:
        trainer_of: System -> its trainer's class.

    Returns:
        System -> name. Systems that would share a name keep their own.
    """
    names = {}
    for system, trainer in trainer_of.items():
        # A system is named after the method's class also where a limited variant of it was trained.
        named = trainer if trainer in system else _LIMITED.sub("", trainer)
        names[system] = system.replace(named, trainer_name(named), 1)
    uses = Counter(names.values())
    return {system: name if uses[name] == 1 else system for system, name in names.items()}


def condition_name(condition: str) -> str:
    """A robustness condition in plain words; an unknown one keeps its name."""
    if outside := re.fullmatch(r"outside_([\d.]+)mm", condition):
        return f"{outside.group(1)} mm outside the object"
    if seed := re.fullmatch(r"seed(\d+)", condition):
        return f"click drawn with seed {seed.group(1)}"
    return {"border": "at the object's border", "wrong": "wrong click"}.get(condition, condition)
