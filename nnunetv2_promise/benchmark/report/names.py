"""Names for readers: the paper's for its methods, plain words for conditions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import pandas as pd

from nnunetv2_promise.benchmark.report.grouping import plain_systems
from nnunetv2_promise.benchmark.results import BenchmarkResults

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
    "ProMISeInteractiveTrainer": "ProMISe interactive",
    "InteractiveUNetTrainer": "interactive U-Net",
    "InteractiveUNetTrainer_KeepUNet": "interactive U-Net, nnU-Net kept",
}
"""Trainer class -> name of its method, the paper's where it has one."""

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

ENDS = {"nearest": ", cut down by clicks", "crop": ", on crops around clicks"}
"""Condition -> what stands behind a method's name where it is not about a number of clicks."""

_LIMITED = re.compile(r"_limited$")
_EPOCHS = re.compile(r"_(\d+)epochs?$")


def method_class(trainer: str) -> str:
    """The class of a trainer without what says how long it trains: ``ProMISeTrainer_R`` of ``..._R_limited``."""
    return _EPOCHS.sub("", _LIMITED.sub("", trainer))


def trainer_name(trainer: str, names: Mapping[str, str] = METHODS) -> str:
    """The name of a trainer's method; a class that is not listed keeps its own.

    A number of epochs in the class's name stays visible; a common limit (``_limited``) does not, as the report states
    the budget once.
    """
    name = names.get(method_class(trainer))
    if name is None:
        return trainer
    epochs = _EPOCHS.search(_LIMITED.sub("", trainer))
    if epochs is None:
        return name
    return f"{name} ({epochs.group(1)} epoch{'' if epochs.group(1) == '1' else 's'})"


def method_names(systems: pd.DataFrame, names: Mapping[str, str] = METHODS) -> dict[tuple[str, str], str]:
    """(trainer, plans) -> name; methods that would share one, such as two plans of a trainer, add their plans.

    Args:
        systems: With the columns ``trainer`` and ``plans``.
        names: Trainer class -> name.
    """
    methods = list(systems[["trainer", "plans"]].drop_duplicates().itertuples(index=False, name=None))
    uses = Counter(trainer_name(trainer, names) for trainer, _ in methods)
    found = {}
    for trainer, plans in methods:
        name = trainer_name(trainer, names)
        found[trainer, plans] = name if uses[name] == 1 else f"{name} ({plans})"
    return found


def system_names(results: BenchmarkResults) -> dict[str, str]:
    """System -> its method's name with its clicks, such as ``"nnU-Net + 1 click"``; no two are equal."""
    systems = plain_systems(results)
    methods = method_names(systems)
    names = {}
    for system, row in systems.iterrows():
        clicks = clicks_in_words(row["points"])
        joint = {"none": "", "nearest": f" + {clicks}", "crop": f", crop around {clicks}"}
        end = joint.get(row["condition"], f", {clicks}")
        names[str(system)] = methods[row["trainer"], row["plans"]] + end
    uses = Counter(names.values())
    return {system: name if uses[name] == 1 else system for system, name in names.items()}


def clicks_in_words(number: int) -> str:
    """``"1 click"``, ``"10 clicks"``."""
    return f"{number} click{'' if number == 1 else 's'}"


def condition_name(condition: str) -> str:
    """A robustness condition in plain words; an unknown one keeps its name."""
    if outside := re.fullmatch(r"outside_([\d.]+)mm", condition):
        return f"{outside.group(1)} mm outside the object"
    if seed := re.fullmatch(r"seed(\d+)", condition):
        return f"click drawn with seed {seed.group(1)}"
    return {"border": "at the object's border", "wrong": "wrong click"}.get(condition, condition)
