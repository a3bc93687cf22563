"""Checking the images and label maps of a dataset before anything is made from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.dataset.msd import Case
from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.errors import UserError

# Two grids are equal if no voxel centre differs by more than this share of the smallest voxel edge.
_POSITION_TOLERANCE_VOXELS = 0.1
_SPACING_TOLERANCE = 1e-3


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
    return reports


def check_case(case: Case, *, channels: int, label_values: tuple[int, ...]) -> CaseReport:
    """Check one case; a problem is reported, not raised."""
    try:
        return _check_case(case, channels, label_values)
    except UserError as error:
        return CaseReport(name=case.name, problem=str(error))


def read_image(path: Path) -> sitk.Image:
    """Read an image.

    Raises:
        UserError: If the file cannot be read; the sentence names it.
    """
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else "unknown reason"
        raise UserError(f"{path} cannot be read as an image ({reason}); replace the file.") from error


def grid_problem(image: sitk.Image, reference: sitk.Image) -> str | None:
    """How the 3D grid of ``image`` differs from that of ``reference`` (whose fourth axis is ignored), or None."""
    size, reference_size = image.GetSize()[:3], reference.GetSize()[:3]
    if size != reference_size:
        return f"its size is {size} and that of the image is {reference_size} voxels (x, y, z)"
    spacing, reference_spacing = image.GetSpacing()[:3], reference.GetSpacing()[:3]
    if not np.allclose(spacing, reference_spacing, rtol=_SPACING_TOLERANCE, atol=0):
        return f"its spacing is {_rounded(spacing)} and that of the image is {_rounded(reference_spacing)} mm (x, y, z)"
    corners, reference_corners = _corners_mm(image), _corners_mm(reference)
    tolerance_mm = _POSITION_TOLERANCE_VOXELS * min(reference_spacing)
    if np.abs(corners[0] - reference_corners[0]).max() > tolerance_mm:
        return f"its origin is {_rounded(corners[0])} and that of the image is {_rounded(reference_corners[0])} mm"
    if np.abs(corners - reference_corners).max() > tolerance_mm:
        return "its direction matrix differs from that of the image"
    return None


def _check_case(case: Case, channels: int, label_values: tuple[int, ...]) -> CaseReport:
    label = read_image(case.label)
    if label.GetDimension() != 3 or label.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{case.label} is no scalar 3D image; a label map needs one value per voxel.")
    found_channels, is_4d = 0, False
    for path in case.images:
        image = read_image(path)
        if image.GetDimension() not in (3, 4) or image.GetNumberOfComponentsPerPixel() != 1:
            raise UserError(f"{path} is no scalar 3D or 4D image; ProMISe needs volumes.")
        is_4d = is_4d or image.GetDimension() == 4
        found_channels += image.GetSize()[3] if image.GetDimension() == 4 else 1
        problem = grid_problem(label, image)
        if problem:
            raise UserError(f"{case.label} is not on the grid of {path.name}: {problem}; resample or replace it.")
        if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
            raise UserError(f"{path} has NaN or infinite voxels; replace them with a sensible value.")
    if found_channels != channels:
        raise UserError(
            f"{case.images[0]} has {found_channels} channels and dataset.json declares {channels}; mend one of them."
        )
    values = _label_values(label, case.label, label_values)
    return CaseReport(name=case.name, problem=None, label_values=values, is_4d=is_4d)


def _label_values(label: sitk.Image, path: Path, declared: tuple[int, ...]) -> tuple[int, ...]:
    found = np.unique(sitk.GetArrayViewFromImage(label))
    odd = [value for value in found.tolist() if not math.isfinite(value) or value != round(value)]
    if odd:
        raise UserError(f"{path} has the label value {odd[0]:g}, which is no whole number; write integers.")
    unknown = sorted(set(int(value) for value in found) - set(declared))
    if unknown:
        raise UserError(f"{path} has label {unknown[0]}, which dataset.json does not declare; add or remove it.")
    return tuple(int(value) for value in found)


def _corners_mm(image: sitk.Image) -> np.ndarray:
    """(8, 3) world coordinates of the corner voxels' centres, the one of voxel 0 first."""
    size = np.array(image.GetSize()[:3])
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (size - 1)
    return np.array(image.GetOrigin()[:3]) + (corners * np.array(image.GetSpacing()[:3])) @ direction.T


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
