"""Planners of models that nnInteractive's engine can drive: voxels as they are, intensities by z-score."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning.architectures import CLICKABLE_CLASS
from nnunetv2_promise.planning.fitting import FittedPatch
from nnunetv2_promise.planning.planner import ProMISePlanner
from nnunetv2_promise.planning.prompt_settings import Placement
from nnunetv2_promise.planning.tiny_planner import ProMISeTinyPlanner

if TYPE_CHECKING:
    _Planner = ProMISePlanner
else:
    _Planner = object


class VoxelSpacePlanning(_Planner):
    """What the interactive planners change: nothing is resampled, every channel is normalised by its own z-score.

    That is what nnInteractive's engine feeds a network with. Sizes are planned for the dataset's median spacing.
    """

    def determine_resampling(self, *args: Any, **kwargs: Any) -> tuple[Callable, dict, Callable, dict]:
        """nnU-Net's functions that leave images and labels as they are."""
        return no_resampling_hack, {}, no_resampling_hack, {}

    def determine_segmentation_softmax_export_fn(self, *args: Any, **kwargs: Any) -> tuple[Callable, dict]:
        """nnU-Net's function that leaves logits as they are."""
        return no_resampling_hack, {}

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """Z-score for every channel, over all voxels."""
        channels = len(self.dataset_json["channel_names"])
        return ["ZScoreNormalization"] * channels, [False] * channels

    def _architecture_plans(self, fitted: FittedPatch) -> dict[str, Any]:
        """The network as nnInteractive's engine builds it; our trainers build what is inside."""
        return {**super()._architecture_plans(fitted), "network_class_name": CLICKABLE_CLASS}

    def _voxel_spacing(self) -> tuple[list[float], list[str]]:
        if self.overwrite_target_spacing is not None:
            raise UserError(
                f"{type(self).__name__} keeps voxels as they are, so a target spacing has no meaning; leave out "
                "-overwrite_target_spacing or use a planner that resamples."
            )
        median = np.median(self.spacings_mm, axis=0).tolist()
        reason = "Voxels stay as they are, so that nnInteractive's engine can use the model; sizes are planned for "
        return median, [f"{reason}the median spacing of {' x '.join(f'{edge:.3g}' for edge in median)} mm."]


class ProMISeInteractivePlanner(VoxelSpacePlanning, ProMISePlanner):
    """Plans ProMISe on SAM's ViT-B for ``ProMISeInteractiveTrainer`` and nnInteractive's engine."""

    default_plans_name: ClassVar[str] = "ProMISeInteractivePlans"

    def _choose_spacing(self) -> tuple[list[float], list[str], bool]:
        spacing, reasons = self._voxel_spacing()
        return spacing, reasons, True


class ProMISeInteractiveTinyPlanner(VoxelSpacePlanning, ProMISeTinyPlanner):
    """Plans a small ViT that trains from scratch, for ``ProMISeInteractiveTrainer`` and nnInteractive's engine."""

    default_plans_name: ClassVar[str] = "ProMISeInteractiveTinyPlans"
    placement: ClassVar[Placement] = "centred"  # as nnInteractive's engine places its patches

    def _tiny_spacing(self) -> tuple[list[float], list[str]]:
        return self._voxel_spacing()
