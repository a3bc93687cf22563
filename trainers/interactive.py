"""ProMISe that corrects: a second click, positive or negative, repairs the first one's mask."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.utilities.collate_outputs import collate_outputs
from torch import distributed

from nnunetv2_promise.planning.architectures import CLICKABLE_CLASS
from nnunetv2_promise.planning.correction_settings import CorrectionSettings
from nnunetv2_promise.trainers.promise import ProMISeTrainer
from nnunetv2_promise.training.case_corrections import correct_cases
from nnunetv2_promise.training.click_scores import click_scores, on_another_object
from nnunetv2_promise.training.correction_rounds import CorrectionRounds, rounds_loss
from nnunetv2_promise.training.nninteractive_files import inference_info, write_nninteractive_files
from nnunetv2_promise.training.patch_corrections import CLICKS, ProtocolClicks, click_dice
from nnunetv2_promise.training.prompt_sampling import MOST_LABELS


class ProMISeInteractiveTrainer(ProMISeTrainer):
    """Trains ProMISe to correct its masks (PRISM's loop, MICCAI 2024, on ProMISe's network).

    Each patch is encoded once and decoded several times: first with one click or the paper's prompt, then with clicks
    on the errors of the previous answer, which the network is given as well. The losses of all answers are averaged.
    Options are the key ``promise.interactive`` of the plans.
    """

    single_click_share: ClassVar[float] = 0.5

    architecture_overrides: ClassVar[dict[str, Any]] = {"corrects": True}
    prompt_kinds: ClassVar[tuple[str, ...]] = ("points", "negative_points", "scribbles", "previous_mask")

    def initialize(self) -> None:
        """Check the options before anything is built; what is not trained is frozen, as DDP needs it."""
        self.corrections = CorrectionSettings.from_configuration(self.configuration_manager.configuration)
        super().initialize()

    def _do_i_compile(self) -> bool:
        """No: the number of clicks changes from round to round, and each would be compiled again."""
        return False

    def configure_optimizers(self) -> tuple[Any, Any]:
        """As for ProMISe; without a weight the head that expects a Dice is not trained."""
        if not self.corrections.confidence_weight:
            self.promise.freeze_confidence()
        return super().configure_optimizers()

    def train_step(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """One step on one object of each patch: the first click and corrections."""
        image = batch["data"].to(self.device, non_blocking=True)
        segmentation = batch["target"].to(self.device, non_blocking=True)
        object_points, random_points = self._draw_points()
        rounds = CorrectionRounds(
            self._prompt(
                segmentation, object_points=object_points, random_points=random_points, most_labels=MOST_LABELS
            ),
            object_points=object_points,
            settings=self.corrections,
            # From torch's state, which each epoch seeds: a resumed training clicks as an undisturbed one.
            rng=np.random.default_rng(int(torch.randint(2**31, (1,)))),
            ignored=self._ignored(segmentation),
        )
        answers = self.network(image, rounds=rounds)
        loss = rounds_loss(answers, rounds, self.loss)
        return self._take_step(loss)

    def _draw_points(self) -> tuple[int, int]:
        """How many points of the first round lie on the object, and how many anywhere.

        Signs and maps of points tell this network how many there are, so it has to see one, as a user clicks, and many.
        """
        if torch.rand(1) < self.single_click_share:
            return 1, 0
        return 1 + int(torch.randint(self.object_points, (1,))), int(torch.randint(self.random_points + 1, (1,)))

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Clicks by the field's protocol on one object of each patch; nnU-Net's counts are those of all clicks."""
        image = batch["data"].to(self.device, non_blocking=True)
        segmentation = batch["target"].to(self.device, non_blocking=True)
        prompted = self._prompt(segmentation, object_points=1, random_points=0)
        ignored = self._ignored(segmentation)
        clicks = ProtocolClicks(prompted, self.configuration_manager.spacing, ignored)
        answers = self.network(image, rounds=clicks)
        loss = torch.stack([self.loss(logits, prompted.target, ignored) for logits in answers]).mean()
        labels = len(self.label_manager.foreground_labels)
        scores = [click_scores(logits, prompted, labels, ignored) for logits in answers]
        by_click = {name: np.stack([score[name] for score in scores]) for name in scores[0]}  # (clicks, labels) each
        astray = {"astray": on_another_object(answers[0], prompted, segmentation)} if self.target == "object" else {}
        return {
            "loss": loss.detach().cpu().numpy(),
            **astray,
            **{name: counts.sum(0) for name, counts in by_click.items()},
            **{f"{name}_by_click": counts.sum(1) for name, counts in by_click.items()},
        }

    def on_train_end(self) -> None:
        """ProMISe's end; a folder planned in voxel space becomes one that nnInteractive's engine loads."""
        super().on_train_end()
        if self.local_rank == 0 and self.configuration_manager.network_arch_class_name == CLICKABLE_CLASS:
            write_nninteractive_files(self, inference_info(initial_label=True))

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """nnU-Net's, and a line with the Dice after each click."""
        super().on_validation_epoch_end(val_outputs)
        collated = collate_outputs(val_outputs)
        counts = np.stack([collated[f"{name}_hard_by_click"].sum(0) for name in ("tp", "fp", "fn")])  # (3, clicks)
        if self.is_ddp:
            gathered: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(gathered, counts)
            counts = np.sum(gathered, axis=0)
        listed = ", ".join(f"{value:.4f}" for value in click_dice(*counts))
        self.print_to_log_file(f"Pseudo dice at 1 to {CLICKS} clicks: {listed}")

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """As for ProMISe; then the field's protocol clicks every object, into ``validation/corrections.json``."""
        super().perform_actual_validation(save_probabilities)
        correct_cases(self)
