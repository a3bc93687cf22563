"""A clickable U-Net that starts from an nnU-Net, both trained by ``nnUNetv2_promise_benchmark``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
from clickable_workspace import CLICKABLE_PLANS
from commands import DATASET, DATASET_ID, Workspace

from nnunetv2_promise.cli import benchmark

PATCHES = 5
METHOD = f"InteractiveUNetTrainer:{CLICKABLE_PLANS}"


def test_a_clickable_unet_starts_from_an_nnunet_of_half_the_budget(
    clickable_plans: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["-d", DATASET_ID, "-tr", METHOD, "-f", "0", "-device", "cpu", "-np", "1", "-o", str(output)]
    arguments += ["--patches", str(PATCHES), "--start_from", "nnUNetTrainer"]
    for name, value in clickable_plans.environment().items():
        monkeypatch.setenv(name, value)

    assert benchmark.main([*arguments, "--dry_run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    start, train = (shlex.split(line) for line in printed if "nnUNetv2_train" in line)
    assert "export nnUNet_promise_final_validation=0" in printed
    unit = output / "units" / f"InteractiveUNetTrainer__{CLICKABLE_PLANS}" / "fold_0"
    assert start[:3] == ["env", f"nnUNet_results={unit / 'start'}", "nnUNet_promise_patches=2"]
    assert train[:2] == ["env", "nnUNet_promise_patches=3"]
    weights = Path(train[train.index("-pretrained_weights") + 1])
    assert not output.exists()

    clickable_plans.run("nnUNetv2_promise_benchmark", *arguments)
    assert weights.is_file()
    assert "Segmentation heads" in (log := (unit / "logs" / "train.txt").read_text())
    assert "taken over." in log
    model = output / "nnUNet_results" / DATASET / f"InteractiveUNetTrainer_limited__{CLICKABLE_PLANS}__3d_fullres"
    steps = 0
    for folder in (weights.parent, model / "fold_0"):
        assert not (folder / "validation").exists()
        record = json.loads((folder / "training_record.json").read_text())
        steps += sum(record["steps"])
    row = pd.read_csv(output / "report" / "table1.csv").iloc[0]
    assert (row["steps"], row["patches"]) == (steps, steps * record["batch_size"])
    assert row["patches"] >= PATCHES
    assert row["start"] == f"nnUNetTrainer ({CLICKABLE_PLANS}), half of the budget"

    before = weights.stat().st_mtime_ns
    assert benchmark.main(arguments) == 0
    assert weights.stat().st_mtime_ns == before
    done = [line for line in capsys.readouterr().out.splitlines() if "] " in line]
    assert len(done) > 4
    assert all("already there" in line or "done before" in line for line in done)
