"""Checking the images and label maps of a dataset before anything is made from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nnunetv2_promise.dataset.environment import FOLDS
from nnunetv2_promise.dataset.msd import Case
from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import geometry_difference
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry, read_header, read_label_map

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseReport:
    """What the check of one case found.

    Attributes:
        name: The case identifier.
        problem: One sentence, or None.
        label_values: Values in the label map, background included.
        is_4d: Whether one file holds all channels.
    """

    name: str
    problem: str | None
    label_values: tuple[int, ...] = ()
    is_4d: bool = False


def check_cases(
    cases: Sequence[Case], *, channels: int, label_values: Sequence[int], num_processes: int
) -> list[CaseReport]:
    """Check every case: readable, 3D, channels, equal grids, no NaN, only declared and integral label values.

    Args:
        cases: The training cases.
        channels: The declared number of image channels.
        label_values: The declared label values, background included.
        num_processes: Number of worker processes.

    Returns:
        One report per case, none with a problem.

    Raises:
        UserError: The first problem, and how many more cases have one.
    """
    check = partial(check_case, channels=channels, label_values=tuple(label_values))
    reports = map_cases(check, cases, num_processes=num_processes, description="Checking cases")
    problems = [report.problem for report in reports if report.problem]
    if problems:
        more = f" ({len(problems) - 1} more cases have problems.)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    _warn_of_few_cases(len(cases))
    return reports


def _warn_of_few_cases(number: int) -> None:
    if number >= FOLDS:
        return
    split = "" if number < 3 else ", or write a split first with nnUNetv2_promise_splits paper"
    _logger.warning(
        "The dataset has %d training case(s), too few for nnU-Net's %d folds: train fold 'all'%s.", number, FOLDS, split
    )


def check_case(case: Case, *, channels: int, label_values: tuple[int, ...]) -> CaseReport:
    """Check one case; a problem is reported, not raised."""
    try:
        return _check_case(case, channels, label_values)
    except UserError as error:
        return CaseReport(name=case.name, problem=str(error))


def _check_case(case: Case, channels: int, label_values: tuple[int, ...]) -> CaseReport:
    label_grid = read_geometry(case.label)
    headers = [read_header(path) for path in case.images]
    for path, header in zip(case.images, headers, strict=True):
        difference = geometry_difference(label_grid, header.geometry)
        if difference:
            raise UserError(
                f"{case.label} is not on the grid of {path.name}: {difference}; correct its header if its voxels are "
                "those of the image, else resample it."
            )
    found_channels = sum(header.channels for header in headers)
    if found_channels != channels:
        raise UserError(
            f"{case.images[0]} has {found_channels} channels and dataset.json declares {channels}; correct one of them."
        )
    for path in case.images:
        check_stored_voxels(path)
    is_4d = any(header.is_4d for header in headers)
    return CaseReport(case.name, None, _label_values(case.label, label_values), is_4d)


def _label_values(path: Path, declared: tuple[int, ...]) -> tuple[int, ...]:
    label_map, _ = read_label_map(path)
    found = np.unique(label_map).tolist()
    unknown = sorted(set(found) - set(declared))
    if unknown:
        raise UserError(f"{path} has label {unknown[0]}, which dataset.json does not declare; add or remove it.")
    return tuple(found)
