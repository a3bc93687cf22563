"""Reading the checkpoints that the authors of ProMISe, and those of 3DSAM-adapter, published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.promise.network import ProMISe
from nnunetv2_promise.network_architectures.promise.options import FEATURES, encoder_name
from nnunetv2_promise.network_architectures.promise.patch_embedding import TOKEN_VOXELS
from nnunetv2_promise.network_architectures.weights.weight_files import check_weights, read_weight_file

PARTS = {"encoder_dict": "image_encoder.", "feature_dict": "prompt_encoder.", "decoder_dict": "mask_decoder."}
"""Where our network keeps what a published checkpoint has under these names."""
DEEPEST = FEATURES - 1
"""Of the four prompt encoders in a checkpoint only this one is used."""
WITHOUT_EFFECT = ("attn_mask", "positional_encoding_gaussian_matrix", "cross_attn_token_to_image")
"""Entries that are derived or that do not influence the output."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A published checkpoint in this package's terms.

    Attributes:
        options: Constructor options of :class:`ProMISe`; JSON values.
        state: The network's state dict.
    """

    options: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def method(self) -> str:
        """``"ProMISe"``, or ``"3DSAM-adapter"``: one adapter, trilinear upsampling, no CNN encoder."""
        plain = (self.options["adapters"], self.options["upsampling"], self.options["cnn_encoder"])
        return "3DSAM-adapter" if plain == (1, "trilinear", None) else "ProMISe"

    def network(self) -> ProMISe:
        """The network with these weights, pretrained parts frozen, in evaluation mode."""
        network = ProMISe(**self.options)
        network.load_state_dict(self.state)
        network.freeze_pretrained()
        return network.eval()


def read_published_checkpoint(path: Path | str) -> PublishedCheckpoint:
    """Read and check a published checkpoint; see :func:`load_published_checkpoint`."""
    state = _network_state(path, read_weight_file(path))
    options = _options(path, state)
    with torch.device("meta"):
        expected = ProMISe(**options).state_dict()
    check_weights(path, "the network", state, expected)
    unknown = [key for key in state if key not in expected]
    if unknown:
        raise UserError(f"{path} has an entry '{unknown[0]}' that this network does not know; it is of another model.")
    return PublishedCheckpoint(options, state)


def load_published_checkpoint(path: Path | str) -> ProMISe:
    """Build the network of a published checkpoint, with its weights, pretrained parts frozen, in evaluation mode.

    The sizes follow from the file. Nothing pickled in it is run. Optimizer states are ignored.

    Args:
        path: For example ``colon_pretrain_promise.pth``, or 3DSAM-adapter's ``best.pth.tar``.

    Raises:
        UserError: If the file cannot be read or is of another model; the sentence names the first key that is missing,
            misshapen or unknown.
    """
    return read_published_checkpoint(path).network()


def _network_state(path: Path | str, checkpoint: Any) -> dict[str, Tensor]:
    """A published checkpoint's entries under our names."""
    state: dict[str, Tensor] = {}
    for part, prefix in PARTS.items():
        entries = checkpoint.get(part) if isinstance(checkpoint, Mapping) else None
        if part == "feature_dict" and isinstance(entries, list) and len(entries) > DEEPEST:
            entries = entries[DEEPEST]
        if not isinstance(entries, Mapping):
            raise UserError(f"{path} lacks '{part}'; it is not one of ProMISe's or 3DSAM-adapter's.")
        state.update({_our_name(prefix, key): value for key, value in entries.items() if not _is_without_effect(key)})
    return state


def _is_without_effect(key: str) -> bool:
    return any(part in WITHOUT_EFFECT for part in key.split("."))


def _our_name(prefix: str, key: str) -> str:
    if key.startswith("image_feature_extractor."):
        return key.replace("image_feature_extractor.", "cnn_encoder.", 1)
    for published in ("cls_hao.", "cls."):  # ProMISe's, 3DSAM-adapter's
        if key.startswith(published):
            key = key.replace(published, "head.", 1)
    return prefix + key


def _options(path: Path | str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's options that a checkpoint's shapes imply."""

    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        if key not in state or not isinstance(state[key], Tensor) or state[key].ndim != dimensions:
            raise UserError(f"{path} lacks '{key}' or it is misshapen; it is not one of ProMISe's or 3DSAM-adapter's.")
        return tuple(state[key].shape)

    encoder = "image_encoder."
    _, table, _, embed_dim = shape(encoder + "pos_embed", 4)
    depth = max(1, sum(key.endswith(".attn.rel_pos_h") for key in state))
    lengths = [shape(f"{encoder}blocks.{i}.attn.rel_pos_h", 2) for i in range(depth)]
    edge = TOKEN_VOXELS * shape(encoder + "depth_embed", 3)[1]
    neck_channels = shape(encoder + "neck_3d.0.0.weight", 5)[0]
    decoder_channels, fused = shape("mask_decoder.head.0.weight", 5)[:2]
    return {
        "encoder": encoder_name(
            {
                "embed_dim": embed_dim,
                "depth": depth,
                "num_heads": embed_dim // lengths[0][1],
                "pos_embed_size": table,
                "table_window": (min(length for length, _ in lengths) + 1) // 2,
                "global_attn_indexes": [i for i, (length, _) in enumerate(lengths) if length == 2 * table - 1],
            }
        ),
        "patch_size": [edge] * 3,
        "adapters": 2 if encoder + "blocks.0.adapter_back.linear1.weight" in state else 1,
        "upsampling": "transposed" if "mask_decoder.mlahead.up2.weight" in state else "trilinear",
        "cnn_encoder": _cnn_encoder(state, decoder_channels, fused),
        "decoder_channels": decoder_channels,
        "neck_channels": neck_channels,
    }


def _cnn_encoder(state: Mapping[str, Tensor], channels: int, fused: int) -> str | None:
    if "cnn_encoder.0.weight" not in state:
        return None
    return "concatenate" if fused > (FEATURES + 1) * channels else "residual"
