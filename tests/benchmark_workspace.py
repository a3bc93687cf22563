"""A dataset with trainers that finish in seconds, for the tests of ``nnUNetv2_promise_benchmark``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import preloaded
from commands import DATASET_ID, PLANS, Workspace, make_workspace

TRAINERS = '''
"""Trainers of a user, found through nnUNet_extTrainer."""
from nnunetv2_promise.trainers.lengths import ProMISeTrainer_1epoch
from nnunetv2_promise.trainers.restartable import RestartableTraining


class QuickUNet(RestartableTraining):
    """nnU-Net's network, three epochs of two steps."""

    def initialize(self):
        """Few steps, each epoch saved."""
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 2, 1
        self.save_every = 1
        super().initialize()

    def plot_network_architecture(self):
        """Not needed."""


class QuickProMISe(ProMISeTrainer_1epoch):
    """Three short epochs."""

    epochs = 3
    min_val_iterations = 1

    def initialize(self):
        """Each epoch is saved."""
        self.save_every = 1
        super().initialize()
'''
QUICK = ("QuickUNet", f"QuickProMISe:{PLANS}")


@dataclass(frozen=True)
class BenchmarkWorkspace:
    """A workspace whose environment knows the quick trainers."""

    workspace: Workspace
    trainers: Path

    def environment(self, **more: str) -> dict[str, str]:
        """As a user exports it: only their own folder of trainers; the command adds ours."""
        return self.workspace.environment(nnUNet_extTrainer=str(self.trainers), **more)

    def command(self, output: Path, *options: str, trainers: tuple[str, ...] = QUICK) -> list[str]:
        program = Path(sys.executable).with_name("nnUNetv2_promise_benchmark")
        common = ["-d", DATASET_ID, "-tr", *trainers, "-device", "cpu", "-np", "1", "-o", str(output)]
        return [str(program), *common, *options]

    def run(self, output: Path, *options: str, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
        trainers = more.pop("trainers", QUICK)
        command = self.command(output, *options, trainers=trainers)
        done = preloaded.run(command, env=self.environment(), timeout=800)
        if check and done.returncode:
            logs = [path.read_text()[-1500:] for path in output.rglob("logs/*.txt")]
            raise AssertionError("\n".join([done.stdout[-2000:], done.stderr[-2000:], *logs[-2:]]))
        return done


def make_benchmark_workspace(root: Path) -> BenchmarkWorkspace:
    """A fresh dataset, planned for ProMISe; nnU-Net's own plans are left for the command to make."""
    workspace = make_workspace(root / "workspace")
    trainers = root / "trainers"
    trainers.mkdir()
    (trainers / "quick.py").write_text(TRAINERS)
    return BenchmarkWorkspace(workspace, trainers)


def reported_scores(output: Path) -> pd.DataFrame:
    """Every score of a report, in an order of its own."""
    scores = pd.read_csv(output / "report" / "scores.csv", dtype={"case": str})
    return scores.sort_values(["system", "condition", "fold", "case", "label"], ignore_index=True)
