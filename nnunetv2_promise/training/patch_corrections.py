"""Clicks by the field's protocol on validation patches: how the Dice of a mask rises from click to click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_promise.network_architectures import EncodedPatch, ProMISe
from nnunetv2_promise.network_architectures.promise.correcting import foreground_logits, refine_first
from nnunetv2_promise.prompts.corrections import next_click
from nnunetv2_promise.training.error_clicks import ErrorClicks
from nnunetv2_promise.training.prompt_sampling import PromptedTarget

CLICKS = 6


class ProtocolClicks:
    """Clicks each patch of a batch where the protocol would click next; called as ``rounds`` of the wrapped network.

    Args:
        prompted: Targets, labels and one point for each patch, which is clicked where there is nothing to correct.
        spacing_zyx_mm: Spacing of the patches.
        ignored: (B, 1, D, H, W) bool, voxels that are never an error, or None.
    """

    def __init__(self, prompted: PromptedTarget, spacing_zyx_mm: Sequence[float], ignored: Tensor | None) -> None:
        self.prompted = prompted
        self.spacing_zyx_mm = spacing_zyx_mm
        self.ignored = ignored

    def __call__(self, network: ProMISe, encoded: EncodedPatch) -> list[Tensor]:
        """(B, 2, D, H, W) logits after each of ``CLICKS`` clicks."""
        previous: Tensor | None = None
        clicks: ErrorClicks | None = None
        answers: list[Tensor] = []
        for _ in range(CLICKS):
            new = self._next(previous)
            clicks = (
                new if clicks is None else ErrorClicks(*(torch.cat(pair, 1) for pair in zip(clicks, new, strict=True)))
            )
            prompt = {"label_index": self.prompted.label_index, "point_labels": clicks.point_labels}
            logits = network.decode(encoded, clicks.point_coords, previous_logits=previous, **prompt)
            if previous is None:
                logits, _ = refine_first(network, encoded, clicks.point_coords, logits, **prompt)
            answers.append(logits)
            previous = foreground_logits(logits)
        return answers

    def _next(self, previous: Tensor | None) -> ErrorClicks:
        truth = self.prompted.target != 0
        mask = torch.zeros_like(truth) if previous is None else previous > 0
        if self.ignored is not None:
            truth, mask = truth & ~self.ignored, mask & ~self.ignored
        coords = self.prompted.points[:, :1].clone()
        labels = self.prompted.target.flatten(1).any(1, keepdim=True).long()
        for index in range(len(truth)):
            click = next_click(truth[index, 0].cpu().numpy(), mask[index, 0].cpu().numpy(), self.spacing_zyx_mm)
            if click is not None:
                coords[index, 0] = torch.as_tensor(click[0])
                labels[index, 0] = click[1]
        return ErrorClicks(coords, labels)


def click_dice(
    true_positive: NDArray[np.float64], false_positive: NDArray[np.float64], false_negative: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Dice after each click, from (clicks,) voxel counts; NaN where there is neither mask nor object."""
    both = 2 * true_positive
    either = both + false_positive + false_negative
    return np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0)
