"""Running the real commands on a small dataset, as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import preloaded
from generated_msd import write_msd

DATASET_ID = "77"
DATASET = "Dataset077_Tiny"
PLANS = "ProMISeTinyPlans"
MICRO_NETWORK = {
    "encoder": {"embed_dim": 24, "depth": 4, "num_heads": 2, "global_attn_indexes": [1, 3]},
    "neck_channels": 16,
    "decoder_channels": 8,
}
PATCH = [16, 24, 16]


def only_error(printed: str) -> str:
    """The one line in which a command says what is wrong with its input."""
    (line,) = [line for line in printed.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in printed
    return line


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's folders with a dataset in them."""

    root: Path

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed" / DATASET

    @property
    def images(self) -> Path:
        return self.root / "raw" / DATASET / "imagesTs"

    def model(self, trainer: str) -> Path:
        return self.results / DATASET / f"{trainer}__{PLANS}__3d_fullres"

    def environment(self, **more: str) -> dict[str, str]:
        import nnunetv2_promise.nnunet_trainers as folder

        return os.environ | {
            "nnUNet_raw": str(self.root / "raw"),
            "nnUNet_preprocessed": str(self.root / "preprocessed"),
            "nnUNet_results": str(self.results),
            "nnUNet_extTrainer": str(Path(folder.__file__).parent),
            "nnUNet_n_proc_DA": "0",
            "nnUNet_def_n_proc": "1",
            **more,
        }

    def run(self, *command: str | Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run an installed command; on failure show what it printed."""
        program = Path(sys.executable).with_name(str(command[0]))
        done = preloaded.run([str(program), *map(str, command[1:])], env=self.environment(**environment), timeout=600)
        if check and done.returncode:
            raise AssertionError(f"{command} exited {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def train(self, trainer: str, *options: str, fold: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run(
            "nnUNetv2_train",
            DATASET_ID,
            "3d_fullres",
            str(fold),
            "-tr",
            trainer,
            "-p",
            PLANS,
            "-device",
            "cpu",
            *options,
        )


def make_workspace(root: Path) -> Workspace:
    """A planned and preprocessed dataset whose plans hold a network small enough for tests."""
    workspace = Workspace(root)
    task = write_msd(root / "Task77_Tiny", cases=8, tests=2, shape=(20, 28, 24), spacing=(1.0, 1.0, 1.6))
    for folder in ("raw", "preprocessed", "results"):
        (root / folder).mkdir()
    workspace.run(
        "nnUNetv2_promise_plan_and_preprocess", "-i", task, "-d", DATASET_ID, "-pl", "ProMISeTinyPlanner", "-np", "2"
    )
    plans_file = workspace.preprocessed / f"{PLANS}.json"
    plans = json.loads(plans_file.read_text())
    shrink(plans["configurations"]["3d_fullres"])
    plans_file.write_text(json.dumps(plans))
    return workspace


def shrink(configuration: dict[str, Any]) -> None:
    """Replace the network of a configuration by the tests' smallest one."""
    configuration["patch_size"] = PATCH
    configuration["promise"]["window_size"] = PATCH
    configuration["architecture"]["arch_kwargs"] |= MICRO_NETWORK | {"patch_size": PATCH}
