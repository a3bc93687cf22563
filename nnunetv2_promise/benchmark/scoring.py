"""Scores of one method, fold and condition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.results import SCORE_COLUMNS, SYSTEM_COLUMNS
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training
from nnunetv2_promise.evaluation.folder import evaluate_folder
from nnunetv2_promise.files import atomic_path, read_json
from nnunetv2_promise.images.folders import find_volumes
from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.images.labels import read_labels, scored_labels
from nnunetv2_promise.images.objects import find_objects
from nnunetv2_promise.images.reading import read_label_map
from nnunetv2_promise.prompts.schema import PromptFile, load_prompt_file, resolve_label
from nnunetv2_promise.prompts.skipped import skipped_cases


def write_condition_scores(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> None:
    """Score the masks that a method predicted under one condition; a CSV with the columns ``SCORE_COLUMNS``.

    Raises:
        UserError: If a mask or label map is missing or unreadable, or their grids differ.
    """
    prompts = prompts_of(layout, training.fold, condition)
    clicks = None if prompts is None else load_prompt_file(prompts)
    cases = scored_cases(layout, training.fold, prompts)
    scores = evaluate_folder(
        layout.predictions(method, training, condition),
        layout.truths(training.fold),
        dataset_json=layout.dataset_json,
        tolerance_mm=layout.settings.tolerance_mm,
        label_tolerances_mm=layout.settings.label_tolerances_mm,
        cases=cases,
        num_processes=layout.settings.processes,
    )
    objects = pd.DataFrame(
        describe_objects(layout.truths(training.fold), cases, layout.dataset_json, clicks),
        columns=["case", "label", "objects", "click_offset_mm"],
    )
    table = scores.merge(objects, on=["case", "label"], how="left", validate="one_to_one")
    table = table.assign(**identity(layout, method, training, condition))
    with atomic_path(layout.scores(method, training, condition)) as temporary:
        table[list(SCORE_COLUMNS)].to_csv(temporary, index=False)


def scored_cases(layout: BenchmarkLayout, fold: int, prompts: Path | None) -> list[str]:
    """The held-out cases of a fold, without those that could not be clicked as the prompt file's condition asks."""
    skipped = {} if prompts is None else skipped_cases(prompts)
    return [case for case in read_json(layout.images(fold).parent / "cases.json") if case not in skipped]


def identity(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> dict[str, Any]:
    """The columns ``SYSTEM_COLUMNS`` of a method's scores."""
    kind, points = kind_of(condition)
    name = system_name(layout.settings, method, condition)
    values = (name, method.runs, method.plans, kind, points, training.fold, training.seed)
    return dict(zip(SYSTEM_COLUMNS, values, strict=True))


def read_scores(file: Path) -> pd.DataFrame:
    """Read a table of scores; a case called "NA" or "1" keeps its name."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    text = {"system", "trainer", "plans", "condition", "case", "label"}
    for column in table.columns.difference(text):
        if set(table[column]) <= {"True", "False"}:
            table[column] = table[column] == "True"
        else:
            table[column] = pd.to_numeric(table[column].mask(table[column] == ""))
    return table


def prompts_of(layout: BenchmarkLayout, fold: int, condition: str) -> Path | None:
    """The prompt file behind a condition; None without clicks."""
    kind, points = kind_of(condition)
    if kind == "none":
        return None
    return layout.prompts(fold, f"clicks_{points}" if kind in ("nearest", "crop") else condition)


def kind_of(condition: str) -> tuple[str, int]:
    """The condition as the report names it, and the number of clicks: ``clicks_10`` is ``("clicks", 10)``."""
    kind, _, number = condition.partition("_")
    if kind in ("clicks", "nearest", "crop"):
        return kind, int(number)
    return condition, 0 if condition == "none" else 1


def stands_in_tables(condition: str) -> bool:
    """Whether a condition makes a system of its own; the others are robustness conditions."""
    return kind_of(condition)[0] in ("none", "clicks", "nearest", "crop")


def system_name(settings: BenchmarkSettings, method: Method, condition: str) -> str:
    """What the report calls a method under a condition.

    Robustness conditions, such as a click at the border, belong to the system that got one plain click.
    """
    namesakes = [other for other in settings.methods if other.trainer == method.trainer]
    name = method.trainer if len(namesakes) == 1 else f"{method.trainer} ({method.plans})"
    kind, points = kind_of(condition)
    if kind == "none":
        return name
    clicks = f"{points} click" + ("s" if points > 1 else "")
    return {"nearest": f"{name} + {clicks}", "crop": f"{name}, crop around {clicks}"}.get(kind, f"{name}, {clicks}")


def describe_objects(
    truths: Path, cases: list[str], dataset_json: Path, prompts: PromptFile | None
) -> list[dict[str, Any]]:
    """Number of objects of each case and label, and how far from their centres they were clicked.

    Args:
        truths: Label maps.
        cases: Case identifiers.
        dataset_json: The dataset's labels.
        prompts: The clicks; None without.

    Returns:
        Rows of ``case``, ``label``, ``objects`` (26-connected components) and ``click_offset_mm``: the mean distance of
        first clicks from the centre of mass of the component that they lie on or nearest to; NaN without clicks.
    """
    labels = read_labels(dataset_json)
    paths = find_volumes(truths, what="label maps")
    rows = []
    for case in cases:
        label_map, geometry = read_label_map(paths[case])
        for name, value in scored_labels(labels).items():
            mask = np.isin(label_map, np.atleast_1d(value)).astype(np.uint8)
            centres, members = _components(mask, geometry)
            clicks = [] if prompts is None else _first_clicks(prompts, case, value, labels, geometry)
            distances = [_offset(click, centres, members) for click in clicks] if centres else []
            offset = float(np.mean(distances)) if distances else float("nan")
            rows.append({"case": case, "label": name, "objects": len(centres), "click_offset_mm": offset})
    return rows


def _components(
    mask_zyx: NDArray[np.uint8], geometry: ImageGeometry
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Centre of mass (3,) and voxels (n, 3) of each component, in world coordinates (LPS, mm)."""
    members = [
        np.asarray(geometry.index_zyx_to_points(item.voxels_zyx, "LPS"))
        for item in find_objects(mask_zyx, [1], per="component")
    ]
    return [points.mean(axis=0) for points in members], members


def _first_clicks(
    prompts: PromptFile,
    case: str,
    value: int | tuple[int, ...],
    labels: Mapping[str, int | tuple[int, ...]],
    geometry: ImageGeometry,
) -> list[NDArray[np.float64]]:
    """(3,) world coordinates (LPS, mm) of the first click of each prompt on a label."""
    clicks = []
    for prompt in prompts.cases[case]:
        if resolve_label(prompt.label, labels, where=str(prompts.path)) in np.atleast_1d(value):
            index_zyx = geometry.points_to_index_zyx(prompt.points[:1], prompts.coordinates)
            clicks.append(np.asarray(geometry.index_zyx_to_points(index_zyx, "LPS"))[0])
    return clicks


def _offset(
    click: NDArray[np.float64], centres: list[NDArray[np.float64]], members: list[NDArray[np.float64]]
) -> float:
    """Distance (mm) of a click from the centre of the component that it lies on or nearest to."""
    nearest = int(np.argmin([np.linalg.norm(points - click, axis=1).min() for points in members]))
    return float(np.linalg.norm(centres[nearest] - click))
