"""What nnU-Net's ``-pretrained_weights`` does not do: heads of a U-Net, and a ProMISe of another patch or channels."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.weights.pretrained import accept_pretrained
from nnunetv2_promise.network_architectures.weights.weight_files import read_weight_file

_HEADS = "decoder.seg_layers."


def pretrained_weights_of_command(arguments: Sequence[str]) -> Path | None:
    """The file that a command line of ``nnUNetv2_train`` names by ``-pretrained_weights``.

    nnU-Net does not tell the trainer, and loads all but the heads.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-pretrained_weights", type=Path)
    parser.add_argument("-p")  # nnU-Net's plans; argparse would take it for the beginning of the other option
    known, _ = parser.parse_known_args(list(arguments))
    return known.pretrained_weights


def weights_of_checkpoint(checkpoint: Path) -> dict[str, Tensor]:
    """The network's weights in a checkpoint of nnU-Net.

    Raises:
        UserError: If the file is not a checkpoint.
    """
    content = read_weight_file(checkpoint)
    if not isinstance(content, dict) or "network_weights" not in content:
        raise UserError(f"{checkpoint} has no 'network_weights', so nnU-Net did not write it; name another file.")
    return content["network_weights"]


def fit_pretrained(network: nn.Module, in_channels: int, arguments: Sequence[str]) -> list[str]:
    """Let a ProMISe take ``-pretrained_weights`` from another patch size, other channels or other labels.

    Args:
        network: What nnU-Net will load them into.
        in_channels: Its image channels.
        arguments: The command line.

    Returns:
        What to log: one line if weights will be fitted, else none.

    Raises:
        UserError: If the file is not a checkpoint, or is one of another model.
    """
    file = pretrained_weights_of_command(arguments)
    if file is None:
        return []
    fitted = accept_pretrained(network, weights_of_checkpoint(file), in_channels=in_channels, source=str(file))
    return [f"Fitted to this network from {file}: {', '.join(fitted)}."] if fitted else []


def take_over_heads(network: nn.Module, checkpoint: Path) -> bool:
    """Copy the heads of a checkpoint into a network, if they are for as many labels.

    Returns:
        Whether they were copied.

    Raises:
        UserError: If the file is not a checkpoint.
    """
    own = {key: value for key, value in network.state_dict().items() if key.startswith(_HEADS)}
    theirs = {key: value for key, value in weights_of_checkpoint(checkpoint).items() if key in own}
    if theirs.keys() != own.keys() or any(theirs[key].shape != own[key].shape for key in own):
        return False
    network.load_state_dict(theirs, strict=False)
    return True
