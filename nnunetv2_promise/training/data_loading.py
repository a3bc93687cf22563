"""nnU-Net's patches: those on foreground centred as patches are at prediction, each case once in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunetv2_promise.inference.placement import move_inside
from nnunetv2_promise.training.case_order import CaseOrder
from nnunetv2_promise.training.trainer_protocol import PromptTraining


class CentredDataLoader(nnUNetDataLoader):
    """nnU-Net's loader, except for where patches lie and which case comes next.

    Foreground patches lie as patches do at prediction: their voxel is in the middle even at the scan's border, with
    zeros beyond it (paper, section 3.1), or they are moved inside the scan. nnU-Net does half of either. Where an order
    of cases is given, an epoch has each case once (paper, section 3.1); nnU-Net draws with replacement.
    """

    need_to_pad: np.ndarray
    order: CaseOrder | None = None
    inside: bool = False
    workers: int = 1

    def get_indices(self) -> list[str]:
        """The cases of the next batch."""
        if self.order is None:
            return super().get_indices()
        return self.order.next_batch(self.thread_id, self.workers)

    def get_bbox(
        self, data_shape: np.ndarray, force_fg: bool, class_locations: dict | None, *args: Any, **kwargs: Any
    ) -> tuple[list[int], list[int]]:
        """Half-open box of a patch; see nnU-Net."""
        if not force_fg or not any(len(voxels) for voxels in (class_locations or {}).values()):
            return super().get_bbox(data_shape, force_fg, class_locations, *args, **kwargs)
        padding = self.need_to_pad
        self.need_to_pad = padding + 2 * np.array(self.patch_size)  # room on every side, so that nothing shifts
        try:
            lower, upper = super().get_bbox(data_shape, force_fg, class_locations, *args, **kwargs)
        finally:
            self.need_to_pad = padding
        if not self.inside:
            return lower, upper
        # Augmentation cuts the final patch from the middle of this one: that patch has to lie in the scan.
        margin = (np.array(self.patch_size) - self.final_patch_size) // 2
        lower = (move_inside(lower + margin, self.final_patch_size, data_shape) - margin).tolist()
        return lower, [begin + length for begin, length in zip(lower, self.patch_size, strict=True)]


def make_dataloaders(
    trainer: PromptTraining,
    loader_class: Callable[..., CentredDataLoader] = CentredDataLoader,
    order_of: Callable[[list[str]], CaseOrder] | None = None,
    *,
    inside: bool = False,
) -> tuple[Any, Any]:
    """Loaders of training and validation patches, set up as ``nnUNetTrainer.get_dataloaders`` sets up its own.

    Args:
        trainer: Gives datasets, sizes and augmentation.
        loader_class: Makes a loader.
        order_of: Makes the order in which the cases come; None draws them with replacement.
        inside: Whether patches on foreground are moved inside the scan.
    """
    patch_size = trainer.configuration_manager.patch_size
    rotation, dummy_2d, initial_patch_size, mirror_axes = (
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    )
    labels = {
        "foreground_labels": trainer.label_manager.foreground_labels,
        "ignore_label": trainer.label_manager.ignore_label,
    }
    scales = trainer._get_deep_supervision_scales()
    augment = trainer.get_training_transforms(
        patch_size,
        rotation,
        scales,
        mirror_axes,
        dummy_2d,
        use_mask_for_norm=trainer.configuration_manager.use_mask_for_norm,
        **labels,
    )
    plain = trainer.get_validation_transforms(scales, **labels)
    processes = get_allowed_n_proc_DA()
    loaders = []
    for dataset, size, transforms, share in zip(
        trainer.get_tr_and_val_datasets(), (initial_patch_size, patch_size), (augment, plain), (1, 2), strict=True
    ):
        loader = loader_class(
            dataset,
            trainer.batch_size,
            size,
            patch_size,
            trainer.label_manager,
            oversample_foreground_percent=trainer.oversample_foreground_percent,
            probabilistic_oversampling=trainer.probabilistic_oversampling,
            transforms=transforms,
        )
        loader.order = order_of(dataset.identifiers) if order_of else None
        loader.inside = inside
        loader.workers = max(1, processes // share)
        loaders.append(_augmenter(loader, pin_memory=trainer.device.type == "cuda"))
        next(loaders[-1])
    return loaders[0], loaders[1]


def _augmenter(loader: CentredDataLoader, *, pin_memory: bool) -> Any:
    if get_allowed_n_proc_DA() == 0:
        return SingleThreadedAugmenter(loader, None)
    return NonDetMultiThreadedAugmenter(
        data_loader=loader,
        transform=None,
        num_processes=loader.workers,
        num_cached=max(3, loader.workers),
        seeds=None,
        pin_memory=pin_memory,
        wait_time=0.002,
    )
