"""GPU memory of a training step beside the planner's estimate of it.

    python benchmarks/training_memory.py

Needs the installed package and a GPU that nothing else uses. Each row comes from a process of its own. Measured is what
the process takes from the card: CUDA's context and all that PyTorch's allocator reserved, the number that decides
whether training fits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from network import machine
from network_worker import GIB, autocast, measure_on_cuda, train_step

from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.planning.architectures import PAPER_ARCHITECTURE, TINY_ARCHITECTURE
from nnunetv2_promise.planning.memory import training_memory_gib


@dataclasses.dataclass(frozen=True)
class Case:
    """A training step to measure.

    Attributes:
        encoder: Name of SAM's encoder, or ``tiny`` for the tiny planner's network.
        patch: Edge of the cubic patch in voxels.
        batch: Patches in a step.
        checkpointing: Activation checkpointing.
        compiled: Through ``torch.compile``, as nnU-Net trains on a GPU.
    """

    encoder: str
    patch: int
    batch: int = 1
    checkpointing: bool = False
    compiled: bool = True


CASES = (
    Case("vit_b", 128, compiled=False),
    Case("vit_b", 128),
    Case("vit_b", 128, checkpointing=True, compiled=False),
    Case("vit_b", 128, checkpointing=True),
    Case("vit_b", 128, batch=2, checkpointing=True),
    Case("vit_b", 96),
    Case("vit_l", 128, checkpointing=True),
    Case("tiny", 64, batch=2),
)


COLUMNS = (
    "network",
    "patch",
    "batch",
    "checkpointing",
    "compiled",
    "planned GiB",
    "measured GiB",
    "of these tensors",
    "planned / measured",
    "seconds a step",
)


def main() -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16", help="default: %(default)s")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(Case(**json.loads(arguments.worker)), arguments.dtype)))
        return 0
    print(machine("cuda"))
    print()
    print("| " + " | ".join(COLUMNS) + " |")
    print("| " + " | ".join("---" for _ in COLUMNS) + " |")
    for case in CASES:
        print(row(case, arguments.dtype), flush=True)
    return 0


def row(case: Case, dtype: str) -> str:
    """One line of the table, measured in a new process."""
    worker = ["--worker", json.dumps(dataclasses.asdict(case)), "--dtype", dtype]
    done = subprocess.run([sys.executable, str(Path(__file__).resolve()), *worker], stdout=subprocess.PIPE, text=True)
    planned = planned_gib(case)
    yes_or_no = ("yes" if part else "no" for part in (case.checkpointing, case.compiled))
    parts = [case.encoder, f"{case.patch}^3", case.batch, *yes_or_no]
    if done.returncode:
        parts += [f"{planned:.1f}", "failed", "-", "-", "-"]
    else:
        found = json.loads(done.stdout.splitlines()[-1])
        measured = f"{found['taken']:.1f}", f"{found['gib']:.1f}", f"{planned / found['taken']:.2f}"
        parts += [f"{planned:.1f}", *measured, f"{found['seconds']:.3g}"]
    return "| " + " | ".join(str(part) for part in parts) + " |"


def architecture(case: Case) -> dict[str, Any]:
    """The planner's ``arch_kwargs``."""
    return TINY_ARCHITECTURE if case.encoder == "tiny" else {**PAPER_ARCHITECTURE, "encoder": case.encoder}


def planned_gib(case: Case) -> float:
    """What the planner counts with."""
    return training_memory_gib(
        (case.patch,) * 3,
        architecture(case),
        batch_size=case.batch,
        activation_checkpointing=case.checkpointing,
        compiled=case.compiled,
    )


def measure(case: Case, dtype: str) -> dict[str, float]:
    """GiB that the process takes from the card at most, the part of it that tensors fill, and seconds of a step."""
    torch.manual_seed(0)
    network = ProMISe(**architecture(case), patch_size=(case.patch,) * 3, activation_checkpointing=case.checkpointing)
    if case.encoder != "tiny":
        network.freeze_pretrained()
    network.to("cuda")
    image = torch.randn(case.batch, 1, *(case.patch,) * 3, device="cuda")
    points = torch.full((case.batch, 1, 3), case.patch / 2, device="cuda")
    step = train_step(network, torch.compile(network) if case.compiled else network, image, points)
    with autocast("cuda", dtype):
        found = measure_on_cuda(step)
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    return {
        "taken": (context + torch.cuda.max_memory_reserved()) / GIB,
        "gib": torch.cuda.max_memory_allocated() / GIB,
        "seconds": found["seconds"],
    }


if __name__ == "__main__":
    sys.exit(main())
