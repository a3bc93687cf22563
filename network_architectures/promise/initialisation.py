"""Weights to start from when there is no pretrained model."""

from __future__ import annotations

import torch
from torch import nn

from nnunetv2_promise.network_architectures.promise.adapter import Adapter
from nnunetv2_promise.network_architectures.promise.image_encoder import ImageEncoder
from nnunetv2_promise.network_architectures.promise.window_attention import WindowAttention

STD = 0.02
"""Customary for vision transformers."""


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Start linear layers so that they keep the scale of their input, and every average as an average.

    A fixed small scale suits SAM's width only: in narrow networks the prompts' share would start near zero, and the
    normalisations after it hide what is the same everywhere, so training would hardly notice the prompts.

    The slice embedding starts as the mean of its slices, so that SAM's weights give SAM's tokens; a channel mixer
    starts as the mean of the channels. Convolutions keep PyTorch's start, biases of linear layers are zero. An
    adapter's last layer starts small but not at zero: a ReLU follows, and at zero it would pass no gradient.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, WindowAttention):
            nn.init.trunc_normal_(module.rel_pos_h, std=STD)
            nn.init.trunc_normal_(module.rel_pos_w, std=STD)
            nn.init.trunc_normal_(module.rel_pos_d, std=STD)
        elif isinstance(module, ImageEncoder):
            nn.init.trunc_normal_(module.pos_embed, std=STD)
            nn.init.constant_(module.slice_embed.weight, 1 / module.slice_embed.weight.shape[-1])
            nn.init.zeros_(module.get_parameter("slice_embed.bias"))
    for module in network.modules():
        if isinstance(module, Adapter):
            nn.init.trunc_normal_(module.linear2.weight, std=STD)
    mixer = getattr(network, "channel_mixer", None)
    if mixer is not None:
        nn.init.constant_(mixer.weight, 1 / mixer.in_channels)
