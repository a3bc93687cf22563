"""The learning rate of networks whose parts learn at different speeds."""

from __future__ import annotations

from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler


class GroupedPolyLR(PolyLRScheduler):
    """nnU-Net's polynomial decay; a group of parameters may learn ``lr_factor`` times as fast."""

    def step(self, current_step: int | None = None) -> None:
        """Set the learning rates of an epoch."""
        super().step(current_step)
        for group in self.optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
