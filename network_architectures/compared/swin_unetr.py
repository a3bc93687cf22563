"""SwinUNETR, MONAI's network, for any patch size, and its self-supervised weights.

Hatamizadeh et al., "Swin UNETR", BrainLes 2021; Tang et al., "Self-Supervised Pre-Training of Swin Transformers for 3D
Medical Image Analysis", CVPR 2022. With feature size 48, one channel and two classes it has 62,186,708 parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.compared.padding import crop_end, pad_end, padded_size
from nnunetv2_promise.network_architectures.weights.weight_files import check_weights, read_weight_file

TOTAL_STRIDE = 32
PREFIXES = ("module.", "swinViT.")
"""What published files put before the names of the transformer's weights."""


class PaddedSwinUNETR(nn.Module):
    """MONAI's SwinUNETR; patches are padded to multiples of 32 and the logits are cropped back.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the logits.
        feature_size: Width of the first stage, a multiple of 12.
        options: Further options of ``monai.networks.nets.SwinUNETR``.
    """

    def __init__(self, *, in_channels: int = 1, out_channels: int = 2, feature_size: int = 48, **options: Any) -> None:
        super().__init__()
        self.network = SwinUNETR(
            in_channels=in_channels, out_channels=out_channels, feature_size=feature_size, **options
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) to logits (B, out_channels, D, H, W)."""
        size = image.shape[2:]
        return crop_end(self.network(pad_end(image, padded_size(size, TOTAL_STRIDE))), size)


def load_self_supervised(network: PaddedSwinUNETR, path: Path | str) -> None:
    """Fill the Swin transformer from a file of the published self-supervised form; all of it or nothing.

    The file holds a ``state_dict`` whose keys name the transformer's weights, after ``module.`` or ``swinViT.``, with
    the perceptron's layers called ``fc1`` and ``fc2`` or ``linear1`` and ``linear2``. What else is in it, such as the
    heads of the pretext tasks, is left aside. The decoder keeps its random start.

    Raises:
        UserError: If the file cannot be read or lacks a weight; the sentence names the first bad key.
    """
    content = read_weight_file(path)
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise UserError(f"{path} holds no 'state_dict'; use the published self-supervised weights of SwinUNETR.")
    found = {_own_name(str(key)): value for key, value in weights.items()}
    wanted = dict(network.network.swinViT.named_parameters())
    check_weights(path, "its Swin transformer", found, wanted)
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(found[key])


def _own_name(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key.replace(".mlp.fc", ".mlp.linear")
