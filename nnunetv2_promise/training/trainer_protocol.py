"""What this room needs of the trainers above it, so that it does not import them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch


class PromptTraining(Protocol):
    """A trainer of a promptable network, as ``ProMISeTrainer`` is one; the names are nnU-Net's where it has them."""

    plans_manager: Any
    configuration_manager: Any
    configuration_name: str
    dataset_json: dict[str, Any]
    label_manager: Any
    fold: int
    device: torch.device
    is_ddp: bool
    local_rank: int
    logger: Any
    print_to_log_file: Callable[..., None]
    dataset_class: Any

    output_folder: str
    output_folder_base: str
    preprocessed_dataset_folder: str
    preprocessed_dataset_folder_base: str

    current_epoch: int
    num_epochs: int
    num_iterations_per_epoch: int
    batch_size: int
    initial_lr: float
    oversample_foreground_percent: float
    probabilistic_oversampling: bool
    do_split: Callable[[], tuple[list[str], list[str]]]
    get_tr_and_val_datasets: Callable[[], tuple[Any, Any]]
    get_training_transforms: Callable[..., Any]
    _get_deep_supervision_scales: Callable[[], Any]
    get_validation_transforms: Callable[..., Any]
    configure_rotation_dummyDA_mirroring_and_inital_patch_size: Callable[[], tuple[Any, ...]]  # noqa: N815

    inference_allowed_mirroring_axes: tuple[int, ...] | None

    seed: int
    target: str
    boundary_weight: float
    object_points: int
    random_points: int
    length_in_words: Callable[[], str]

    @property
    def prompted_network(self) -> Any:
        """The network without wrappers: a ``PromptedNetwork``."""
