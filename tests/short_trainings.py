"""Trainings of a few steps in processes that the test starts: several of them together, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from commands import DATASET

from nnunetv2_promise.trainers import InteractiveUNetTrainer, ProMISeInteractiveTrainer

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_n_proc_DA", "nnUNet_def_n_proc")
KILL_AT = "PROMISE_TEST_KILL_AT"
"""Variable with the number of the step at which the process kills itself."""


class _Short:
    """A checkpoint after each epoch, and steps that are counted."""

    epochs = 3
    min_val_iterations = 1

    def initialize(self) -> None:
        super().initialize()
        self.save_every = 1
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 3, 1
        self.steps = 0

    def train_step(self, batch: dict[str, Any]) -> Any:
        self.steps += 1
        if os.environ.get(KILL_AT) == str(self.steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train_step(batch)


class ProMISeInteractiveTrainer_Short(_Short, ProMISeInteractiveTrainer):
    """Three epochs."""


class InteractiveUNetTrainer_Short(_Short, InteractiveUNetTrainer):
    """Three epochs."""


SHORT = {cls.__name__: cls for cls in (ProMISeInteractiveTrainer_Short, InteractiveUNetTrainer_Short)}


def make_trainer(name: str, plans_name: str, *, resume: bool = False) -> Any:
    """A trainer of fold 0, by the folders that the environment names."""
    base = Path(os.environ["nnUNet_preprocessed"], DATASET)
    plans = json.loads((base / f"{plans_name}.json").read_text()) | {"continue_training": resume}
    dataset = json.loads((base / "dataset.json").read_text())
    trainer = SHORT[name](plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    if resume:
        trainer.load_checkpoint(str(Path(trainer.output_folder, "checkpoint_latest.pth")))
    return trainer


def train_until_killed(name: str, plans_name: str, environment: dict[str, str], step: int) -> None:
    """A process that does not survive the given step."""
    os.environ.update(environment, **{KILL_AT: str(step)})
    torch.set_num_threads(1)
    make_trainer(name, plans_name).run_training()


def train_together(rank: int, name: str, plans_name: str, environment: dict[str, str], port: int) -> None:
    """One of two processes of a training; fails unless both end with the same weights."""
    from torch import distributed

    os.environ.update(environment, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    trainer = make_trainer(name, plans_name)
    trainer.num_epochs = 1
    trainer.run_training()
    trainer.perform_actual_validation()
    state = torch.cat([p.detach().flatten() for p in trainer.network.parameters()])
    both = [torch.empty_like(state) for _ in range(2)]
    distributed.all_gather(both, state)
    if not torch.equal(*both):
        raise RuntimeError("the processes' weights differ")
    distributed.destroy_process_group()
