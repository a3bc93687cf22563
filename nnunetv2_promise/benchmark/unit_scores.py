"""Scores of a unit's masks under one condition; runs in a process of its own where units run side by side.

``python -m nnunetv2_promise.benchmark.unit_scores FOLDER METHOD TRAINING CONDITION``, FOLDER is the benchmark's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.leakage import check_model
from nnunetv2_promise.benchmark.measure import end_with_parent
from nnunetv2_promise.benchmark.scores_of_clicks import write_object_scores
from nnunetv2_promise.benchmark.scoring import kind_of, write_condition_scores
from nnunetv2_promise.benchmark.settings import Training, load_settings
from nnunetv2_promise.errors import UserError


def score_unit(root: Path, key: str, training: str, condition: str) -> None:
    """Score each case, and each click's mask where the condition has some.

    Args:
        root: The benchmark's folder.
        key: Of the method.
        training: As ``str`` writes it.
        condition: Name of the masks' folder, such as ``"clicks_1"``.

    Raises:
        UserError: If a mask or label map is missing or unreadable, or the model was trained on cases that are scored.
    """
    layout = BenchmarkLayout(root, load_settings(root))
    method, which = layout.settings.method(key), Training.parse(training)
    if method.trained:
        check_model(layout, method, which)
    write_condition_scores(layout, method, which, condition)
    if kind_of(condition)[0] in ("clicks", "nearest", "crop"):
        write_object_scores(layout, method, which, condition)


if __name__ == "__main__":
    end_with_parent()
    try:
        score_unit(Path(sys.argv[1]), *sys.argv[2:5])
    except UserError as error:
        sys.exit(f"Error: {error}")
