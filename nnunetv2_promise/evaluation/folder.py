"""Scores of a folder of predictions, with their summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.cases import COLUMNS, EvaluationCase, check_same_grid, evaluate_case
from nnunetv2_promise.evaluation.metrics import DEFAULT_TOLERANCE_MM
from nnunetv2_promise.evaluation.tolerances import tolerances_of
from nnunetv2_promise.files import atomic_path, write_json
from nnunetv2_promise.images.folders import find_volumes, require_cases
from nnunetv2_promise.images.labels import (
    Labels,
    find_dataset_json,
    read_labels,
    require_dataset_json,
    scored_labels,
)

CSV_NAME = "evaluation.csv"
JSON_NAME = "evaluation.json"
METRICS = ("dice", "nsd", "hd95_mm")


def evaluate_folder(
    predictions: Path | str,
    truths: Path | str,
    *,
    dataset_json: Path | str | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    label_tolerances_mm: Mapping[str, float] | None = None,
    cases: Sequence[str] | None = None,
    num_processes: int = 1,
) -> pd.DataFrame:
    """Score every case and label.

    Args:
        predictions: Folder of predicted label maps, ``CASE.nii.gz``.
        truths: Folder of true label maps.
        dataset_json: Where the labels are named; by default ``dataset.json`` in or above ``truths``, then
            ``predictions``.
        tolerance_mm: Of the surface Dice.
        label_tolerances_mm: Of labels that have one of their own: name or value (as text) -> mm.
        cases: Cases to score; by default all of ``truths``.
        num_processes: Worker processes.

    Returns:
        One row for each case and label, sorted by case, then in the order of ``dataset.json``; the columns are
        ``nnunetv2_promise.evaluation.cases.COLUMNS``. ``attrs["tolerances_mm"]`` has the tolerance of every label.

    Raises:
        UserError: If a case has no prediction or no truth, grids differ, a label is unknown, or a file cannot be read.
            A prediction without a truth is an error too, unless ``cases`` is given.
    """
    labels, ignore_label = _labels(truths, predictions, dataset_json)
    tolerances_mm = tolerances_of(labels, tolerance_mm, label_tolerances_mm or {})
    truth_paths = find_volumes(truths, what="true label maps")
    prediction_paths = find_volumes(predictions, what="predictions")
    wanted = sorted(truth_paths if cases is None else set(cases))
    require_cases(wanted, truth_paths, folder=truths, what="true label map")
    require_cases(wanted, prediction_paths, folder=predictions, what="prediction")
    if cases is None:
        require_cases(prediction_paths, truth_paths, folder=truths, what="true label map")
    jobs = [
        EvaluationCase(
            case=case,
            prediction=prediction_paths[case],
            truth=truth_paths[case],
            labels=labels,
            ignore_label=ignore_label,
            tolerance_mm=tolerance_mm,
            label_tolerances_mm=tolerances_mm,
        )
        for case in wanted
    ]
    for job in jobs:
        check_same_grid(job.prediction, job.truth)
    rows = map_cases(evaluate_case, jobs, num_processes=num_processes, description="Evaluating")
    scores = pd.DataFrame([row for case_rows in rows for row in case_rows], columns=list(COLUMNS))
    scores.attrs["tolerances_mm"] = tolerances_mm
    return scores


def summarize(scores: pd.DataFrame) -> dict[str, dict[str, dict[str, float | int]]]:
    """Mean and standard deviation of every metric.

    Args:
        scores: From ``evaluate_folder``.

    Returns:
        Label -> metric -> ``mean``, ``std`` (of the population, divided by n) and ``n``, over the cases in which the
        metric is defined. The key ``"all labels"`` is over all cases and labels together, where there
        are several labels.
    """
    groups = {str(label): rows for label, rows in scores.groupby("label", sort=False)}
    if len(groups) > 1:
        groups["all labels"] = scores
    return {name: {metric: _describe(rows[metric]) for metric in METRICS} for name, rows in groups.items()}


def write_scores(
    scores: pd.DataFrame,
    output: Path | str,
    *,
    tolerance_mm: float,
    label_tolerances_mm: Mapping[str, float] | None = None,
) -> tuple[Path, Path]:
    """Write ``evaluation.csv`` (every case and label) and ``evaluation.json`` (the same, with the summary).

    Undefined scores are an empty cell in CSV and null in JSON.

    Returns:
        The two files.
    """
    csv_path, json_path = Path(output) / CSV_NAME, Path(output) / JSON_NAME
    with atomic_path(csv_path) as temporary:
        scores.to_csv(temporary, index=False)
    rows = [{key: _json_number(value) for key, value in row.items()} for row in scores.to_dict("records")]
    summary = {
        label: {metric: {key: _json_number(value) for key, value in numbers.items()} for metric, numbers in by.items()}
        for label, by in summarize(scores).items()
    }
    own = {"label_tolerances_mm": dict(label_tolerances_mm)} if label_tolerances_mm else {}
    write_json({"tolerance_mm": tolerance_mm, **own, "summary": summary, "cases": rows}, json_path)
    return csv_path, json_path


def format_summary(summary: Mapping[str, Mapping[str, Mapping[str, float | int]]]) -> str:
    """The summary as a table for the terminal."""
    width = max(len(label) for label in summary)
    lines = [f"{'label':<{width}}  {'Dice':>15}  {'NSD':>15}  {'HD95 (mm)':>15}  cases"]
    for label, by in summary.items():
        cells = [f"{by[metric]['mean']:.4f} ± {by[metric]['std']:.4f}" for metric in METRICS[:2]]
        cells.append(f"{by['hd95_mm']['mean']:.2f} ± {by['hd95_mm']['std']:.2f}")
        lines.append(f"{label:<{width}}  {'  '.join(f'{cell:>15}' for cell in cells)}  {by['dice']['n']:>5}")
    return "\n".join(lines)


def _labels(truths: Path | str, predictions: Path | str, dataset_json: Path | str | None) -> tuple[Labels, int | None]:
    """The labels to score, and the value to leave out."""
    path = require_dataset_json(truths, predictions, named=dataset_json)
    declared = read_labels(path)
    labels = scored_labels(declared)
    if not labels:
        raise UserError(f"{path} declares no foreground label; there is nothing to score.")
    other = find_dataset_json(predictions) if dataset_json is None else None
    if other is not None and scored_labels(read_labels(other)) != labels:
        raise UserError(
            f"{path} and {other} declare different labels; name the one that holds for both with --dataset_json."
        )
    ignore = declared.get("ignore")
    return labels, ignore if isinstance(ignore, int) else None


def _describe(values: pd.Series) -> dict[str, float | int]:
    return {"mean": float(values.mean()), "std": float(values.std(ddof=0)), "n": int(values.count())}


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
