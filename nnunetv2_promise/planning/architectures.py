"""The networks that our planners plan: constructor arguments of ``ProMISe`` without those that depend on data."""

from __future__ import annotations

from typing import Any

NETWORK_CLASS = "nnunetv2_promise.network_architectures.ProMISe"
# The same network as nnInteractive's engine builds it.
CLICKABLE_CLASS = "nnunetv2_promise.network_architectures.ClickableProMISe"

PAPER_ARCHITECTURE: dict[str, Any] = {
    "encoder": "vit_b",
    "adapters": 2,
    "upsampling": "transposed",
    "cnn_encoder": "concatenate",
    "decoder_channels": 128,
    "neck_channels": 256,
}

# A small ViT that trains from scratch on a CPU within minutes.
TINY_ARCHITECTURE: dict[str, Any] = {
    "encoder": {"embed_dim": 96, "depth": 4, "num_heads": 3, "global_attn_indexes": [1, 3]},
    "adapters": 2,
    "upsampling": "transposed",
    "cnn_encoder": "concatenate",
    "decoder_channels": 32,
    "neck_channels": 64,
}
