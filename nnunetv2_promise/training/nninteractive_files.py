"""What makes a trained folder a model folder of nnInteractive: its capabilities and its licence."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.network_architectures.interactive.channels import (
    CHANNELS,
    DECAY,
    NEGATIVE_POINTS,
    POINT_RADIUS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
)
from nnunetv2_promise.planning.nninteractive_folder import INFERENCE_INFO
from nnunetv2_promise.planning.unet_settings import INTERACTIVE_KEY

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

LICENSE = "LICENSE"
_NO_LICENSE = """No licence stated: ask whoever trained this model.

Viewers show the first line of this file. Replace it by the licence under which you share the model.
"""


def inference_info(*, initial_label: bool) -> dict[str, Any]:
    """Capabilities of a model that takes points, for nnInteractive's engine.

    Args:
        initial_label: Whether the model corrects a mask that it is given.
    """
    return {
        "inference_class": "nnInteractiveInferenceSession",
        "supported_interactions": {
            "points": True,
            "scribble": False,
            "lasso": False,
            "bbox2d": False,
            "bbox3d": False,
        },
        "channel_mapping": {
            "prev_seg": PREVIOUS_MASK,
            "bbox2d": [1, 2],
            "bbox3d": [1, 2],
            "lasso": [1, 2],
            "points": [POSITIVE_POINTS, NEGATIVE_POINTS],
            "scribble": [5, 6],
        },
        "interaction_channels": CHANNELS - 1,
        "interaction_decay": DECAY,
        "point_radius": POINT_RADIUS,
        "preferred_scribble_thickness": [2, 2, 2],
        "pad_mode_image": "constant",
        "supports_initial_label": initial_label,
        "supports_zero_shot_label_refinement": initial_label,
    }


def started_from(configuration: Mapping[str, Any]) -> Path | None:
    """The model folder that a configuration's weights were taken from."""
    checkpoint = configuration.get(INTERACTIVE_KEY, {}).get("start_from")
    return None if checkpoint is None else Path(checkpoint).parent.parent


def unet_inference_info(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Capabilities of a clickable U-Net: those of the model that it was fine-tuned from, else points."""
    source = started_from(configuration)
    if source is not None and (source / INFERENCE_INFO).is_file():
        return read_json(source / INFERENCE_INFO)
    return inference_info(initial_label=True)


def write_nninteractive_files(trainer: nnUNetTrainer, info: Mapping[str, Any]) -> None:
    """Write ``inference_info.json`` and ``LICENSE`` into the model's folder; a licence that is there stays.

    Args:
        trainer: Its folder gets the files. Its checkpoints must hold the network that the plans name, key for key.
        info: Content of ``inference_info.json``.
    """
    folder = Path(trainer.output_folder_base)
    write_json(dict(info), folder / INFERENCE_INFO)
    if (folder / LICENSE).exists():
        return
    source = started_from(trainer.configuration_manager.configuration)
    with atomic_path(folder / LICENSE) as temporary:
        if source is not None and (source / LICENSE).is_file():
            shutil.copyfile(source / LICENSE, temporary)
        else:
            temporary.write_text(_NO_LICENSE, encoding="utf-8")
