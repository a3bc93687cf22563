"""Fingerprint, plan and preprocess a dataset through nnU-Net's Python API."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)

from nnunetv2_promise.dataset.environment import nnunet_folder
from nnunetv2_promise.dataset.sources import forget_sources, note_sources, stamp_of_dataset
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.planning.fingerprint import ObjectFingerprintExtractor
from nnunetv2_promise.planning.interactive_planners import ProMISeInteractivePlanner, ProMISeInteractiveTinyPlanner
from nnunetv2_promise.planning.planner import CONFIGURATION, ProMISePlanner
from nnunetv2_promise.planning.tiny_planner import ProMISeTinyPlanner
from nnunetv2_promise.planning.unet_planners import (
    InteractiveUNetPlanner,
    InteractiveUNetResEncLPlanner,
    InteractiveUNetResEncMPlanner,
    InteractiveUNetResEncXLPlanner,
    InteractiveUNetTinyPlanner,
    UNetPlanning,
)

_logger = logging.getLogger(__name__)

PLANNERS: dict[str, type[ProMISePlanner] | type[UNetPlanning]] = {
    planner.__name__: planner
    for planner in (
        ProMISePlanner,
        ProMISeTinyPlanner,
        ProMISeInteractivePlanner,
        ProMISeInteractiveTinyPlanner,
        InteractiveUNetPlanner,
        InteractiveUNetTinyPlanner,
        InteractiveUNetResEncMPlanner,
        InteractiveUNetResEncLPlanner,
        InteractiveUNetResEncXLPlanner,
    )
}


def extract_fingerprint(dataset_id: int, *, num_processes: int, clean: bool = False) -> None:
    """Extract the fingerprint, or reuse the one that was made of this very dataset.

    Args:
        dataset_id: nnU-Net's number of the dataset.
        num_processes: Number of worker processes.
        clean: Extract again in any case.

    Raises:
        UserError: If a worker process dies.
    """
    try:
        extract_fingerprint_dataset(dataset_id, ObjectFingerprintExtractor, num_processes, clean=clean, verbose=False)
    except RuntimeError as error:
        raise _worker_error("extracting the fingerprint", error) from error


def plan(
    dataset_id: int,
    planner: str,
    *,
    gpu_memory_target_gb: float | None = None,
    plans_name: str | None = None,
    target_spacing_mm: Sequence[float] | None = None,
    start_from: Path | None = None,
) -> str:
    """Plan and write the plans file.

    Args:
        dataset_id: nnU-Net's number of the dataset.
        planner: A name in ``PLANNERS``.
        gpu_memory_target_gb: GPU memory for training; the planner's default if None.
        plans_name: Name of the plans; the planner's default if None.
        target_spacing_mm: (z, y, x) spacing instead of the planned one.
        start_from: Model folder of nnInteractive's form whose architecture, patch and weights are taken over.

    Returns:
        The name of the plans.

    Raises:
        UserError: As ``ProMISePlanner`` and ``UNetPlanning``, or if ``start_from`` is given to another planner.
    """
    planner_class: Any = PLANNERS[planner]
    if start_from is not None:
        if not issubclass(planner_class, UNetPlanning):
            raise UserError(f"--start_from needs a planner of U-Nets, not {planner}; use -pl InteractiveUNetPlanner.")
        planner_class = partial(planner_class, start_from=start_from)
    _, identifier = plan_experiment_dataset(
        dataset_id,
        planner_class,
        gpu_memory_target_in_gb=gpu_memory_target_gb,
        overwrite_plans_name=plans_name,
        overwrite_target_spacing=None if target_spacing_mm is None else tuple(target_spacing_mm),
    )
    return identifier


def preprocess(dataset_name: str, plans_name: str, *, num_processes: int) -> Path:
    """Preprocess the training cases with nnU-Net's preprocessor.

    nnU-Net preprocesses into a folder that takes its final name when all cases are done, so that an interrupted run
    never looks like a finished one.

    Returns:
        The folder of the preprocessed cases.

    Raises:
        UserError: If a worker process dies.
    """
    folder = nnunet_folder("nnUNet_preprocessed") / dataset_name
    plans = read_json(folder / f"{plans_name}.json")
    configuration = plans["configurations"][CONFIGURATION]
    target = folder / configuration["data_identifier"]
    partial_name = f".partial_{plans_name}"
    partial_data = folder / f".partial_{configuration['data_identifier']}"
    partial_plans = folder / f"{partial_name}.json"
    configuration["data_identifier"] = partial_data.name
    stamp = stamp_of_dataset(nnunet_folder("nnUNet_raw") / dataset_name)
    try:
        write_json(plans, partial_plans)
        # Data of earlier plans must not meet the new ones.
        shutil.rmtree(target, ignore_errors=True)
        forget_sources(folder, target.name)
        with _without_a_line_per_copied_label():
            preprocess_dataset(_number(dataset_name), partial_name, (CONFIGURATION,), (num_processes,))
        partial_data.rename(target)
        note_sources(folder, target.name, stamp)
    except RuntimeError as error:
        raise _worker_error("preprocessing", error) from error
    finally:
        partial_plans.unlink(missing_ok=True)
        shutil.rmtree(partial_data, ignore_errors=True)
    _logger.info("Wrote %s.", target)
    return target


@contextmanager
def _without_a_line_per_copied_label() -> Iterator[None]:
    """Hold back INFO: nnU-Net copies labels with a function that logs each of them to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


def _number(dataset_name: str) -> int:
    return int(dataset_name[len("Dataset") :][:3])


def _worker_error(activity: str, error: RuntimeError) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    return UserError(
        f"nnU-Net stopped while {activity} ({reason}); look at the lines above; if memory ran out, use a smaller -np."
    )
