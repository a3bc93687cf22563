"""ProMISe behind nnInteractive's interaction channels, so that its engine, server and viewers drive it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.interactive.channels import (
    CHANNELS,
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
)
from nnunetv2_promise.network_architectures.promise.correcting import refine_first
from nnunetv2_promise.network_architectures.promise.network import EncodedPatch, ProMISe

CERTAIN_LOGIT = 6.0
"""What a previous mask of zeros and ones says in logits."""
BACKGROUND_LOGIT = -30.0
MAX_SEEDS = 10


class Clicks(NamedTuple):
    """The clicks on one patch, oldest first.

    Attributes:
        coords: (1, N, 3) long, voxels of the patch.
        labels: (1, N) long, 1 for positive clicks and 0 for negative ones.
    """

    coords: Tensor
    labels: Tensor


class _Known(NamedTuple):
    """What was worked out for the last patch."""

    image: Tensor
    encoded: EncodedPatch
    logits: Tensor | None


class ClickableProMISe(nn.Module):
    """Points are the local maxima of the point channels; the image is encoded once while the patch stays.

    nnInteractive's engine builds it from the plans' ``architecture.network_class_name``; its weights have the names of
    a checkpoint of ``ProMISeInteractiveTrainer``. Boxes, lassos and scribbles are not looked at: the folder's
    ``inference_info.json`` tells viewers so. A model of several labels answers for the label that is most probable
    under the first positive click.

    Args:
        input_channels: Image channels and the seven interaction channels.
        num_classes: 2: object or not.
        deep_supervision: Must be False; there is one output.
        **options: Of ``ProMISe``.

    Raises:
        UserError: If the numbers of channels or classes are others.
    """

    def __init__(self, input_channels: int, num_classes: int, deep_supervision: bool = False, **options: Any) -> None:
        super().__init__()
        if input_channels <= CHANNELS or num_classes != 2 or deep_supervision:
            raise UserError(
                f"input_channels is {input_channels}, num_classes {num_classes} and deep_supervision "
                f"{deep_supervision}; ClickableProMISe needs image channels and {CHANNELS} more, 2 and False."
            )
        self.image_channels = input_channels - CHANNELS
        self.network = ProMISe(**{**options, "corrects": True, "in_channels": self.image_channels})
        self._known: _Known | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module.forget())

    def forget(self) -> None:
        """Forget the last patch; needed where weights were changed in place."""
        self._known = None

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """(B, C + 7, D, H, W) image and interactions to (B, 2, D, H, W) logits."""
        # float16, which the engine chooses on a GPU, is too narrow for the adapters' double residual.
        bfloat16 = x.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return torch.cat([self._answer(*one.float().split([self.image_channels, CHANNELS])) for one in x])

    def _answer(self, image: Tensor, channels: Tensor) -> Tensor:
        """One patch: (C, D, H, W) and (7, D, H, W) to (1, 2, D, H, W)."""
        clicks = find_clicks(channels)
        if clicks is None:
            logits = image.new_zeros(1, 2, *image.shape[1:])
            logits[:, 1] = BACKGROUND_LOGIT
            return logits
        known = self._look_up(image)
        previous = _previous_logits(channels[PREVIOUS_MASK], known.logits)
        prompt = {"point_labels": clicks.labels}
        logits = self.network.decode(known.encoded, clicks.coords, previous_logits=previous, **prompt).float()
        if logits.ndim == 6:  # (1, L, 2, D, H, W)
            label = self._choose_label(logits[0], clicks, channels[PREVIOUS_MASK])
            prompt["label_index"], logits = torch.tensor([label], device=logits.device), logits[:, label]
        if previous is None:
            logits = refine_first(self.network, known.encoded, clicks.coords, logits, **prompt)[0].float()
        if not torch.is_grad_enabled():
            self._known = known._replace(logits=logits[:, 1:] - logits[:, :1])
        return logits

    def _look_up(self, image: Tensor) -> _Known:
        if self._known is not None and not torch.is_grad_enabled() and _same(self._known.image, image):
            return self._known
        return _Known(image.clone(), self.network.encode(image[None]), None)

    @staticmethod
    def _choose_label(logits: Tensor, clicks: Clicks, previous_mask: Tensor) -> int:
        """Of (L, 2, D, H, W) logits the label at the first positive click, else that of most of the previous mask."""
        foreground = logits[:, 1] - logits[:, 0]  # (L, D, H, W)
        positive = clicks.coords[0][clicks.labels[0] == 1]
        if len(positive):
            return int(foreground[(slice(None), *positive[0])].argmax())
        return int((torch.sigmoid(foreground) * previous_mask).flatten(1).sum(1).argmax())


def find_clicks(channels: Tensor) -> Clicks | None:
    """The clicks of one patch, from nnInteractive's channels.

    A click is a ball whose middle is the brightest voxel around; each newer interaction makes it a little fainter,
    which tells their order. A ball that the patch's border cuts has a faint false maximum there, so maxima below half
    of the brightest are left out; a click half as bright is 34 interactions old. A patch without a click but with a
    previous mask gets voxels of that mask as its clicks.

    Args:
        channels: (7, D, H, W).

    Returns:
        The clicks, or None if there is nothing to go by.
    """
    points = channels[[POSITIVE_POINTS, NEGATIVE_POINTS]]
    brightest = points.max()
    if brightest > 0:
        peaks = (points == F.max_pool3d(points[None], 3, stride=1, padding=1)[0]) & (points > brightest / 2)
        found = peaks.nonzero()  # (N, 4): channel, then voxel
        found = found[points[tuple(found.T)].argsort(stable=True)]
        return Clicks(found[None, :, 1:], 1 - found[None, :, 0])
    seeds = (channels[PREVIOUS_MASK] > 0).nonzero()
    if not len(seeds):
        return None
    seeds = seeds[torch.linspace(0, len(seeds) - 1, min(len(seeds), MAX_SEEDS)).long()]
    return Clicks(seeds[None], torch.ones_like(seeds[None, :, 0]))


def _previous_logits(mask: Tensor, last: Tensor | None) -> Tensor | None:
    """The last answer if the (D, H, W) mask is what it said; else what the mask says; None if it is empty."""
    present = mask > 0
    if not bool(present.any()):
        return None
    if last is not None and torch.equal(last[0, 0] > 0, present):
        return last
    return torch.where(present, CERTAIN_LOGIT, -CERTAIN_LOGIT).to(mask)[None, None]


def _same(first: Tensor, second: Tensor) -> bool:
    return first.device == second.device and torch.equal(first, second)
