"""Your nnU-Net, clickable, with the automatic masks that it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.trainers import interactive_unet
from nnunetv2_promise.training.learning_rate import GroupedPolyLR


class InteractiveUNetTrainer_KeepUNet(interactive_unet.InteractiveUNetTrainer):
    """Trains the corrections alone: the U-Net, which ``-pretrained_weights`` names, stays as it is.

    A step costs a forward pass of the U-Net and the rounds of clicks. Without a click the answer is the nnU-Net's.
    Corrections learn slowly: at ten times this rate, a training of a few steps undid what clicks do before any.

    Raises:
        UserError: If the plans put prompts beside the image, where nothing but the U-Net could learn; at the start of
            training, if there are no weights or they are for other labels.
    """

    epochs = 50
    correction_lr_factor = 1.0

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, GroupedPolyLR]:
        """As usual, for the corrections alone."""
        if not self.segments_alone:
            raise UserError(
                f"{type(self).__name__} trains what interactions add to a U-Net, but these plans put interactions "
                "beside the image; use InteractiveUNetTrainer."
            )
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith("corrections."))
        return super().configure_optimizers()

    def on_train_start(self) -> None:
        """As usual; there has to be a U-Net to keep."""
        super().on_train_start()
        if not (self.heads_taken or self.weights_come_from_checkpoint):
            raise UserError(
                f"{type(self).__name__} keeps the U-Net that it starts from; add -pretrained_weights CHECKPOINT of an "
                "nnU-Net for the same labels."
            )

    def train_step(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Rounds of clicks on one object of each patch."""
        image, _, patches, labels = self._unpack(batch)
        self.bare_network.encoder.eval()  # running statistics, where there are some, stay as well
        self.bare_network.decoder.eval()
        with torch.no_grad(), self._autocast():
            features = self.bare_network.encode(image)
            self._start_from_automatic_mask(self.bare_network(features), patches, labels)
        return self._learn(features, self._click_rounds(patches, labels))
