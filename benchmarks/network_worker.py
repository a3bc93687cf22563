"""One measurement of one network, in a process of its own so that its peak memory is its own.

``network.py`` starts it; it prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracle_network import PlainProMISe

from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.network_architectures.promise.options import SAM_ENCODERS
from nnunetv2_promise.training.losses import ProMISeLoss

GIB = 2**30
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CUDA_WARM_UPS, CUDA_REPEATS = 3, 10
CLICKS = 10


@dataclass(frozen=True)
class Measurement:
    """What to measure.

    Attributes:
        implementation: ``ours`` or ``plain``.
        task: ``encoder`` (forward, no gradient), ``train`` (forward, loss, backward, AdamW), ``click`` (a patch and its
            first click) or ``tenth`` (the tenth click on that patch).
        device: ``cpu`` or ``cuda``.
        dtype: ``fp32``, or autocast to ``fp16`` or ``bf16``.
        compiled: Through ``torch.compile``.
        checkpointing: Activation checkpointing; ours only.
        encoder: Name of SAM's encoder.
        depth: Blocks of it that are built.
        patch: Edge of the cubic patch in voxels.
    """

    implementation: str
    task: str
    device: str = "cpu"
    dtype: str = "fp32"
    compiled: bool = False
    checkpointing: bool = False
    encoder: str = "vit_b"
    depth: int = 12
    patch: int = 128


def build(what: Measurement) -> nn.Module:
    """The network with random weights; what comes from SAM is frozen."""
    torch.manual_seed(0)
    sizes = dataclasses.asdict(SAM_ENCODERS[what.encoder])
    sizes["global_attn_indexes"] = [index for index in sizes["global_attn_indexes"] if index < what.depth]
    sizes["depth"] = what.depth
    options = {"encoder": sizes, "patch_size": (what.patch,) * 3}
    ours = ProMISe(**options, activation_checkpointing=what.checkpointing)
    ours.freeze_pretrained()
    if what.implementation == "ours":
        return ours.to(what.device)
    plain = PlainProMISe(**options)
    plain.load_state_dict(ours.state_dict())
    frozen = {f"image_encoder.{name}" for name in ours.pretrained_parameters()}
    for name, parameter in plain.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return plain.to(what.device)


def make_task(what: Measurement, network: nn.Module) -> Callable[[], None]:
    """What to time."""
    image = torch.randn(1, 1, *(what.patch,) * 3, device=what.device)
    points = torch.full((1, 1, 3), what.patch / 2, device=what.device)
    compiled = torch.compile(network) if what.compiled else network
    if what.task == "train":
        return train_step(network, compiled, image, points)
    network.eval()
    if what.task == "encoder":
        encoder = torch.compile(network.image_encoder) if what.compiled else network.image_encoder
        ordered = image.permute(0, 1, 3, 4, 2) if what.implementation == "ours" else image
        return torch.no_grad()(lambda: encoder(ordered))
    if what.task == "click" or what.implementation == "plain":  # the plain network starts again for each click
        return torch.no_grad()(lambda: compiled(image, points))
    with torch.no_grad(), autocast(what.device, what.dtype):
        encoded = network.encode(image)
        for _ in range(CLICKS - 1):
            network.decode(encoded, points)
    return torch.no_grad()(lambda: network.decode(encoded, points))


def train_step(network: nn.Module, compiled: nn.Module, image: Tensor, points: Tensor) -> Callable[[], None]:
    """Forward, the paper's loss, backward and AdamW on one patch with a cube in its middle."""
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=4e-4)
    loss = ProMISeLoss()
    target = torch.zeros_like(image, dtype=torch.int16)
    inner = slice(image.shape[-1] // 2 - 8, image.shape[-1] // 2 + 8)
    target[..., inner, inner, inner] = 1

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(compiled(image, points), target).backward()
        optimizer.step()

    return step


def autocast(device: str, dtype: str) -> torch.autocast:
    """The precision that is measured."""
    return torch.autocast(device, dtype=DTYPES[dtype], enabled=dtype != "fp32")


def measure(what: Measurement) -> dict[str, float]:
    """Seconds (the median, on the GPU) and peak memory in GiB net of the weights and the input."""
    network = build(what)
    run = make_task(what, network)
    with autocast(what.device, what.dtype):
        return measure_on_cpu(run) if what.device == "cpu" else measure_on_cuda(run)


def measure_on_cuda(run: Callable[[], None]) -> dict[str, float]:
    """Warm-ups, then the median of several runs, and peak memory from PyTorch's own count."""
    for _ in range(CUDA_WARM_UPS):
        run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = []
    for _ in range(CUDA_REPEATS):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = (torch.cuda.max_memory_allocated() - before) / GIB
    return {"seconds": statistics.median(seconds), "gib": peak}


def measure_on_cpu(run: Callable[[], None]) -> dict[str, float]:
    """One run, since it takes minutes: wall seconds, processor seconds, and peak memory from Linux's own count."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
    before = resident_kib("VmRSS")
    used = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {"seconds": seconds, "gib": (resident_kib("VmHWM") - before) / 2**20, "cpu_seconds": cpu_seconds}


def resident_kib(field: str) -> int:
    """A field of ``/proc/self/status`` in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


if __name__ == "__main__":
    print(json.dumps(measure(Measurement(**json.loads(sys.argv[1])))))
