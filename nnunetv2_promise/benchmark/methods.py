"""The methods of a benchmark: trainers with their plans, and what others made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunetv2_promise.errors import UserError

NNINTERACTIVE = "nnInteractive"
"""Stands for the plans of a model folder that others made."""


@dataclass(frozen=True)
class Method:
    """A trainer with its plans, or what somebody else made: a folder of masks, or a model folder of nnInteractive.

    Attributes:
        trainer: As the user named it, without ``_limited``.
        plans: Plans identifier.
        runs: The trainer class that is trained: the same, or its ``_limited`` variant under a budget.
        prompted: Whether it takes clicks.
        masks: Folder of masks that are scored as they are.
        engine: Whether nnInteractive's engine runs it.
        model: Model folder that is used as it is.
        start: ``TRAINER:PLANS`` of a model without clicks that it starts from, trained for half of the budget.
    """

    trainer: str
    plans: str
    runs: str
    prompted: bool
    masks: str | None = None
    engine: bool = False
    model: str | None = None
    start: str | None = None

    @property
    def origin(self) -> Method | None:
        """The method whose model it starts from."""
        if self.start is None:
            return None
        trainer, _, plans = self.start.partition(":")
        return Method(trainer, plans, f"{trainer}_limited", prompted=False)

    @property
    def key(self) -> str:
        """Names the method's folder."""
        return f"{self.trainer}__{self.plans}"

    @property
    def trained(self) -> bool:
        """Whether the benchmark trains it."""
        return self.masks is None and self.model is None


def choose_methods(named: Sequence[str], *, prompted_plans: str, limited: bool) -> tuple[Method, ...]:
    """The methods that ``-tr`` names.

    Args:
        named: ``TRAINER`` or ``TRAINER:PLANS``. Without plans, prompted trainers use ``prompted_plans``, clickable
            U-Nets ``InteractiveUNetPlans`` and all others nnU-Net's own ``nnUNetPlans``.
        prompted_plans: Plans identifier.
        limited: Whether the ``_limited`` variants are trained.

    Raises:
        UserError: If a trainer is unknown, has no ``_limited`` variant, or is named twice.
    """
    methods: list[Method] = []
    for text in named:
        method = _method(text, option="-tr", prompted_plans=prompted_plans, limited=limited)
        if method in methods:
            raise UserError(f"-tr {text} is named twice; name each trainer once.")
        methods.append(method)
    return tuple(methods)


def start_clickable_from(named: str, methods: Sequence[Method], *, limited: bool) -> tuple[Method, ...]:
    """The methods; each clickable U-Net among them starts from what ``--start_from`` names.

    Args:
        named: ``TRAINER`` or ``TRAINER:PLANS`` without clicks. Without plans, those of the clickable U-Net.
        methods: From ``choose_methods``.
        limited: Whether trainings have a budget; the start and the clickable U-Net get half of it each.

    Raises:
        UserError: If no method is a clickable U-Net, there is no budget to halve, or the trainer is unknown, has no
            ``_limited`` variant or takes clicks itself.
    """
    if not any(method.engine for method in methods):
        raise UserError("--start_from is about clickable U-Nets, and -tr names none; add InteractiveUNetTrainer.")
    if not limited:
        raise UserError(
            "--start_from halves a budget, so it needs --minutes, --patches or --epochs; without one, train with "
            "'nnUNetv2_train ... -pretrained_weights' first: the benchmark takes the model that it finds."
        )
    origin = _method(named, option="--start_from", prompted_plans="", limited=True)
    if origin.prompted:
        raise UserError(f"--start_from {origin.trainer} takes clicks itself; name a trainer such as nnUNetTrainer.")
    own_plans = named.partition(":")[2]
    return tuple(
        replace(method, start=f"{origin.trainer}:{own_plans or method.plans}") if method.engine else method
        for method in methods
    )


def _method(text: str, *, option: str, prompted_plans: str, limited: bool) -> Method:
    from nnunetv2_promise.trainer_search import find_trainer
    from nnunetv2_promise.trainers import InteractiveUNetTrainer, ProMISeTrainer

    trainer, _, plans = text.partition(":")
    found = find_trainer(trainer)
    if found is None:
        raise UserError(
            f"{option} {trainer}: nnU-Net finds no such trainer; check the name, and nnUNet_extTrainer for your own."
        )
    runs = f"{trainer}_limited" if limited else trainer
    if find_trainer(runs) is None:
        raise UserError(
            f"{option} {trainer}: there is no {runs}, which --minutes, --patches and --epochs need; leave them out, or "
            f"define it: 'class {runs}(LimitedTraining, {trainer})'."
        )
    promise, engine = issubclass(found, ProMISeTrainer), issubclass(found, InteractiveUNetTrainer)
    usual = prompted_plans if promise else "InteractiveUNetPlans" if engine else "nnUNetPlans"
    return Method(trainer, plans or usual, runs, prompted=promise or engine, engine=engine)


def choose_masks(named: Sequence[str]) -> tuple[Method, ...]:
    """The folders of masks that ``--masks NAME=FOLDER`` names, as methods without a training.

    Raises:
        UserError: If an argument has no name or names no folder.
    """
    return tuple(
        Method(name, "masks", name, prompted=False, masks=str(folder)) for name, folder in _folders("--masks", named)
    )


def choose_models(named: Sequence[str]) -> tuple[Method, ...]:
    """The model folders that ``--nninteractive [NAME=]FOLDER`` names, as methods without a training.

    Raises:
        UserError: If an argument names no folder that nnInteractive's engine loads, or one with several folds.
    """
    from nnunetv2_promise.planning.nninteractive_folder import INFERENCE_INFO, fold_folder, is_nninteractive_folder

    named = [text if "=" in text else f"{Path(text).absolute().name}={text}" for text in named]
    methods = []
    for name, folder in _folders("--nninteractive", named):
        if not is_nninteractive_folder(folder):
            raise UserError(
                f"--nninteractive {folder} has no {INFERENCE_INFO}, so it is not a model folder of nnInteractive; name "
                "one that has this file, plans.json, dataset.json and one fold."
            )
        fold_folder(folder)
        methods.append(Method(name, NNINTERACTIVE, name, prompted=True, engine=True, model=str(folder)))
    return tuple(methods)


def _folders(option: str, named: Sequence[str]) -> list[tuple[str, Path]]:
    found = []
    for text in named:
        name, _, folder = text.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not Path(folder).is_dir():
            raise UserError(f"{option} {text}: give NAME=FOLDER, a name of letters and digits and an existing folder.")
        found.append((name, Path(folder).absolute()))
    return found
