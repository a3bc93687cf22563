"""SAM's pretrained weights in the image encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.promise.network import ProMISe
from nnunetv2_promise.network_architectures.promise.window_attention import WindowAttention
from nnunetv2_promise.network_architectures.weights.weight_files import check_weights, read_weight_file

PREFIX = "image_encoder."
"""Under which SAM's file keeps its image encoder."""


def load_sam_encoder(network: ProMISe, path: Path | str) -> None:
    """Fill the image encoder from a file of SAM's form and freeze what came from it, except the LayerNorms.

    SAM's own ViT-B, L and H files, MedSAM's, and any other with the same keys will do. The table of relative positions
    along the slices starts as the mean of SAM's two, as published. Either everything is loaded or nothing.

    Args:
        network: Of the same sizes as the file's encoder; see :func:`sam_encoder_options`.
        path: A file that ``segment_anything.sam_model_registry`` reads.

    Raises:
        UserError: If the file cannot be read or its encoder is not the network's; the sentence names the first bad key.
    """
    weights = _encoder_weights(path)
    encoder = network.image_encoder
    norms = {key: p for key, p in encoder.named_parameters() if ".norm1." in key or ".norm2." in key}
    wanted = {**network.pretrained_parameters(), **{key: p for key, p in norms.items() if key.startswith("blocks.")}}
    check_weights(path, "its image encoder", weights, wanted)
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(weights[key])
        for module in encoder.modules():
            if isinstance(module, WindowAttention) and module.rel_pos_d.shape == module.rel_pos_h.shape:
                module.rel_pos_d.copy_((module.rel_pos_h + module.rel_pos_w) / 2)
    network.freeze_pretrained()


def sam_encoder_options(path: Path | str) -> dict[str, Any]:
    """Read off a file of SAM's form what ``ProMISe(encoder=...)`` must be for it.

    Raises:
        UserError: If the file cannot be read or holds no image encoder of SAM's form.
    """
    weights = _encoder_weights(path)
    for key in ("pos_embed", "blocks.0.attn.rel_pos_h", "blocks.0.mlp.lin1.weight"):
        if key not in weights:
            raise UserError(f"{path} lacks '{PREFIX}{key}'; it is not a SAM checkpoint with a vision transformer.")
    lengths = [value.shape[0] for key, value in weights.items() if key.endswith(".attn.rel_pos_h")]
    table, embed_dim = weights["pos_embed"].shape[1], weights["pos_embed"].shape[3]
    return {
        "embed_dim": embed_dim,
        "depth": len(lengths),
        "num_heads": embed_dim // weights["blocks.0.attn.rel_pos_h"].shape[1],
        "mlp_ratio": weights["blocks.0.mlp.lin1.weight"].shape[0] / embed_dim,
        "pos_embed_size": table,
        "table_window": (min(lengths) + 1) // 2,
        "global_attn_indexes": [i for i, length in enumerate(lengths) if length == 2 * table - 1],
    }


def _encoder_weights(path: Path | str) -> dict[str, Tensor]:
    checkpoint = read_weight_file(path)
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("model"), Mapping):
        checkpoint = checkpoint["model"]  # as training scripts save it, beside the optimizer
    if not isinstance(checkpoint, Mapping) or not any(str(key).startswith(PREFIX) for key in checkpoint):
        raise UserError(f"{path} holds no '{PREFIX}*' weights; it is not a SAM checkpoint.")
    return {key.removeprefix(PREFIX): value for key, value in checkpoint.items() if key.startswith(PREFIX)}
