"""How much GPU memory training takes, from counted activations.

The counts are numbers that autograd keeps per token (a token is 4 x 4 x 4 voxels), by part of the network. They were
measured with ``torch.autograd.graph.saved_tensors_hooks`` on ViT-B: 193,000 per token in all, 29,000 with activation
checkpointing; a test repeats the measurement. See ``docs/reference/plans.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import Any

from nnunetv2_promise.network_architectures.promise.options import encoder_config
from nnunetv2_promise.network_architectures.promise.patch_embedding import TOKEN_VOXELS

GIB = 2**30

# Numbers that a block keeps per number of its token; the 17.5 of 1.64 GiB at 32^3 tokens, and what hooks find beyond.
_BLOCK_WITH_TWO_ADAPTERS = 18.8
_ADAPTER = 2.5
# Under autocast most activations have 2 bytes; norms keep 4 and casts add copies.
_BYTES_PER_ACTIVATION = 2.6
_BYTES_PER_FROZEN_WEIGHT = 6  # float32, and the half precision copy that autocast keeps
_BYTES_PER_TRAINED_WEIGHT = 18  # the same, gradient and two AdamW moments
_FIXED_GIB = 1.0  # CUDA context and workspace
_ALLOCATOR_SLACK = 1.1
_COMPILED = 1.2  # torch.compile fuses our recomputing functions away and keeps more for the backward pass
_PROMPT_MLP_WIDTH = 2048
_LOGITS_COPIES = 8  # upsampled logits, softmax, Dice, cross entropy, boundary maps; two classes, full resolution


def training_memory_gib(
    patch_size: Sequence[int],
    arch_kwargs: Mapping[str, Any],
    *,
    batch_size: int,
    activation_checkpointing: bool,
    in_channels: int = 1,
    compiled: bool = False,
) -> float:
    """Estimated peak GPU memory of training under autocast.

    Args:
        patch_size: Voxels per axis (z, y, x).
        arch_kwargs: ``encoder``, ``adapters``, ``cnn_encoder``, ``decoder_channels`` and ``neck_channels`` of
            ``ProMISe``.
        batch_size: Patches per step.
        activation_checkpointing: Whether the encoder's blocks are computed again in the backward pass.
        in_channels: Image channels.
        compiled: Whether the network runs under ``torch.compile``.

    Returns:
        GiB.
    """
    tokens = prod(ceil(size / TOKEN_VOXELS) for size in patch_size)
    encoder = _encoder_per_token(arch_kwargs, activation_checkpointing=activation_checkpointing)
    elements = batch_size * tokens * (encoder + _decoder_per_token(arch_kwargs, in_channels))
    activations_gib = elements * _BYTES_PER_ACTIVATION / GIB * (_COMPILED if compiled else 1)
    return _FIXED_GIB + _ALLOCATOR_SLACK * activations_gib + _weights_gib(arch_kwargs, in_channels)


def encoder_size(encoder: str | Mapping[str, Any]) -> tuple[int, int]:
    """``embed_dim`` and ``depth`` of an encoder name or dictionary."""
    config = encoder_config(encoder)
    return config.embed_dim, config.depth


def _encoder_per_token(arch_kwargs: Mapping[str, Any], *, activation_checkpointing: bool) -> float:
    width, depth = encoder_size(arch_kwargs["encoder"])
    block = (_BLOCK_WITH_TWO_ADAPTERS - _ADAPTER * (2 - arch_kwargs["adapters"])) * width
    # With checkpointing each block keeps its input, and one block at a time is computed again.
    blocks = depth * width + block if activation_checkpointing else depth * block
    unfolded_patch = 6**3
    return unfolded_patch + blocks


def _decoder_per_token(arch_kwargs: Mapping[str, Any], in_channels: int) -> float:
    """Necks, prompt encoder, CNN encoder, mask decoder and losses."""
    channels, width = arch_kwargs["decoder_channels"], arch_kwargs["neck_channels"]
    half_resolution = 2**3  # tokens have a quarter of the voxels' resolution
    double_block = 4 * channels  # twice: what goes into the norm, and what comes out of the ReLU
    features = 4 * (double_block + half_resolution * channels)
    cnn = half_resolution * double_block if arch_kwargs["cnn_encoder"] else 0
    fusion = half_resolution * (2 * channels + in_channels)
    necks = 4 * 3 * width
    prompts = 2 * 8 * width
    logits = 2 * TOKEN_VOXELS**3 * _LOGITS_COPIES
    return features + cnn + fusion + necks + prompts + logits


def _weights_gib(arch_kwargs: Mapping[str, Any], in_channels: int) -> float:
    width, depth = encoder_size(arch_kwargs["encoder"])
    neck, channels = arch_kwargs["neck_channels"], arch_kwargs["decoder_channels"]
    sam = depth * 12 * width**2
    adapters = depth * arch_kwargs["adapters"] * width**2
    necks = 4 * (width * neck + 27 * neck**2)
    prompts = 2 * (2 * neck * _PROMPT_MLP_WIDTH + 8 * neck**2)
    decoder = 4 * (27 * (neck * channels + channels**2) + 8 * channels**2) + 27 * 6 * channels**2
    cnn = 27 * (in_channels * channels + channels**2)
    trained = adapters + necks + prompts + decoder + cnn
    from_scratch = not isinstance(arch_kwargs["encoder"], str)
    sam_bytes = _BYTES_PER_TRAINED_WEIGHT if from_scratch else _BYTES_PER_FROZEN_WEIGHT
    return (sam * sam_bytes + trained * _BYTES_PER_TRAINED_WEIGHT) / GIB
