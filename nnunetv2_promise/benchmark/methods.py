"""The methods of a benchmark: trainers with their plans, and what others made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.errors import UserError


@dataclass(frozen=True)
class Method:
    """A trainer with its plans, or a folder of somebody's masks.

    Attributes:
        trainer: As the user named it, without ``_limited``.
        plans: Plans identifier.
        runs: The trainer class that is trained: the same, or its ``_limited`` variant under a budget.
        prompted: Whether it takes clicks.
        masks: Folder of masks that are scored as they are; then there is no training.
    """

    trainer: str
    plans: str
    runs: str
    prompted: bool
    masks: str | None = None

    @property
    def key(self) -> str:
        """Names the method's folder."""
        return f"{self.trainer}__{self.plans}"


def choose_methods(named: Sequence[str], *, prompted_plans: str, limited: bool) -> tuple[Method, ...]:
    """The methods that ``-tr`` names.

    Args:
        named: ``TRAINER`` or ``TRAINER:PLANS``. Without plans, prompted trainers use ``prompted_plans`` and all others
            nnU-Net's own ``nnUNetPlans``.
        prompted_plans: Plans identifier.
        limited: Whether the ``_limited`` variants are trained.

    Raises:
        UserError: If a trainer is unknown, has no ``_limited`` variant, or is named twice.
    """
    from nnunetv2_promise.trainer_search import find_trainer
    from nnunetv2_promise.trainers import ProMISeTrainer

    methods: list[Method] = []
    for text in named:
        trainer, _, plans = text.partition(":")
        found = find_trainer(trainer)
        if found is None:
            raise UserError(
                f"-tr {trainer}: nnU-Net finds no such trainer; check the name, and nnUNet_extTrainer for your own."
            )
        runs = f"{trainer}_limited" if limited else trainer
        if find_trainer(runs) is None:
            raise UserError(
                f"-tr {trainer}: there is no {runs}, which --minutes, --patches and --epochs need; leave them out, or "
                f"define it: 'class {runs}(LimitedTraining, {trainer})'."
            )
        prompted = issubclass(found, ProMISeTrainer)
        method = Method(trainer, plans or (prompted_plans if prompted else "nnUNetPlans"), runs, prompted)
        if method in methods:
            raise UserError(f"-tr {text} is named twice; name each trainer once.")
        methods.append(method)
    return tuple(methods)


def choose_masks(named: Sequence[str], plans: str = "masks") -> tuple[Method, ...]:
    """The folders of masks that ``--masks NAME=FOLDER`` names, as methods without a training.

    Raises:
        UserError: If an argument has no name or names no folder.
    """
    methods = []
    for text in named:
        name, _, folder = text.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not Path(folder).is_dir():
            raise UserError(f"--masks {text}: give NAME=FOLDER, a name of letters and digits and an existing folder.")
        methods.append(Method(name, plans, name, prompted=False, masks=str(Path(folder).absolute())))
    return tuple(methods)
