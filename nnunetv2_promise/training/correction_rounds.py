"""Rounds of corrections on encoded patches: the answers that a training step learns from.

After PRISM (Li et al., MICCAI 2024): the image is encoded once and decoded several times, with clicks on the errors of
the previous answer, and the losses of all answers are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nnunetv2_promise.network_architectures import EncodedPatch, ProMISe
from nnunetv2_promise.network_architectures.promise.correcting import foreground_logits
from nnunetv2_promise.planning.correction_settings import CorrectionSettings
from nnunetv2_promise.training.error_clicks import ErrorClicks, error_clicks
from nnunetv2_promise.training.prompt_sampling import PromptedTarget

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Answer(NamedTuple):
    """What the network said in one round.

    Attributes:
        logits: (B, 2, D, H, W) of the prompted label.
        expected_dice: (B,), the Dice that the network expects.
        other_logits: (B, K - 1, 2, D, H, W) of the labels that were not prompted, in the first round; else None.
    """

    logits: Tensor
    expected_dice: Tensor
    other_logits: Tensor | None = None


@dataclass(frozen=True)
class CorrectionRounds:
    """The rounds of one step; called by the network's wrapper, so that DDP sees one forward pass.

    The first round gets all points of the prompt: a single click, or noisy ones as well, as in the paper. The later
    ones keep some of the points on the object and add a click on an error of the previous answer each.

    Attributes:
        prompted: Targets, labels and points of the patches.
        object_points: How many of the points lie on the object where there is one; the noisy ones follow.
        settings: Options of the plans.
        rng: Source of randomness.
        ignored: (B, 1, D, H, W) bool, voxels that are never an error, or None.
    """

    prompted: PromptedTarget
    object_points: int
    settings: CorrectionSettings
    rng: np.random.Generator
    ignored: Tensor | None = None

    def __call__(self, network: ProMISe, encoded: EncodedPatch) -> list[Answer]:
        """The answers of all rounds."""
        answers = [self._first(network, encoded)]
        clicks = self._kept_points()
        for _ in range(self.settings.iterations - 1):
            previous = foreground_logits(answers[-1].logits)
            if self.rng.random() >= self.settings.without_click_share:
                clicks = self._with_click_on_error(clicks, previous)
            logits, expected_dice = network.decode_and_rate(
                encoded,
                clicks.point_coords,
                label_index=self.prompted.label_index,
                point_labels=clicks.point_labels,
                previous_logits=previous,
            )
            answers.append(Answer(logits, expected_dice))
        return answers

    def _first(self, network: ProMISe, encoded: EncodedPatch) -> Answer:
        wanted = self.prompted.labels
        logits, expected_dice = network.decode_and_rate(encoded, self.prompted.points, label_index=wanted)
        if network.labels == 1:
            return Answer(logits, expected_dice)
        return Answer(logits[:, 0], expected_dice, logits[:, 1:])

    def _kept_points(self) -> ErrorClicks:
        kept = int(self.rng.integers(1, self.object_points, endpoint=True))
        coords = self.prompted.points[:, :kept]
        return ErrorClicks(coords, torch.ones_like(coords[..., 0]))

    def _with_click_on_error(self, clicks: ErrorClicks, previous: Tensor) -> ErrorClicks:
        # Where nothing is wrong the first click is repeated, which keeps shapes equal within the batch.
        first = ErrorClicks(clicks.point_coords[:, :1], clicks.point_labels[:, :1])
        density = self.settings.click_density
        new = error_clicks(self.prompted.target, previous > 0, first, self.rng, density=density, ignored=self.ignored)
        return clicks.then(new)


def rounds_loss(
    answers: Sequence[Answer],
    rounds: CorrectionRounds,
    loss: Loss,
) -> Tensor:
    """The mean loss of all answers, and of how well the network rates them.

    In the first round the labels that were not prompted learn from the patch as well: a label's own logits otherwise
    see only the patches that prompt it.

    Args:
        answers: Of ``rounds``.
        rounds: What was asked.
        loss: From (B, 2, D, H, W) logits, (B, 1, D, H, W) targets and ignored voxels.

    Returns:
        Scalar.
    """
    target, ignored = rounds.prompted.target, rounds.ignored
    losses = [loss(answer.logits, target, ignored) for answer in answers]
    others = []
    if answers[0].other_logits is not None:
        pairs = zip(answers[0].other_logits.unbind(1), rounds.prompted.other_targets.split(1, dim=1), strict=True)
        others = [loss(logits, other_target, ignored) for logits, other_target in pairs]
    if others:
        losses[0] = torch.stack([losses[0], *others]).mean()
    total = torch.stack(losses).mean()
    if rounds.settings.confidence_weight:
        errors = [F.mse_loss(a.expected_dice, hard_dice(a.logits, target, ignored)) for a in answers]
        total = total + rounds.settings.confidence_weight * torch.stack(errors).mean()
    return total


def hard_dice(logits: Tensor, target: Tensor, ignored: Tensor | None) -> Tensor:
    """Dice of each patch's mask.

    Args:
        logits: (B, 2, D, H, W).
        target: (B, 1, D, H, W), 0 or 1.
        ignored: (B, 1, D, H, W) bool, voxels that do not count, or None.

    Returns:
        (B,) float32; 1 where mask and target are empty.
    """
    mask, truth = logits[:, 1:] > logits[:, :1], target != 0
    if ignored is not None:
        mask, truth = mask & ~ignored, truth & ~ignored
    both, either = ((mask & truth).flatten(1).sum(1), mask.flatten(1).sum(1) + truth.flatten(1).sum(1))
    return torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0)
