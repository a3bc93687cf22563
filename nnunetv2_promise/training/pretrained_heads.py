"""Segmentation heads of a pretrained U-Net, which nnU-Net's ``-pretrained_weights`` leaves out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from nnunetv2_promise.errors import UserError
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


def take_over_heads(network: nn.Module, checkpoint: Path) -> bool:
    """Copy the heads of a checkpoint into a network, if they are for as many labels.

    Returns:
        Whether they were copied.

    Raises:
        UserError: If the file is not a checkpoint.
    """
    content = read_weight_file(checkpoint)
    if not isinstance(content, dict) or "network_weights" not in content:
        raise UserError(f"{checkpoint} has no 'network_weights', so nnU-Net did not write it; name another file.")
    own = {key: value for key, value in network.state_dict().items() if key.startswith(_HEADS)}
    theirs = {key: value for key, value in content["network_weights"].items() if key in own}
    if theirs.keys() != own.keys() or any(theirs[key].shape != own[key].shape for key in own):
        return False
    network.load_state_dict(theirs, strict=False)
    return True
