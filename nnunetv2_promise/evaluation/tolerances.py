"""The distance that counts as agreement in the surface Dice: one for all labels, or some labels with their own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from nnunetv2_promise.errors import UserError

LARGEST_SHARE = 1 / 3
"""A tolerance above this share of an object's diameter says little: a mask beside the object agrees with it."""


def split_tolerances(given: Iterable[tuple[str, float]], default_mm: float) -> tuple[float, dict[str, float]]:
    """What ``--tolerance 5 tumour=2`` means.

    Args:
        given: (label, mm); the label is empty for the number that is meant for all others.
        default_mm: Without such a number.

    Returns:
        The tolerance of all labels, and those of labels that have their own.

    Raises:
        UserError: If something is given twice.
    """
    found: dict[str, float] = {}
    for label, tolerance_mm in given:
        if label in found:
            raise UserError(f"--tolerance names {label or 'the tolerance of all labels'} twice; give it once.")
        found[label] = tolerance_mm
    default_mm = found.pop("", default_mm)
    return default_mm, found


def tolerances_of(
    labels: Mapping[str, int | Sequence[int]], tolerance_mm: float, own_mm: Mapping[str, float]
) -> dict[str, float]:
    """The tolerance of every label.

    Args:
        labels: Name -> value, or several values of a region.
        tolerance_mm: Of labels without their own.
        own_mm: Name or value (as text) of a label -> mm.

    Raises:
        UserError: If a label is unknown.
    """
    found = dict.fromkeys(labels, tolerance_mm)
    names = {str(value): name for name, value in labels.items()} | {name: name for name in labels}
    for label, own in own_mm.items():
        if label not in names:
            listed = ", ".join(f"{name} ({value})" for name, value in labels.items())
            raise UserError(f"--tolerance {label}={own:g}: there is no label {label}; name one of: {listed}.")
        found[names[label]] = own
    return found


def in_words(tolerance_mm: float, own_mm: Mapping[str, float]) -> str:
    """``"5 mm"``, or ``"5 mm, tumour 2 mm"``."""
    return ", ".join([f"{tolerance_mm:g} mm", *(f"{label} {own:g} mm" for label, own in own_mm.items())])


def median_diameters_mm(scores: pd.DataFrame) -> dict[str, float]:
    """Label -> median diameter of its objects: that of a ball of an object's volume.

    Args:
        scores: One row for each case and label with ``label``, ``truth_mm3``, ``lesions_found`` and
            ``lesions_missed``. The objects of a case count with their mean volume.
    """
    numbers = (scores["lesions_found"] + scores["lesions_missed"]).astype(int)
    each = pd.DataFrame({"label": scores["label"], "mm": (6 / math.pi * scores["truth_mm3"] / numbers) ** (1 / 3)})
    repeated = each.loc[np.repeat(each.index, numbers)]
    return {str(label): float(found) for label, found in repeated.groupby("label", sort=False)["mm"].median().items()}


def warnings_of(scores: pd.DataFrame, tolerances_mm: Mapping[str, float]) -> list[str]:
    """A sentence for each label whose tolerance exceeds a third of the median diameter of its objects.

    Args:
        scores: As for ``median_diameters_mm``.
        tolerances_mm: Of every label.
    """
    return [
        f"The tolerance of NSD for label {label}, {tolerances_mm[label]:g} mm, exceeds a third of the median diameter "
        f"of its objects ({diameter:.1f} mm): NSD is high even where a mask misses the object. Judge by Dice and HD95, "
        "or set a smaller tolerance."
        for label, diameter in median_diameters_mm(scores).items()
        if tolerances_mm[label] > LARGEST_SHARE * diameter
    ]
