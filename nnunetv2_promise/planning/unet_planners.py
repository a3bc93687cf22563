"""Planners of clickable U-Nets: nnU-Net's own topology rules, in voxel space, for nnInteractive's engine."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunetv2_promise.dataset.environment import nnunet_folder
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.network_architectures.interactive.channels import CHANNELS
from nnunetv2_promise.planning.interactive_planners import VoxelSpacePlanning
from nnunetv2_promise.planning.nninteractive_folder import OUTPUTS, NNInteractiveFolder, read_nninteractive_folder
from nnunetv2_promise.planning.planner import CONFIGURATION, times
from nnunetv2_promise.planning.prompt_settings import INSIDE_REASON
from nnunetv2_promise.planning.unet_settings import CLICKABLE_UNET, INTERACTIVE_KEY, UNETS

_logger = logging.getLogger(__name__)


class UNetPlanning(VoxelSpacePlanning):
    """What our U-Net planners change in nnU-Net's: voxel space, 3D only, a clickable network.

    Args:
        dataset_name_or_id: As in nnU-Net.
        gpu_memory_target_in_gb: GPU memory that training may take; the class's default if None.
        preprocessor_name: As in nnU-Net.
        plans_name: Name of the plans file; the class's own name for it if None.
        overwrite_target_spacing: Refused: voxels stay as they are.
        suppress_transpose: Ignored; axes are never transposed.
        start_from: A model folder of nnInteractive's form, whose architecture, patch and weights are taken over.

    Raises:
        UserError: If the images are 2D, or ``start_from`` does not fit.
    """

    default_plans_name: ClassVar[str]
    default_memory_gb: ClassVar[float] = 8
    prompts: ClassVar[str] = "decoder"

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float | None = None,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = True,
        *,
        start_from: Path | None = None,
    ) -> None:
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb or self.default_memory_gb,
            preprocessor_name,
            plans_name or self.default_plans_name,
            overwrite_target_spacing,
            suppress_transpose=True,
        )
        self.spacings_mm = np.vstack(self.dataset_fingerprint["spacings"])
        self.lowres_creation_threshold = 0  # no 3d_lowres: nothing is resampled
        if np.median(np.vstack(self.dataset_fingerprint["shapes_after_crop"])[:, 0]) <= 1:
            raise UserError(f"The images of {self.dataset_name} are 2D; InteractiveUNet segments volumes.")
        self.start = None if start_from is None else read_nninteractive_folder(Path(start_from))
        if self.start is not None:
            _check_start(self.start, self.dataset_json)

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """(3,) median spacing in mm (z, y, x): sizes are planned for it."""
        return np.array(self._voxel_spacing()[0])

    def generate_data_identifier(self, configuration_name: str) -> str:
        """A folder of our own: nnU-Net's own data are resampled."""
        return f"{self.plans_identifier}_{configuration_name}"

    @staticmethod
    def static_estimate_VRAM_usage(  # noqa: N802 - nnU-Net's name
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> int:
        """nnU-Net's count of numbers in feature maps, of a network without weights: quick, and in one thread."""
        with torch.device("meta"):
            network = get_network_from_plans(
                arch_class_name, arch_kwargs, arch_kwargs_req_import, input_channels, output_channels, allow_init=False
            )
        return int(network.compute_conv_feature_map_size(patch_size))

    def get_plans_for_configuration(
        self,
        spacing: np.ndarray | Sequence[float],
        median_shape: np.ndarray | Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        """nnU-Net's configuration with a clickable network; nothing for 2D."""
        if len(spacing) == 2:
            return {}
        configuration = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        if self.start is None:
            configuration["architecture"] = self._clickable(configuration["architecture"])
            patch = times(configuration["patch_size"])
            batch_size = configuration["batch_size"]
            reason = f"Patch {patch} and batch size {batch_size} by nnU-Net's rules for the memory target."
            reasons = [*self._voxel_spacing()[1], reason, INSIDE_REASON]
            configuration[INTERACTIVE_KEY] = {"placement": "inside", "reasons": reasons}
            return configuration
        return configuration | self._taken_over(self.start, approximate_n_voxels_dataset)

    def plan_experiment(self) -> dict[str, Any]:
        """Write the plans and a copy of ``dataset.json`` to ``nnUNet_preprocessed``; returns the plans."""
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints configurations that we do not write
            return super().plan_experiment()

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the configuration ``3d_fullres``; configurations that a user added to the file stay, as in nnU-Net."""
        recursive_fix_for_json_export(plans)
        plans["configurations"] = {CONFIGURATION: plans["configurations"][CONFIGURATION]}
        for reason in plans["configurations"][CONFIGURATION][INTERACTIVE_KEY]["reasons"]:
            _logger.info("%s", reason)
        file = nnunet_folder("nnUNet_preprocessed") / self.dataset_name / f"{self.plans_identifier}.json"
        if file.is_file():
            for name, configuration in read_json(file)["configurations"].items():
                plans["configurations"].setdefault(name, configuration)
        write_json(plans, file)
        _logger.info("Wrote %s.", file)

    def _clickable(self, architecture: dict[str, Any]) -> dict[str, Any]:
        labels = [name for name in self.dataset_json["labels"] if name not in ("background", "ignore")]
        ours = {
            "unet": architecture["network_class_name"],
            "image_channels": len(self.dataset_json["channel_names"]),
            "labels": len(labels),
            "prompts": self.prompts,
        }
        return architecture | {"network_class_name": CLICKABLE_UNET, "arch_kwargs": ours | architecture["arch_kwargs"]}

    def _taken_over(self, start: NNInteractiveFolder, dataset_voxels: float) -> dict[str, Any]:
        """Architecture, patch and weights of another model; batch size by nnU-Net's rules, but at least 1."""
        theirs = start.configuration
        architecture = theirs.configuration["architecture"]
        needed = self.static_estimate_VRAM_usage(
            tuple(theirs.patch_size),
            start.image_channels + CHANNELS,
            OUTPUTS,
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
        )
        room = self.UNet_reference_val_3d * self.UNet_vram_target_GB / self.UNet_reference_val_corresp_GB
        fitting = self.UNet_reference_val_corresp_bs_3d * room / needed
        if fitting < 1:
            _logger.warning(
                "A patch of %s voxels needs about %.0f GB of GPU memory, more than the memory target of %g GB.",
                times(theirs.patch_size),
                self.UNet_vram_target_GB / fitting,
                self.UNet_vram_target_GB,
            )
        varied = round(dataset_voxels * self.max_dataset_covered / np.prod(theirs.patch_size, dtype=np.float64))
        return {
            "architecture": architecture,
            "patch_size": list(theirs.patch_size),
            "batch_size": max(1, min(int(fitting), max(varied, self.UNet_min_batch_size))),
            INTERACTIVE_KEY: {
                "start_from": str(start.checkpoint.resolve()),
                "reasons": [f"Architecture, patch and weights are those of {start.path}."],
            },
        }


class InteractiveUNetPlanner(UNetPlanning, ExperimentPlanner):
    """Plans nnU-Net's PlainConvUNet, clickable, for ``InteractiveUNetTrainer``."""

    default_plans_name = "InteractiveUNetPlans"


class InteractiveUNetTinyPlanner(InteractiveUNetPlanner):
    """The same for a CPU: the patch and the network of a tiny memory target."""

    default_plans_name = "InteractiveUNetTinyPlans"
    default_memory_gb = 0.2


class InteractiveUNetResEncMPlanner(UNetPlanning, nnUNetPlannerResEncM):
    """Plans nnU-Net's residual encoder preset M, clickable."""

    default_plans_name = "InteractiveUNetResEncMPlans"


class InteractiveUNetResEncLPlanner(UNetPlanning, nnUNetPlannerResEncL):
    """Plans nnU-Net's residual encoder preset L, clickable."""

    default_plans_name = "InteractiveUNetResEncLPlans"
    default_memory_gb = 24


class InteractiveUNetResEncXLPlanner(UNetPlanning, nnUNetPlannerResEncXL):
    """Plans nnU-Net's residual encoder preset XL, clickable."""

    default_plans_name = "InteractiveUNetResEncXLPlans"
    default_memory_gb = 40


def _check_start(start: NNInteractiveFolder, dataset_json: dict[str, Any]) -> None:
    """Check that a model can be fine-tuned on a dataset.

    Raises:
        UserError: If the architecture is not a U-Net of nnU-Net's, or the channels or labels differ.
    """
    name = start.configuration.network_arch_class_name
    if name not in (*UNETS, CLICKABLE_UNET):
        raise UserError(
            f"--start_from {start.path}: its architecture is {name.rpartition('.')[2]}, but InteractiveUNetTrainer "
            f"trains {' and '.join(known.rpartition('.')[2] for known in UNETS)} only; name another folder."
        )
    channels = len(dataset_json["channel_names"])
    if start.image_channels != channels:
        raise UserError(
            f"--start_from {start.path}: its network sees {start.image_channels} image channels, the dataset has "
            f"{channels}; name another folder."
        )
    ours = sum(label not in ("background", "ignore") for label in dataset_json["labels"])
    options = start.configuration.network_arch_init_kwargs
    if name == CLICKABLE_UNET and options["prompts"] == "decoder" and options["labels"] != ours:
        raise UserError(
            f"--start_from {start.path}: its network has heads for {options['labels']} labels, the dataset has {ours}; "
            "name another folder."
        )
