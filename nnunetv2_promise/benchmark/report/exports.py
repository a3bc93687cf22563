"""The report's numbers as CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_promise.benchmark.results import SCORE_COLUMNS, BenchmarkResults
from nnunetv2_promise.files import atomic_path, write_json

SIGNIFICANT = "%.6g"


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table atomically; numbers have six significant digits, what is undefined is an empty cell."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format=SIGNIFICANT)


def write_scores(results: BenchmarkResults, path: Path) -> None:
    """Write the scores behind the report, one row for each system, case and label, with all digits."""
    with atomic_path(path) as temporary:
        results.scores.to_csv(temporary, index=False, columns=list(SCORE_COLUMNS))


def write_report_json(
    results: BenchmarkResults, tables: Mapping[str, pd.DataFrame | None], notes: Sequence[str], path: Path
) -> None:
    """Write what was compared and every table.

    Args:
        results: Of the benchmark.
        tables: Name -> table; null in JSON where there is none.
        notes: The report's sentences about what was compared.
        path: File to write.
    """
    content = {
        "dataset": results.dataset,
        "reference": results.reference,
        "systems": list(results.systems),
        "labels": {name: list(v) if isinstance(v, tuple) else v for name, v in results.labels.items()},
        "tolerance_mm": results.tolerance_mm,
        "budget": results.budget,
        "commands": list(results.commands),
        "notes": list(notes),
        **{name: None if table is None else _records(table) for name, table in tables.items()},
    }
    write_json(content, path)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A number or text that JSON knows; null for what is undefined."""
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
