"""Compare the package's network with the plain formulation: seconds and peak memory, one process for each number.

    python benchmarks/network.py --device cpu
    python benchmarks/network.py --device cuda --dtypes fp32 fp16 bf16 --modes eager compiled

Needs the installed package and the repository's ``tests`` folder, which holds the plain formulation. On the CPU at
ViT-B and 128^3 it takes some 20 minutes on two cores and up to 20 GB of memory; ``--train-depth`` lowers both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from network_worker import DTYPES, Measurement

WORKER = Path(__file__).with_name("network_worker.py")
TASKS = {
    "encoder": "image encoder, forward",
    "train": "train step",
    "checkpointed": "train step, ours with activation checkpointing",
    "click": "patch and first click",
    "tenth": "tenth click on it",
}


def main() -> int:
    """Measure and print a Markdown table."""
    arguments = parse()
    print(machine(arguments.device))
    print()
    print("| task | precision | plain | ours | time ratio | memory ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for task in arguments.tasks:
        for dtype in arguments.dtypes:
            for mode in arguments.modes:
                plain, ours = (run(what) for what in pair(arguments, task, dtype, compiled=mode == "compiled"))
                print(row(task, arguments, f"{dtype}, {mode}", plain, ours), flush=True)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoder", choices=("vit_b", "vit_l", "vit_h"), default="vit_b")
    parser.add_argument("--patch", type=int, default=128, help="edge of the patch in voxels (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=12, help="blocks of the encoder (default: %(default)s)")
    parser.add_argument("--train-depth", type=int, help="blocks in the train step, where memory is short")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES), default=["fp32"])
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager"])
    return parser.parse_args()


def pair(arguments: argparse.Namespace, task: str, dtype: str, *, compiled: bool) -> Iterator[Measurement]:
    """The plain measurement and ours."""
    checkpointing = task == "checkpointed"
    trains = task in ("train", "checkpointed")
    depth = arguments.train_depth if trains and arguments.train_depth else arguments.depth
    shared = Measurement(
        implementation="plain",
        task="train" if trains else task,
        device=arguments.device,
        dtype=dtype,
        compiled=compiled,
        encoder=arguments.encoder,
        depth=depth,
        patch=arguments.patch,
    )
    yield shared
    yield dataclasses.replace(shared, implementation="ours", checkpointing=checkpointing)


def run(what: Measurement) -> dict[str, float] | None:
    """Measure in a new process; None if that ran out of memory or failed otherwise, which stderr explains."""
    command = [sys.executable, str(WORKER), json.dumps(dataclasses.asdict(what))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def row(
    task: str,
    arguments: argparse.Namespace,
    precision: str,
    plain: dict[str, float] | None,
    ours: dict[str, float] | None,
) -> str:
    """One line of the table."""
    name = TASKS[task]
    if task in ("train", "checkpointed") and arguments.train_depth:
        name += f" ({arguments.train_depth} blocks)"
    ratios = ["-", "-"]
    if plain and ours:
        ratios = [f"{ours[key] / plain[key]:.2f}" if plain[key] > 0 else "-" for key in ("seconds", "gib")]
    return f"| {name} | {precision} | {cell(plain)} | {cell(ours)} | {ratios[0]} | {ratios[1]} |"


def cell(found: dict[str, float] | None) -> str:
    """``12.3 s, 4.56 GiB``, with the processor time where there is one."""
    if found is None:
        return "failed"
    cpu = f" ({found['cpu_seconds']:.1f} s of processor time)" if "cpu_seconds" in found else ""
    return f"{found['seconds']:.3g} s{cpu}, {found['gib']:.2f} GiB"


def machine(device: str) -> str:
    """The machine, in one sentence."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else platform.processor()
        name = f"{model}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} at the start"
    return f"{name}; PyTorch {torch.__version__}, Python {platform.python_version()}."


if __name__ == "__main__":
    sys.exit(main())
