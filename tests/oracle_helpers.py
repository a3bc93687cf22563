"""What the network's tests share: small networks, their plain twins, and how errors are measured."""

from __future__ import annotations

from typing import Any

import torch
from oracle_network import PlainProMISe
from torch import Tensor, nn

from nnunetv2_promise.network_architectures import ProMISe

TINY = {"embed_dim": 16, "depth": 4, "num_heads": 2, "window_size": 4}
SAM_LIKE = {**TINY, "pos_embed_size": 12, "table_window": 6, "global_attn_indexes": [1, 3]}
NARROW = {"decoder_channels": 8, "neck_channels": 16}


def options(**changes: Any) -> dict[str, Any]:
    """Constructor options of a network small enough for a test."""
    return {"encoder": TINY, "patch_size": (32, 32, 32), **NARROW, **changes}


def twins(dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> tuple[ProMISe, PlainProMISe]:
    """Our network and the plain one with the same weights, none of them zero or one."""
    torch.manual_seed(seed)
    chosen = options(**changes)
    ours = ProMISe(**chosen).to(dtype)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim >= 2 and not any(table in name for table in ("pos", "embed", "query")):
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.2 * noise)
        for block in ours.image_encoder.blocks:
            block.attn.lr.fill_(1.1)
    chosen.pop("activation_checkpointing", None)
    plain = PlainProMISe(**chosen).to(dtype)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def inputs(network: nn.Module, batch: int = 1, points: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1):
    """An image (B, C, D, H, W) and points (B, N, 3) inside it."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(network.patch_size, dtype=dtype)
    channels = 1 if network.channel_mixer is None else network.channel_mixer.in_channels
    image = torch.randn(batch, channels, *network.patch_size, generator=generator, dtype=dtype)
    coords = torch.rand(batch, points, 3, generator=generator, dtype=dtype) * size - 0.5
    return image, coords


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Largest difference in units of the reference's largest absolute value."""
    value, reference = value.detach().double(), reference.detach().double()
    return float((value - reference).abs().max() / reference.abs().max())


def gradients(network: nn.Module, image: Tensor, points: Tensor) -> dict[str, Tensor]:
    """The gradient of a smooth loss with respect to every trained parameter."""
    logits = network(image, points)
    torch.nn.functional.softplus(logits[:, 1] - logits[:, 0]).mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def gradient_error(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> tuple[float, str]:
    """The largest relative error over parameters, and whose it is.

    A key's bias shifts all scores of a query alike, so its gradient is zero but for rounding: it is measured in
    units of the largest gradient of all.
    """
    if set(ours) != set(reference):
        raise KeyError(f"gradients of different parameters: {sorted(set(ours) ^ set(reference))}")
    largest = max(float(gradient.abs().max()) for gradient in reference.values())
    errors = []
    for name, expected in reference.items():
        unit = largest if name.endswith("k_proj.bias") else float(expected.abs().max())
        errors.append((float((ours[name] - expected).abs().max()) / unit, name))
    return max(errors)
