"""The planner for a small network that trains from scratch."""

from __future__ import annotations

from math import ceil
from typing import Any, ClassVar

import numpy as np

from nnunetv2_promise.network_architectures.promise.patch_embedding import TOKEN_VOXELS
from nnunetv2_promise.planning.architectures import TINY_ARCHITECTURE
from nnunetv2_promise.planning.fitting import Choice, FittedPatch, fit_patch
from nnunetv2_promise.planning.planner import ProMISePlanner
from nnunetv2_promise.planning.prompt_settings import INSIDE_REASON, Placement
from nnunetv2_promise.planning.sizes import (
    MIN_PATCH,
    finest_axis_mm,
    isotropic_spacing_mm,
    patch_that_holds,
    spacing_for_half_patch_mm,
)

# SAM-sized encoders attend in windows of 8 tokens.
SAM_WINDOW = 8


class ProMISeTinyPlanner(ProMISePlanner):
    """Plans a small ViT that trains from scratch: for machines without a GPU or SAM weights.

    Patches have twice the extent of large objects, so that one centred on a click anywhere in an object holds it, and
    at most 64 voxels per axis. The spacing follows objects and images for CT as well, so that large objects fill at
    most half of a patch.
    """

    default_plans_name: ClassVar[str] = "ProMISeTinyPlans"
    architecture: ClassVar[dict[str, Any]] = TINY_ARCHITECTURE
    sam_checkpoint: ClassVar[str | None] = None
    max_patch: ClassVar[int] = 64
    batch_size: ClassVar[int] = 2
    initial_lr: ClassVar[float] = 2e-3
    foreground_share: ClassVar[float] = 0.9
    placement: ClassVar[Placement] = "inside"
    # Decoding costs the small network as much as encoding: more rounds would leave too few steps.
    corrections: ClassVar[dict[str, Any]] = {"iterations": 2}

    def choose(self) -> Choice:
        """Decide on spacing and patch."""
        spacing, reasons = self._tiny_spacing()
        image = np.median(self._shapes_at(spacing), axis=0)
        twice = 2 * self.objects.large_mm(99) / np.array(spacing)
        wanted = patch_that_holds(twice, image, usual=MIN_PATCH, maximum=self.max_patch)
        fitted = fit_patch(wanted, [MIN_PATCH] * 3, self.budget, batch_size=self.batch_size)
        reasons.append(self._patch_reason(fitted.patch_size, spacing))
        reasons.append(f"At most {self.max_patch} voxels per axis and batch size {self.batch_size}: small and fast.")
        if self.placement == "inside":
            reasons.append(INSIDE_REASON)
        return Choice(spacing, fitted, self.batch_size, [*reasons, *fitted.reasons])

    def _architecture_plans(self, fitted: FittedPatch) -> dict[str, Any]:
        """Attention windows that divide the token grid with little padding; 8 tokens would pad 48 voxels to 64."""
        plans = super()._architecture_plans(fitted)
        tokens = [ceil(size / TOKEN_VOXELS) for size in fitted.patch_size]
        windows = [ceil(count / ceil(count / SAM_WINDOW)) for count in tokens]
        kwargs = plans["arch_kwargs"]
        kwargs["encoder"] = {**kwargs["encoder"], "window_size": windows}
        return plans

    def _tiny_spacing(self) -> tuple[list[float], list[str]]:
        if self.overwrite_target_spacing is not None:
            return list(self.overwrite_target_spacing), ["Spacing as given on the command line."]
        fine, reason = isotropic_spacing_mm(self.spacings_mm, self.objects.small_mm(10))
        image_mm = np.median(self.shapes * self.spacings_mm, axis=0)
        coarse = spacing_for_half_patch_mm(fine, self.objects.large_mm(95), image_mm, self.max_patch)
        coarse = max(coarse, finest_axis_mm(self.spacings_mm))
        if coarse == fine:
            return [fine] * 3, [reason]
        return [coarse] * 3, [
            f"Spacing {coarse:g} mm isotropic: 95 % of the objects fill no more than half of {self.max_patch} voxels."
        ]
