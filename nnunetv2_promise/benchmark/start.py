"""The model without clicks that a clickable U-Net starts from, where the benchmark trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2_promise.benchmark.layout import BenchmarkLayout, budget_variables
from nnunetv2_promise.benchmark.leakage import check_start
from nnunetv2_promise.benchmark.measure import prefix
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.settings import Training
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.planning.unet_settings import plain_unet, prompt_form
from nnunetv2_promise.steps import Step


def start_step(layout: BenchmarkLayout, method: Method, training: Training) -> Step:
    """Train what a training starts from, on the same cases, for half of the budget.

    Every unit has a start of its own, so that units do not wait for each other.

    Raises:
        UserError: If the budget cannot be halved.
        ValueError: If the method does not start from a model.
    """
    settings, folder = layout.settings, layout.start_fold(method, training)
    if method.origin is None:
        raise ValueError(f"{method.key} starts from no model")
    train = ("nnUNetv2_train", str(settings.dataset_id), settings.configuration, str(training.fold))
    options = ("-tr", method.origin.runs, "-p", method.origin.plans, "-device", settings.device)

    def begun() -> bool:
        if not has_checkpoint(folder):
            return False
        check_start(layout, method, training)
        return True

    return Step(
        "start",
        f"Train {method.origin.trainer} to start from",
        (*train, *options),
        resume=("--c",),
        resumable=begun,
        already=lambda: (folder / "checkpoint_final.pth").is_file(),
        needs=(),
        prefix=prefix(layout.start_cost(method, training)),
        environment={
            "nnUNet_results": str(layout.start_results(method, training)),
            **budget_variables(settings.half_budgets()[0]),
        },
    )


def has_checkpoint(fold_folder: Path) -> bool:
    """Whether a training has got as far as a checkpoint."""
    return any((fold_folder / f"checkpoint_{kind}.pth").is_file() for kind in ("final", "latest", "best"))


def check_architectures(layout: BenchmarkLayout) -> None:
    """Check that every clickable U-Net has the layers of what it starts from.

    Raises:
        UserError: If one has not; nnU-Net would find out after half of the budget.
    """
    for method in layout.settings.methods:
        if method.origin is None:
            continue
        own, other = (_configuration(layout, plans) for plans in (method.plans, method.origin.plans))
        if prompt_form(own) == "input":
            raise UserError(
                f"--start_from {method.start}: {method.plans} put interactions beside the image, where an nnU-Net has "
                "nothing; plan with InteractiveUNetPlanner without its --start_from."
            )
        if plain_unet(own) != plain_unet(other):
            raise UserError(
                f"--start_from {method.start}: {method.origin.plans} and {method.plans} plan different networks, so "
                f"{method.trainer} cannot start from it; leave the plans out, {method.plans} then serve both."
            )


def _configuration(layout: BenchmarkLayout, plans: str) -> dict[str, Any]:
    return read_json(layout.preprocessed / f"{plans}.json")["configurations"][layout.settings.configuration]
