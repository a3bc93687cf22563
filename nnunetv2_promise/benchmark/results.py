"""What a finished benchmark hands to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

SCORE_COLUMNS = (
    "system", "trainer", "plans", "condition", "points", "fold", "case", "label", "dice", "nsd",
    "truth_mm3", "prediction_mm3", "objects", "click_offset_mm",
)  # fmt: skip
RUN_COLUMNS = (
    "trainer", "plans", "fold", "parameters", "trained_parameters", "train_seconds", "device", "peak_memory_bytes",
)  # fmt: skip
TIMING_COLUMNS = ("system", "fold", "seconds_per_case")


@dataclass(frozen=True)
class PictureFiles:
    """Files to draw one scored case from; all on the image's grid.

    Attributes:
        image: First channel of the image.
        truth: Label map.
        prediction: Label map.
        prompts: Prompt file that lists the case; None if the system takes no click.
    """

    image: Path
    truth: Path
    prediction: Path
    prompts: Path | None


@dataclass(frozen=True)
class BenchmarkResults:
    """Scores and costs of every system.

    A *system* is a trainer under one condition, such as ``"ProMISeTrainer, 1 click"``, ``"nnUNetTrainer"`` (no click)
    or ``"nnUNetTrainer + 1 click"`` (its prediction cut down to the components nearest the clicks).

    Attributes:
        dataset: Name of the dataset.
        systems: In the order of the tables.
        reference: The system that the others are tested against.
        scores: One row for each system, case and label; columns ``SCORE_COLUMNS``. ``condition`` is ``"none"``,
            ``"clicks"`` (a prompted method with ``points`` clicks per object), ``"nearest"`` (an unprompted method's
            prediction restricted by ``points`` clicks per object) or the name of a robustness condition. ``points`` is
            0 without clicks. ``dice`` and ``nsd`` are NaN where the label is in neither mask. ``objects`` is the number
            of components of the label in the truth, ``click_offset_mm`` the mean distance of their first clicks from
            their centres of mass (NaN without clicks).
        runs: One row for each trainer and fold; columns ``RUN_COLUMNS``. ``device`` is ``"cpu"`` or a GPU's name;
            ``peak_memory_bytes`` is the GPU's memory on a GPU, the process's otherwise, of the training. Numbers that
            could not be measured are NaN.
        timings: One row for each system and fold; columns ``TIMING_COLUMNS``.
        labels: Name -> value, or a tuple of values for a region; the labels that were scored.
        tolerance_mm: Of the surface Dice (NSD).
        budget: What limited the trainings, in plain words, such as ``"5 minutes"``.
        commands: The commands that made the results.
        files: (system, case) -> files for pictures.
    """

    dataset: str
    systems: Sequence[str]
    reference: str
    scores: pd.DataFrame
    runs: pd.DataFrame
    timings: pd.DataFrame
    labels: Mapping[str, int | tuple[int, ...]]
    tolerance_mm: float
    budget: str
    commands: Sequence[str] = ()
    files: Mapping[tuple[str, str], PictureFiles] = field(default_factory=dict)
