"""What a network keeps for its gradients, as the planner estimates it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.planning import memory
from nnunetv2_promise.planning.architectures import PAPER_ARCHITECTURE, TINY_ARCHITECTURE
from nnunetv2_promise.planning.fitting import MemoryBudget, fit_patch


def saved_numbers_per_token(network: ProMISe, patch: tuple[int, int, int]) -> float:
    """Numbers that autograd keeps for one forward pass, parameters left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    points = torch.full((1, 20, 3), 8.0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(torch.zeros(1, 1, *patch), points)
    del logits
    return sum(saved.values()) / np.prod([size / 4 for size in patch])


# A third of ViT-B: the blocks are those of the paper, and the test stays short.
SHALLOW = {**PAPER_ARCHITECTURE, "encoder": {"embed_dim": 768, "depth": 4, "num_heads": 12}}


@pytest.mark.parametrize(("architecture", "tolerance"), [(SHALLOW, 0.15), (TINY_ARCHITECTURE, 0.35)])
def test_memory_model_counts_what_autograd_keeps(architecture: dict[str, Any], tolerance: float) -> None:
    patch = (32, 32, 32)
    network = ProMISe(**architecture, patch_size=patch)
    if architecture is SHALLOW:
        network.freeze_pretrained()
    measured = saved_numbers_per_token(network, patch)
    needs = [
        memory.training_memory_gib(patch, architecture, batch_size=batch, activation_checkpointing=False)
        for batch in (1, 2)
    ]
    counted = (needs[1] - needs[0]) * memory.GIB / 512 / memory._ALLOCATOR_SLACK / memory._BYTES_PER_ACTIVATION
    assert counted == pytest.approx(measured, rel=tolerance)


def test_memory_of_vit_b_at_128_is_near_the_measured_numbers() -> None:
    """12 blocks of 1.64 GiB in float32 are 19.7 GiB; autocast keeps a good half, and the rest is a tenth."""
    full = memory.training_memory_gib([128] * 3, PAPER_ARCHITECTURE, batch_size=1, activation_checkpointing=False)
    assert 13 < full < 24


@pytest.mark.parametrize("encoder", ["vit_b", "vit_l", "vit_h", {"embed_dim": 96, "depth": 4, "num_heads": 3}])
def test_memory_grows_with_patch_and_batch_and_falls_with_checkpointing(encoder: Any) -> None:
    architecture = {**PAPER_ARCHITECTURE, "encoder": encoder}

    def needed(size: int, batch: int, checkpointing: bool) -> float:
        return memory.training_memory_gib(
            [size] * 3, architecture, batch_size=batch, activation_checkpointing=checkpointing
        )

    assert needed(64, 1, False) < needed(128, 1, False) < needed(128, 2, False)
    assert needed(128, 1, True) < needed(128, 1, False)


def test_fit_patch_tries_checkpointing_before_a_smaller_patch() -> None:
    wanted, smallest = [128] * 3, [32] * 3
    roomy = fit_patch(wanted, smallest, MemoryBudget(48, PAPER_ARCHITECTURE, 1))
    assert (roomy.patch_size, roomy.activation_checkpointing) == (wanted, False)
    usual = fit_patch(wanted, smallest, MemoryBudget(8, PAPER_ARCHITECTURE, 1))
    assert (usual.patch_size, usual.activation_checkpointing) == (wanted, True)
    small_budget = MemoryBudget(4, PAPER_ARCHITECTURE, 1)
    small = fit_patch(wanted, smallest, small_budget)
    assert small.activation_checkpointing
    assert small_budget.fits(small.patch_size, batch_size=1, activation_checkpointing=True)
    assert max(small.patch_size) - min(small.patch_size) <= 8
    assert 64 <= min(small.patch_size) < 128
