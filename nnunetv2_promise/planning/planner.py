"""The planners: spacing, patch, window, batch and memory from the fingerprint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from nnunetv2_promise.dataset.environment import nnunet_folder
from nnunetv2_promise.dataset.existing import refuse_regions
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.planning.architectures import NETWORK_CLASS, PAPER_ARCHITECTURE
from nnunetv2_promise.planning.click_meaning import meaning_of_clicks
from nnunetv2_promise.planning.fingerprint import OBJECTS_KEY, foreground_values
from nnunetv2_promise.planning.fitting import Choice, FittedPatch, MemoryBudget, fit_patch, shrink
from nnunetv2_promise.planning.prompt_settings import Placement
from nnunetv2_promise.planning.sizes import (
    MIN_PATCH,
    ObjectSizes,
    isotropic_spacing_mm,
    patch_that_holds,
    window_size,
)

_logger = logging.getLogger(__name__)

CONFIGURATION = "3d_fullres"
PAPER_PATCH = 128
CT_SPACING_MM = 1.0
_COARSENING = 1.1


class ProMISePlanner(ExperimentPlanner):
    """Plans ProMISe as in the paper: SAM's ViT-B; for CT 1 mm isotropic voxels and patches of 128^3.

    Other data gets an isotropic spacing and a patch from the sizes of its objects and images. Batch size, activation
    checkpointing and, if need be, patch and spacing follow the GPU memory target.

    Args:
        dataset_name_or_id: As in nnU-Net.
        gpu_memory_target_in_gb: GPU memory that training may take.
        preprocessor_name: As in nnU-Net.
        plans_name: Name of the plans file; the class's own name for it if None.
        overwrite_target_spacing: Spacing (z, y, x) in mm instead of the planned one.
        suppress_transpose: Ignored; axes are never transposed, so that prompts keep their axes.

    Raises:
        UserError: If the images are 2D, the fingerprint lists no objects, or the memory target is too small.
    """

    default_plans_name: ClassVar[str] = "ProMISePlans"
    architecture: ClassVar[dict[str, Any]] = PAPER_ARCHITECTURE
    sam_checkpoint: ClassVar[str | None] = "vit_b"
    initial_lr: ClassVar[float] = 4e-4
    foreground_share: ClassVar[float] = 0.5
    placement: ClassVar[Placement] = "centred"
    corrections: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = True,
    ) -> None:
        """Load dataset and fingerprint."""
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name or self.default_plans_name,
            overwrite_target_spacing,
            suppress_transpose=True,
        )
        refuse_regions(self.dataset_json["labels"], Path(self.raw_dataset_folder) / "dataset.json")
        if OBJECTS_KEY not in self.dataset_fingerprint:
            remedy = "make it with nnUNetv2_promise_plan_and_preprocess"
            raise UserError(f"The fingerprint of {self.dataset_name} lists no objects; {remedy}.")
        self.objects = ObjectSizes(self.dataset_fingerprint[OBJECTS_KEY])
        self.spacings_mm = np.vstack(self.dataset_fingerprint["spacings"])
        self.shapes = np.vstack(self.dataset_fingerprint["shapes_after_crop"])
        if np.median(self.shapes[:, 0]) <= 1:
            raise UserError(f"The images of {self.dataset_name} are 2D; ProMISe segments volumes.")

    @property
    def is_ct(self) -> bool:
        """Whether every channel is a CT."""
        return all(name.casefold() == "ct" for name in self._channel_names.values())

    @property
    def _channel_names(self) -> dict[str, str]:
        return self.dataset_json["channel_names"]

    @property
    def budget(self) -> MemoryBudget:
        """The memory target for this network, which nnU-Net compiles on a GPU."""
        return MemoryBudget(self.UNet_vram_target_GB, self.architecture, len(self._channel_names), compiled=True)

    @cached_property
    def choice(self) -> Choice:
        """What ``choose`` decides, once for each plan."""
        return self.choose()

    def choose(self) -> Choice:
        """Decide on spacing, patch, batch and activation checkpointing."""
        spacing, reasons, fixed = self._choose_spacing()
        if self.is_ct:
            wanted = [PAPER_PATCH] * 3
            reasons.append("Patch 128 x 128 x 128 voxels as in the paper, since this is CT.")
        else:
            wanted = self._patch_for(spacing, usual=PAPER_PATCH)
        if not fixed:
            spacing, wanted = self._coarsen(spacing, wanted, reasons)
        # A fixed spacing may not hold the largest objects; prediction then uses several patches.
        smallest = self._patch_for(spacing, usual=MIN_PATCH) if not fixed else [MIN_PATCH] * 3
        fitted = fit_patch(wanted, smallest, self.budget)
        if not self.is_ct:
            reasons.append(self._patch_reason(fitted.patch_size, spacing))
        batch_size, reason = self._choose_batch_size(fitted)
        return Choice(spacing, fitted, batch_size, [*reasons, *fitted.reasons, reason])

    def determine_fullres_target_spacing(self) -> np.ndarray:
        """(3,) spacing in mm (z, y, x)."""
        return np.array(self.choice.spacing_mm)

    def get_plans_for_configuration(
        self,
        spacing: np.ndarray | Sequence[float],
        median_shape: np.ndarray | Sequence[int],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        """The configuration ``3d_fullres``; spacing, patch and batch are those of ``choose``."""
        choice = self.choice
        data_fn, data_kwargs, seg_fn, seg_kwargs = self.determine_resampling()
        export_fn, export_kwargs = self.determine_segmentation_softmax_export_fn()
        schemes, use_mask = self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        return {
            "data_identifier": data_identifier,
            "preprocessor_name": self.preprocessor_name,
            "batch_size": choice.batch_size,
            "patch_size": choice.fitted.patch_size,
            "median_image_size_in_voxels": list(median_shape),
            "spacing": list(spacing),
            "normalization_schemes": schemes,
            "use_mask_for_norm": use_mask,
            "resampling_fn_data": data_fn.__name__,
            "resampling_fn_seg": seg_fn.__name__,
            "resampling_fn_data_kwargs": data_kwargs,
            "resampling_fn_seg_kwargs": seg_kwargs,
            "resampling_fn_probabilities": export_fn.__name__,
            "resampling_fn_probabilities_kwargs": export_kwargs,
            "architecture": self._architecture_plans(choice.fitted),
            "batch_dice": False,
            "promise": self._promise_plans(choice),
        }

    def plan_experiment(self) -> dict[str, Any]:
        """Write the plans and a copy of ``dataset.json`` to ``nnUNet_preprocessed``; returns the plans."""
        spacing = self.determine_fullres_target_spacing()
        median_shape = np.median(self._shapes_at(spacing), axis=0)
        voxels = float(np.prod(median_shape) * len(self.shapes))
        configuration = self.get_plans_for_configuration(
            spacing, median_shape, self.generate_data_identifier(CONFIGURATION), voxels, {}
        )
        for reason in configuration["promise"]["reasons"]:
            _logger.info("%s", reason)
        forward, backward = self.determine_transpose()
        self.plans = {
            "dataset_name": self.dataset_name,
            "plans_name": self.plans_identifier,
            "original_median_spacing_after_transp": np.median(self.spacings_mm, axis=0).tolist(),
            "original_median_shape_after_transp": np.median(self.shapes, axis=0).round().astype(int).tolist(),
            "image_reader_writer": self.determine_reader_writer().__name__,
            "transpose_forward": forward,
            "transpose_backward": backward,
            "configurations": {CONFIGURATION: configuration},
            "experiment_planner_used": type(self).__name__,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": self.dataset_fingerprint[
                "foreground_intensity_properties_per_channel"
            ],
        }
        self._copy_dataset_json()
        self.save_plans(self.plans)
        return self.plans

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans; configurations that a user added to the file stay, as in nnU-Net."""
        recursive_fix_for_json_export(plans)
        file = self._preprocessed_folder / f"{self.plans_identifier}.json"
        if file.is_file():
            for name, configuration in read_json(file)["configurations"].items():
                plans["configurations"].setdefault(name, configuration)
        write_json(plans, file)
        _logger.info("Wrote %s.", file)

    def _choose_spacing(self) -> tuple[list[float], list[str], bool]:
        """Spacing, reasons, and whether it must stay as it is."""
        if self.overwrite_target_spacing is not None:
            return list(self.overwrite_target_spacing), ["Spacing as given on the command line."], True
        if self.is_ct:
            return [CT_SPACING_MM] * 3, ["Spacing 1 mm isotropic as in the paper, since this is CT."], True
        spacing, reason = isotropic_spacing_mm(self.spacings_mm, self.objects.small_mm(10))
        return [spacing] * 3, [reason], False

    def _coarsen(self, spacing: list[float], wanted: list[int], reasons: list[str]) -> tuple[list[float], list[int]]:
        """Coarsen the spacing until a patch that holds large objects fits the memory target."""
        planned = spacing[0]
        while self._too_large(spacing) and spacing[0] < 10 * planned:
            spacing = [float(f"{_COARSENING * edge:.3g}") for edge in spacing]
            wanted = self._patch_for(spacing, usual=PAPER_PATCH)
        if spacing[0] != planned:
            reasons.append(
                f"Spacing made coarser, {spacing[0]:g} mm, so that a patch that holds large objects fits the memory."
            )
        return spacing, wanted

    def _too_large(self, spacing: list[float]) -> bool:
        holding = self._patch_for(spacing, usual=MIN_PATCH)
        return shrink(holding, holding, self.budget) is None

    def _patch_for(self, spacing: Sequence[float], *, usual: int, maximum: int | None = None) -> list[int]:
        objects = self.objects.large_mm(99) / np.array(spacing)
        image = np.median(self._shapes_at(spacing), axis=0)
        return patch_that_holds(objects, image, usual=usual, maximum=maximum)

    def _patch_reason(self, patch: Sequence[int], spacing: Sequence[float]) -> str:
        objects = np.ceil(self.objects.large_mm(99) / np.array(spacing))
        image = np.median(self._shapes_at(spacing), axis=0)
        reason = f"Patch {times(patch)} voxels: 99 % of the objects are no larger than {times(objects)}"
        return f"{reason}, and the median image has {times(image)}."

    def _choose_batch_size(self, fitted: FittedPatch) -> tuple[int, str]:
        if self.is_ct:
            return 1, "Batch size 1 as in the paper."
        room = self.budget.fits(
            fitted.patch_size, batch_size=2, activation_checkpointing=fitted.activation_checkpointing
        )
        if room and not fitted.activation_checkpointing:
            return 2, "Batch size 2: the memory target has room for it."
        return 1, "Batch size 1 as in the paper: the memory target has no room for 2."

    def _shapes_at(self, spacing: Sequence[float] | np.ndarray) -> np.ndarray:
        """(N, 3) image sizes in voxels after resampling."""
        pairs = zip(self.shapes, self.spacings_mm, strict=True)
        return np.array([compute_new_shape(shape, old, spacing) for shape, old in pairs])

    def _architecture_plans(self, fitted: FittedPatch) -> dict[str, Any]:
        arch_kwargs = {
            **self.architecture,
            "patch_size": fitted.patch_size,
            "labels": len(foreground_values(self.dataset_json["labels"])),
            "activation_checkpointing": fitted.activation_checkpointing,
        }
        return {"network_class_name": NETWORK_CLASS, "arch_kwargs": arch_kwargs, "_kw_requires_import": []}

    def _promise_plans(self, choice: Choice) -> dict[str, Any]:
        largest = self.objects.large_mm(99.5) / np.array(choice.spacing_mm)
        window = window_size(largest, np.median(self._shapes_at(choice.spacing_mm), axis=0), choice.fitted.patch_size)
        reason = (
            f"Window {times(window)} voxels around a prompt: twice the largest objects ({times(np.ceil(largest))}), "
            "within the image, one to two patches."
        )
        target, meaning = meaning_of_clicks(self.dataset_fingerprint[OBJECTS_KEY])
        return {
            "window_size": window,
            "target": target,
            "placement": self.placement,
            **({"interactive": self.corrections} if self.corrections else {}),
            "sam_checkpoint": self.sam_checkpoint,
            "initial_lr": self.initial_lr,
            "foreground_share": self.foreground_share,
            "reasons": [*choice.reasons, reason, *meaning],
        }

    @property
    def _preprocessed_folder(self) -> Path:
        return nnunet_folder("nnUNet_preprocessed") / self.dataset_name

    def _copy_dataset_json(self) -> None:
        with atomic_path(self._preprocessed_folder / "dataset.json") as temporary:
            temporary.write_bytes((Path(self.raw_dataset_folder) / "dataset.json").read_bytes())


def times(sizes: Sequence[int] | np.ndarray) -> str:
    """``128 x 128 x 64``."""
    return " x ".join(str(int(size)) for size in sizes)
