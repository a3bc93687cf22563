"""Weights of a ProMISe for another one: of another patch size, other channels or other labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.errors import UserError

_TABLES = (".attn.rel_pos_h", ".attn.rel_pos_w", ".attn.rel_pos_d")
_FUSING, _LOGITS, _CNN, _MIXER = "head.0.weight", "head.3.weight", "cnn_encoder.0.weight", "channel_mixer.weight"


def fitted_weights(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, in_channels: int, source: str
) -> dict[str, Tensor]:
    """Weights of one network in the shapes of another.

    - Position embeddings and tables of relative positions are interpolated linearly, as SAM's are.
    - Convolutions that see the image share their sum over its channels out in equal parts: an image whose channels are
      all alike gives what one channel gave. The mixer of channels starts as their mean.
    - Each label gets the mean of the logits' weights, unless there are as many labels.

    Args:
        given: State dict of the one network.
        wanted: State dict of the other, freshly built.
        in_channels: Image channels of the other.
        source: Where ``given`` comes from, for the message.

    Returns:
        A state dict for the other network.

    Raises:
        UserError: If a weight is missing, or the networks differ in more than this.
    """
    fitted = {}
    for key, target in wanted.items():
        weight = given.get(key)
        if weight is not None and weight.shape == target.shape:
            fitted[key] = weight
        elif key.endswith(_MIXER) or (weight is None and ".seg_layers." in key):
            fitted[key] = target
        elif weight is None:
            raise UserError(f"{source} lacks '{key}'; it is a checkpoint of another model.")
        else:
            fitted[key] = _fit(key, weight, target, in_channels)
        if fitted[key].shape != target.shape:
            raise UserError(
                f"{source} has '{key}' with shape {tuple(given[key].shape)} where {tuple(target.shape)} is needed; it "
                "is a checkpoint of another model."
            )
    return fitted


def _fit(key: str, weight: Tensor, target: Tensor, in_channels: int) -> Tensor:
    """One weight, as near to the target's shape as it can be brought."""
    if weight.ndim != target.ndim:
        return weight
    if key.endswith("depth_embed"):  # (1, D, E)
        return _interpolated(weight.transpose(1, 2), target.shape[1:2]).transpose(1, 2)
    if key.endswith("pos_embed"):  # (1, H, W, E)
        return _interpolated(weight.permute(0, 3, 1, 2), target.shape[1:3]).permute(0, 2, 3, 1)
    if key.endswith(_TABLES):  # (L, E)
        return _interpolated(weight.T[None], target.shape[:1])[0].T
    if key.endswith(_CNN):
        return _image_share(weight, target.shape[1])
    if key.endswith(_FUSING):  # the image's channels come last
        features = target.shape[1] - in_channels
        return torch.cat([weight[:, :features], _image_share(weight[:, features:], in_channels)], dim=1)
    if key.endswith(_LOGITS):  # pairs of background and foreground
        pair = weight.unflatten(0, (-1, 2)).mean(0)
        return pair.repeat(target.shape[0] // 2, *[1] * (weight.ndim - 1))
    return weight


def _image_share(weight: Tensor, channels: int) -> Tensor:
    """(O, C, ...) for another number of channels: the sum over channels, in equal parts."""
    return (weight.sum(1, keepdim=True) / channels).repeat_interleave(channels, dim=1)


def _interpolated(table: Tensor, size: Any) -> Tensor:
    mode = "linear" if table.ndim == 3 else "bilinear"
    return F.interpolate(table.float(), tuple(size), mode=mode, align_corners=False).to(table.dtype)


def accept_pretrained(module: nn.Module, given: Mapping[str, Tensor], *, in_channels: int, source: str) -> list[str]:
    """Let a network take weights of other shapes from nnU-Net's ``-pretrained_weights``, once.

    nnU-Net compares the shapes in ``module.state_dict()`` with those in the file before it loads them, and has no hook
    between. So the next state dict shows the file's shapes, and what is then loaded is brought into the module's.

    Args:
        module: The network that nnU-Net loads into.
        given: The file's weights.
        in_channels: Image channels of the network.
        source: The file, for the message.

    Returns:
        The keys that are fitted; nothing is changed if there are none.

    Raises:
        UserError: As :func:`fitted_weights`.
    """
    wanted = module.state_dict()
    fitted = fitted_weights(given, wanted, in_channels=in_channels, source=source)
    changed = [key for key in wanted if key not in given or given[key].shape != wanted[key].shape]
    changed = [key for key in changed if ".seg_layers." not in key]
    if not changed:
        return []

    def show(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: Any) -> None:
        for key in changed:
            state.pop(prefix + key)
            if key in given:
                state[prefix + key] = given[key]

    def load(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: Any) -> None:
        state.update({prefix + key: fitted[key] for key in changed})
        for handle in handles:
            handle.remove()

    handles = [module.register_state_dict_post_hook(show), module.register_load_state_dict_pre_hook(load)]
    return changed
