"""Scores of one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.metrics import (
    DEFAULT_TOLERANCE_MM,
    dice,
    hausdorff_distance_95,
    normalized_surface_dice,
    score_lesions,
)
from nnunetv2_promise.images.geometry import ImageGeometry, geometry_difference
from nnunetv2_promise.images.reading import read_geometry, read_label_map

COLUMNS = (
    "case", "label", "dice", "nsd", "hd95_mm", "truth_mm3", "prediction_mm3", "lesions_found", "lesions_missed",
    "lesions_false", "false_positive_ml", "false_negative_ml",
)  # fmt: skip


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
        label_tolerances_mm: Of labels that have one of their own, by name.
    """

    case: str
    prediction: Path
    truth: Path
    labels: Mapping[str, int | Sequence[int]]
    ignore_label: int | None = None
    tolerance_mm: float = DEFAULT_TOLERANCE_MM
    label_tolerances_mm: Mapping[str, float] = field(default_factory=dict)


def evaluate_case(case: EvaluationCase) -> list[dict[str, Any]]:
    """Score every label of a case.

    Returns:
        One row for each label, with the keys ``COLUMNS``: ``dice`` and ``nsd`` are NaN where the label is in neither
        mask, ``hd95_mm`` where it is not in both. Lesions and false volumes: see ``metrics.score_lesions``.

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
        tolerance_mm = case.label_tolerances_mm.get(name, case.tolerance_mm)
        rows.append({"case": case.case, "label": name, **_score(predicted, true, geometry, tolerance_mm)})
    return rows


def _score(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], geometry: ImageGeometry, tolerance_mm: float
) -> dict[str, float]:
    """Scores of one label."""
    spacing, voxel_mm3 = geometry.spacing_zyx_mm, geometry.voxel_volume_mm3
    lesions = score_lesions(predicted, true)
    return {
        "dice": dice(predicted, true),
        "nsd": normalized_surface_dice(predicted, true, spacing_zyx_mm=spacing, tolerance_mm=tolerance_mm),
        "hd95_mm": hausdorff_distance_95(predicted, true, spacing_zyx_mm=spacing),
        "truth_mm3": np.count_nonzero(true) * voxel_mm3,
        "prediction_mm3": np.count_nonzero(predicted) * voxel_mm3,
        "lesions_found": lesions.found,
        "lesions_missed": lesions.missed,
        "lesions_false": lesions.false,
        "false_positive_ml": lesions.false_positive_voxels * voxel_mm3 / 1000,
        "false_negative_ml": lesions.false_negative_voxels * voxel_mm3 / 1000,
    }


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
