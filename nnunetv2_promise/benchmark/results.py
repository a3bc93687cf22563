"""What a finished benchmark hands to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunetv2_promise.evaluation.tolerances import in_words

SYSTEM_COLUMNS = ("system", "trainer", "plans", "condition", "points", "fold", "seed")
SCORE_COLUMNS = (
    *SYSTEM_COLUMNS, "case", "label", "dice", "nsd", "hd95_mm", "truth_mm3", "prediction_mm3", "lesions_found",
    "lesions_missed", "lesions_false", "false_positive_ml", "false_negative_ml", "objects", "click_offset_mm",
)  # fmt: skip
OBJECT_COLUMNS = (
    *SYSTEM_COLUMNS, "case", "label", "object", "volume_ml", "dice", "nsd", "wrong_object", "holds_click",
)  # fmt: skip
CORRECTION_COLUMNS = (
    *SYSTEM_COLUMNS, "case", "label", "object", "clicks", "dice", "nsd", "seconds", "positive",
)  # fmt: skip
RUN_COLUMNS = (
    "trainer", "plans", "fold", "seed", "parameters", "trained_parameters", "start", "epochs", "steps", "patches",
    "train_seconds", "device", "peak_memory_bytes",
)  # fmt: skip
TIMING_COLUMNS = ("system", "fold", "seed", "seconds_per_case")


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
    or ``"nnUNetTrainer + 1 click"`` (its prediction cut down to the components nearest the clicks). A *training* is one
    fold with one training seed.

    Attributes:
        dataset: Name of the dataset.
        systems: In the order of the tables.
        reference: The system that the others are shown beside.
        scores: One row for each system, training, case and label; columns ``SCORE_COLUMNS``. ``condition`` is
            ``"none"``, ``"clicks"`` (a prompted method with ``points`` clicks per object), ``"nearest"`` (an unprompted
            method's prediction restricted by ``points`` clicks per object) or the name of a robustness condition.
            ``points`` is 0 without clicks. ``dice`` and ``nsd`` are NaN where the label is in neither mask, ``hd95_mm``
            where it is not in both. ``objects`` is the number of components of the label in the truth,
            ``click_offset_mm`` the mean distance of their first clicks from their centres of mass (NaN without
            clicks).
        objects: One row for each prompt of a system that takes clicks, predicted and scored alone; columns
            ``OBJECT_COLUMNS``. ``wrong_object`` says whether the mask overlaps another object of the truth more than
            the clicked one.
        runs: One row for each training; columns ``RUN_COLUMNS``. ``device`` is ``"cpu"`` or a GPU's name,
            ``peak_memory_bytes`` the GPU's memory on a GPU, the process's otherwise, of the training; ``start`` says
            in words which weights it started from. Numbers that could not be measured are NaN.
        timings: One row for each system and training; columns ``TIMING_COLUMNS``.
        labels: Name -> value, or a tuple of values for a region; the labels that were scored.
        tolerance_mm: Of the surface Dice (NSD).
        budget: What limited the trainings, in plain words, such as ``"5 minutes"``.
        parts: Fold -> ``"test"`` or ``"validation"``, the part of the split that its scored cases are.
        skipped: (condition, fold) -> cases that could not be clicked in that way, with the reason.
        jobs: Trainings at a time.
        commands: The commands that made the results.
        files: (system, case) -> files for pictures.
        label_tolerances_mm: Tolerances of labels that have one of their own, by name or value.
        corrections: One row for each object and number of clicks made on its errors; columns ``CORRECTION_COLUMNS``,
            where the system is the method without its clicks. ``seconds`` is NaN where nothing was segmented.
        jitter_mm: Standard deviation, along each axis, by which these clicks missed.
        disable_tta: Whether no network was shown mirror images at prediction.
    """

    dataset: str
    systems: Sequence[str]
    reference: str
    scores: pd.DataFrame
    objects: pd.DataFrame
    runs: pd.DataFrame
    timings: pd.DataFrame
    labels: Mapping[str, int | tuple[int, ...]]
    tolerance_mm: float
    budget: str
    parts: Mapping[int, str] = field(default_factory=dict)
    skipped: Mapping[tuple[str, int], Mapping[str, str]] = field(default_factory=dict)
    jobs: int = 1
    commands: Sequence[str] = ()
    files: Mapping[tuple[str, str], PictureFiles] = field(default_factory=dict)
    label_tolerances_mm: Mapping[str, float] = field(default_factory=dict)
    corrections: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CORRECTION_COLUMNS)))
    jitter_mm: float = 0.0
    disable_tta: bool = False

    @property
    def tolerance_in_words(self) -> str:
        """Tolerance of NSD, such as ``"5 mm, tumour 2 mm"``."""
        return in_words(self.tolerance_mm, self.label_tolerances_mm)
