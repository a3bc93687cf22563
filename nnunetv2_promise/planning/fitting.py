"""Fitting patch, batch and spacing into the GPU memory target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning.memory import training_memory_gib
from nnunetv2_promise.planning.sizes import MIN_PATCH, PATCH_STEP


@dataclass(frozen=True)
class MemoryBudget:
    """A GPU memory target and the network that must fit.

    Attributes:
        target_gib: The target.
        arch_kwargs: See ``training_memory_gib``.
        in_channels: Image channels.
        compiled: Whether the trainer compiles the network, as nnU-Net does on a GPU.
    """

    target_gib: float
    arch_kwargs: Mapping[str, Any]
    in_channels: int
    compiled: bool = False

    def needed_gib(self, patch_size: Sequence[int], *, batch_size: int, activation_checkpointing: bool) -> float:
        """Estimated memory of training."""
        return training_memory_gib(
            patch_size,
            self.arch_kwargs,
            batch_size=batch_size,
            activation_checkpointing=activation_checkpointing,
            in_channels=self.in_channels,
            compiled=self.compiled,
        )

    def fits(self, patch_size: Sequence[int], *, batch_size: int, activation_checkpointing: bool) -> bool:
        """Whether training stays within the target."""
        needed = self.needed_gib(patch_size, batch_size=batch_size, activation_checkpointing=activation_checkpointing)
        return needed <= self.target_gib


@dataclass
class FittedPatch:
    """A patch that fits the memory target.

    Attributes:
        patch_size: Voxels (z, y, x).
        activation_checkpointing: Whether it is needed.
        reasons: What was decided and why, in plain words.
    """

    patch_size: list[int]
    activation_checkpointing: bool
    reasons: list[str] = field(default_factory=list)


@dataclass
class Choice:
    """What a planner decided.

    Attributes:
        spacing_mm: Voxel edges (z, y, x) of the preprocessed images.
        fitted: Patch and activation checkpointing.
        batch_size: Patches per step.
        reasons: In plain words, in the order of the decisions.
    """

    spacing_mm: list[float]
    fitted: FittedPatch
    batch_size: int
    reasons: list[str]


def fit_patch(
    patch_size: Sequence[int], smallest: Sequence[int], budget: MemoryBudget, *, batch_size: int = 1
) -> FittedPatch:
    """Fit a patch: as it is, else with activation checkpointing, else smaller.

    Args:
        patch_size: The wanted patch.
        smallest: Do not shrink below this.
        budget: The memory target.
        batch_size: Patches per step.

    Raises:
        UserError: If not even ``smallest`` fits.
    """
    wanted = list(patch_size)
    needed = budget.needed_gib(wanted, batch_size=batch_size, activation_checkpointing=False)
    if needed <= budget.target_gib:
        reason = f"No activation checkpointing: training needs about {needed:.1f} of {budget.target_gib:g} GB."
        return FittedPatch(wanted, False, [reason])
    patch = shrink(wanted, smallest, budget, batch_size=batch_size)
    if patch is None:
        least = budget.needed_gib(smallest, batch_size=batch_size, activation_checkpointing=True)
        raise UserError(
            f"The GPU memory target of {budget.target_gib:g} GB is too small: a patch of "
            f"{' x '.join(map(str, smallest))} voxels needs about {least:.1f} GB; raise -gpu_memory_target or use "
            "-pl ProMISeTinyPlanner."
        )
    now = budget.needed_gib(patch, batch_size=batch_size, activation_checkpointing=True)
    reasons = [
        f"Activation checkpointing: without it training needs about {needed:.1f} GB and the target is "
        f"{budget.target_gib:g} GB; with it about {now:.1f} GB."
    ]
    if patch != wanted:
        reasons.append(f"Patch made smaller than {' x '.join(map(str, wanted))} to fit the memory target.")
    return FittedPatch(patch, True, reasons)


def shrink(
    patch_size: Sequence[int], smallest: Sequence[int], budget: MemoryBudget, *, batch_size: int = 1
) -> list[int] | None:
    """The patch, shrunk along the axis with most room until it fits with activation checkpointing, or None."""
    patch = np.array(patch_size)
    lower = np.minimum(np.maximum(smallest, MIN_PATCH), patch)
    while not budget.fits(patch.tolist(), batch_size=batch_size, activation_checkpointing=True):
        room = patch / lower
        if room.max() <= 1:
            return None
        axis = int(room.argmax())
        patch[axis] = max(patch[axis] - PATCH_STEP, lower[axis])
    return patch.tolist()
