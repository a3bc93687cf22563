"""Choosing labels of a dataset and merging them into one foreground label."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_promise.errors import UserError

_logger = logging.getLogger(__name__)

TUMOUR = "tumour"
# How the MSD tasks call tumours: "cancer", "colon cancer primaries", "Tumour", "enhancing tumour".
_TUMOUR_WORDS = re.compile(r"tumou?rs?|cancer|lesions?", re.IGNORECASE)


@dataclass(frozen=True)
class LabelChoice:
    """Which source labels become which labels of the new dataset.

    Attributes:
        labels: Label name to value in the new dataset, background included.
        source_values: The label values of the source that become foreground 1, or None if nothing is merged.
    """

    labels: dict[str, int]
    source_values: tuple[int, ...] | None

    @property
    def rewrites(self) -> bool:
        """Whether label files differ from those of the source."""
        return self.source_values is not None


def choose_labels(declared: Mapping[str, int], wanted: Sequence[str] | None, file: Path) -> LabelChoice:
    """Find the wanted labels among the declared ones.

    Args:
        declared: Label name to value, background included.
        wanted: Names or numbers; ``tumour`` stands for every label that is named as a tumour (tumour, tumor,
            cancer, lesion) where no label has exactly this name. None keeps all labels.
        file: The ``dataset.json``, for messages.

    Raises:
        UserError: If a name is unknown, or all labels are kept and their values are not consecutive.
    """
    foreground = {name: value for name, value in declared.items() if value != 0}
    if not wanted:
        if sorted(foreground.values()) != list(range(1, len(foreground) + 1)):
            raise UserError(
                f"{file} declares the label values {sorted(foreground.values())}, and nnU-Net needs 1, 2, 3, ... "
                "without gaps; choose labels with --labels."
            )
        return LabelChoice(labels=dict(declared), source_values=None)
    chosen: dict[str, int] = {}
    for name in wanted:
        chosen.update(_find(name, foreground, file))
    merged_name = _merged_name(chosen, wanted)
    nothing_changes = len(foreground) == len(chosen) == 1 and list(chosen.values()) == [1]
    return LabelChoice(
        labels={"background": 0, merged_name: 1},
        source_values=None if nothing_changes else tuple(sorted(chosen.values())),
    )


def merge_labels(label_zyx: np.ndarray, source_values: Sequence[int]) -> np.ndarray:
    """1 (uint8) where the label map has one of ``source_values``, 0 elsewhere."""
    return np.isin(label_zyx, source_values).astype(np.uint8)


def _find(wanted: str, foreground: Mapping[str, int], file: Path) -> dict[str, int]:
    for name, value in foreground.items():
        if wanted.casefold() == name.casefold() or wanted == str(value):
            return {name: value}
    if wanted.casefold() in (TUMOUR, "tumor"):
        tumours = {name: value for name, value in foreground.items() if _TUMOUR_WORDS.search(name)}
        if tumours:
            _logger.info("Label 'tumour' stands for %s.", " and ".join(f"'{name}'" for name in tumours))
            return tumours
    known = ", ".join(f"{name} ({value})" for name, value in foreground.items())
    raise UserError(f"{file} has no foreground label '{wanted}'; --labels takes one or more of: {known}.")


def _merged_name(chosen: Mapping[str, int], wanted: Sequence[str]) -> str:
    if len(wanted) == 1 and wanted[0].casefold() in (TUMOUR, "tumor"):
        return TUMOUR
    return "+".join(chosen)
