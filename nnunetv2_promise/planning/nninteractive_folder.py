"""A model folder of nnInteractive's form, read and checked without running anything that is pickled in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.network_architectures.interactive.channels import CHANNELS
from nnunetv2_promise.network_architectures.weights.weight_files import check_weights, read_weight_file

INFERENCE_INFO = "inference_info.json"
OUTPUTS = 2  # nnInteractive's networks answer with background and object


@dataclass(frozen=True)
class NNInteractiveFolder:
    """A model folder that nnInteractive's engine loads.

    Attributes:
        path: The folder.
        plans: Content of ``plans.json``.
        dataset_json: Content of ``dataset.json``.
        inference_info: Content of ``inference_info.json``.
        checkpoint: The fold's checkpoint.
        configuration_name: Configuration that the checkpoint names.
        weights: State dict of the network.
    """

    path: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    inference_info: dict[str, Any]
    checkpoint: Path
    configuration_name: str
    weights: Mapping[str, Tensor]

    @property
    def configuration(self) -> ConfigurationManager:
        """The configuration that the checkpoint names."""
        return PlansManager(self.plans).get_configuration(self.configuration_name)

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return len(self.dataset_json["channel_names"])


def is_nninteractive_folder(path: Path) -> bool:
    """Whether a model folder says what nnInteractive's engine may ask of it."""
    return (path / INFERENCE_INFO).is_file()


def read_nninteractive_folder(
    path: Path, *, fold: str | None = None, checkpoint: str = "checkpoint_final.pth"
) -> NNInteractiveFolder:
    """Read a folder, and compare the weights with the network that its plans describe.

    Args:
        path: The folder.
        fold: A number or ``"all"``; None takes the only one there is.
        checkpoint: File name in the fold's folder.

    Raises:
        UserError: If a file is missing or damaged, or the parts do not fit together; one sentence that names the file.
    """
    if not path.is_dir():
        raise UserError(f"There is no model folder {path}; correct the path.")
    if not is_nninteractive_folder(path):
        raise UserError(
            f"{path / INFERENCE_INFO} does not exist, so this is not a model folder of nnInteractive; name one that "
            "has this file, plans.json, dataset.json and fold_0."
        )
    plans, dataset_json, info = (read_json(path / name) for name in ("plans.json", "dataset.json", INFERENCE_INFO))
    file = fold_folder(path, fold, checkpoint) / checkpoint
    content = read_weight_file(file)
    for key in ("trainer_name", "init_args", "network_weights"):
        if not isinstance(content, dict) or key not in content:
            raise UserError(f"{file} has no '{key}', so it is not a checkpoint of nnInteractive; restore the file.")
    name = str(content["init_args"].get("configuration"))
    if name not in plans.get("configurations", {}):
        raise UserError(f"{path / 'plans.json'} lacks configuration '{name}' of {file}; restore the file.")
    folder = NNInteractiveFolder(path, plans, dataset_json, info, file, name, content["network_weights"])
    _check_network(folder)
    return folder


def fold_folder(path: Path, fold: str | None = None, checkpoint: str = "checkpoint_final.pth") -> Path:
    """The folder of a fold; with None that of the only one that has the checkpoint.

    Raises:
        UserError: If there is none, or several and None was given.
    """
    present = sorted(folder for folder in path.glob("fold_*") if (folder / checkpoint).is_file())
    wanted = present if fold is None else [folder for folder in present if folder.name == f"fold_{fold}"]
    if len(wanted) == 1:
        return wanted[0]
    listed = ", ".join(folder.name for folder in present) or "none"
    if fold is None and present:
        raise UserError(f"{path} has several folds with {checkpoint} ({listed}); name one.")
    raise UserError(f"{path / f'fold_{fold or 0}' / checkpoint} does not exist; folds with this checkpoint: {listed}.")


def _check_network(folder: NNInteractiveFolder) -> None:
    configuration = folder.configuration
    try:
        with torch.device("meta"):
            network = get_network_from_plans(
                configuration.network_arch_class_name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
                folder.image_channels + CHANNELS,
                OUTPUTS,
                allow_init=False,
                deep_supervision=False,
            )
    except (ImportError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder.path / 'plans.json'}: the network {configuration.network_arch_class_name} cannot be built "
            f"({error}); install the package that it is from, or restore the file."
        ) from error
    check_weights(folder.checkpoint, "network_weights", folder.weights, network.state_dict())
