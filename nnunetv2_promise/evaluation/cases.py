"""Scores of one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.metrics import DEFAULT_TOLERANCE_MM, dice, normalized_surface_dice
from nnunetv2_promise.images.geometry import geometry_difference
from nnunetv2_promise.images.reading import read_geometry, read_label_map

COLUMNS = ("case", "label", "dice", "nsd", "truth_mm3", "prediction_mm3")


@dataclass(frozen=True)
class EvaluationCase:
    """What a worker needs to score one case.

    Attributes:
        case: Case identifier.
        prediction: Predicted label map.
        truth: True label map.
        labels: Name -> value, or a tuple of values for a region; only labels to score.
        ignore_label: Voxels with this value in the truth are left out; None if there is none.
        tolerance_mm: Of the surface Dice.
    """

    case: str
    prediction: Path
    truth: Path
    labels: Mapping[str, int | Sequence[int]]
    ignore_label: int | None = None
    tolerance_mm: float = DEFAULT_TOLERANCE_MM


def evaluate_case(case: EvaluationCase) -> list[dict[str, Any]]:
    """Score every label of a case.

    Returns:
        One row for each label, with the keys ``COLUMNS``: ``dice`` and ``nsd`` are NaN where the label is in neither
        mask; volumes are in mm3.

    Raises:
        UserError: If a file cannot be read or the grids differ.
    """
    prediction_zyx, _ = read_label_map(case.prediction)
    truth_zyx, geometry = read_label_map(case.truth)
    check_same_grid(case.prediction, case.truth)
    scored = np.ones(truth_zyx.shape, dtype=bool) if case.ignore_label is None else truth_zyx != case.ignore_label
    rows = []
    for name, value in case.labels.items():
        values = np.atleast_1d(value)
        predicted, true = np.isin(prediction_zyx, values) & scored, np.isin(truth_zyx, values) & scored
        surface_dice = normalized_surface_dice(
            predicted, true, spacing_zyx_mm=geometry.spacing_zyx_mm, tolerance_mm=case.tolerance_mm
        )
        volumes_mm3 = [np.count_nonzero(mask) * geometry.voxel_volume_mm3 for mask in (true, predicted)]
        rows.append(
            dict(zip(COLUMNS, (case.case, name, dice(predicted, true), surface_dice, *volumes_mm3), strict=True))
        )
    return rows


def check_same_grid(prediction: Path, truth: Path) -> None:
    """Check from the headers that two label maps share one grid.

    Raises:
        UserError: If they do not; the sentence says what differs.
    """
    difference = geometry_difference(read_geometry(prediction), read_geometry(truth))
    if difference is not None:
        raise UserError(
            f"Prediction {prediction} and truth {truth} differ in {difference}; predict on the image of this truth."
        )
