"""What corrections cost: a click in an encoded patch, and a training step with several rounds.

    python benchmarks/corrections.py --device cpu --click-patch 128 --step-patch 64
    python benchmarks/corrections.py --device cuda --dtype bf16 --click-patch 128 --step-patch 128

Needs the installed package. Each number comes from a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from network import machine
from network_worker import DTYPES, autocast, measure_on_cpu, measure_on_cuda

from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.network_architectures.promise.correcting import refine_first
from nnunetv2_promise.planning.correction_settings import CorrectionSettings
from nnunetv2_promise.training.correction_rounds import CorrectionRounds, rounds_loss
from nnunetv2_promise.training.losses import ProMISeLoss
from nnunetv2_promise.training.prompt_sampling import PromptedTarget

OBJECT_POINTS, NOISE_POINTS = 10, 10
TASKS = ("first click", "further click", "plain step", "interactive step")


def main() -> int:
    """Measure, and print a Markdown table with the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="default: %(default)s")
    parser.add_argument("--encoder", default="vit_b")
    parser.add_argument("--click-patch", type=int, default=128, help="edge in voxels (default: %(default)s)")
    parser.add_argument("--step-patch", type=int, default=64, help="edge in voxels (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=5, help="rounds of a step (default: %(default)s)")
    parser.add_argument("--worker", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        with autocast(arguments.device, arguments.dtype):
            measure = measure_on_cpu if arguments.device == "cpu" else measure_on_cuda
            print(json.dumps(measure(make_task(arguments))))
        return 0
    print(machine(arguments.device))
    print()
    print("| task | seconds | GiB |")
    print("| --- | --- | --- |")
    found = {}
    for task in TASKS:
        found[task] = run(task)
        print(f"| {task} | {found[task]['seconds']:.3g} | {found[task]['gib']:.2f} |", flush=True)
    for dear, cheap in (("further click", "first click"), ("interactive step", "plain step")):
        seconds, gib = (found[dear][key] / found[cheap][key] for key in ("seconds", "gib"))
        print(f"| {dear} / {cheap} | {seconds:.3f} | {gib:.3f} |")
    return 0


def run(task: str) -> dict[str, float]:
    """Measure in a new process."""
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--worker", task]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def make_task(arguments: argparse.Namespace) -> Callable[[], None]:
    """What to time; things that are made once are made and warmed up here."""
    torch.manual_seed(0)
    clicks = arguments.worker.endswith("click")
    edge = arguments.click_patch if clicks else arguments.step_patch
    interactive = arguments.worker != "plain step"
    network = ProMISe(encoder=arguments.encoder, patch_size=(edge,) * 3, corrects=interactive)
    network.freeze_pretrained()
    network.to(arguments.device)
    image = torch.randn(1, 1, *(edge,) * 3, device=arguments.device)
    if clicks:
        return click_task(network.eval(), image, further=arguments.worker == "further click")
    return step_task(network, image, arguments.iterations if interactive else None)


def click_task(network: ProMISe, image: torch.Tensor, *, further: bool) -> Callable[[], None]:
    """The first click on a patch, its answer refined as a user gets it, or a second one on the encoded patch."""
    edge = image.shape[-1]
    points = torch.tensor([[[edge / 2] * 3, [edge / 3] * 3]], device=image.device)
    labels = torch.tensor([[1, 0]], device=image.device)
    if not further:

        def first() -> None:
            encoded, prompt = network.encode(image), {"point_labels": labels[:, :1]}
            refine_first(network, encoded, points[:, :1], network.decode(encoded, points[:, :1], **prompt), **prompt)

        return torch.no_grad()(first)
    with torch.no_grad():
        encoded = network.encode(image)
        logits = network.decode(encoded, points[:, :1])
    previous = logits[:, 1:] - logits[:, :1]
    return torch.no_grad()(lambda: network.decode(encoded, points, point_labels=labels, previous_logits=previous))


def step_task(network: ProMISe, image: torch.Tensor, iterations: int | None) -> Callable[[], None]:
    """Forward, loss, backward and AdamW on one patch with a cube in its middle; several rounds or the paper's one."""
    edge = image.shape[-1]
    target = torch.zeros(1, 1, *(edge,) * 3, dtype=torch.uint8)
    target[..., edge // 3 : 2 * edge // 3, edge // 3 : 2 * edge // 3, edge // 3 : 2 * edge // 3] = 1
    inside = torch.randint(edge // 3, 2 * edge // 3, (1, OBJECT_POINTS, 3))
    points = torch.cat([inside, torch.randint(0, edge, (1, NOISE_POINTS, 3))], dim=1)
    none = torch.zeros(1, 0, *(edge,) * 3, dtype=torch.uint8)
    parts = target, torch.zeros(1).long(), points, none, torch.zeros(1, 0).long()
    target, label, points, none, others = (part.to(image.device) for part in parts)
    prompted = PromptedTarget(target, label, points, none, others)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=4e-4)
    loss = ProMISeLoss()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        if iterations is None:
            total = loss(network(image, points), target)
        else:
            settings = CorrectionSettings(iterations=iterations)
            rounds = CorrectionRounds(prompted, OBJECT_POINTS, settings, np.random.default_rng(0))
            total = rounds_loss(rounds(network, network.encode(image)), rounds, loss)
        total.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.exit(main())
