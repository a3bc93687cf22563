"""Where scores are computed; that they are the same either way is in ``cli/test_benchmark.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training
from nnunetv2_promise.benchmark.units import unit_steps


@pytest.mark.parametrize("jobs", [1, 2])
def test_units_that_run_side_by_side_score_in_processes_of_their_own(jobs: int, split_only: Path) -> None:
    method = Method("ProMISeTrainer", "Plans", "ProMISeTrainer", prompted=True)
    layout = BenchmarkLayout(split_only / "out", BenchmarkSettings(9, (method,), (0,), device="cpu", jobs=jobs))
    (step,) = [step for step in unit_steps(layout, method, Training(0)) if step.name == "score_clicks_1"]
    assert (step.action is None) == (jobs > 1)
    assert step.command[1:3] == ("-m", "nnunetv2_promise.benchmark.unit_scores")
    assert step.command[3:] == (str(layout.root), method.key, "0", "clicks_1")
