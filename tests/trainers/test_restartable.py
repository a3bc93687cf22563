"""The pseudo Dice of epochs without foreground, without data or network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunetv2_promise.trainers.restartable import RestartableTraining


class Logged(RestartableTraining):
    """Only what the end of an epoch's validation touches."""

    def __init__(self, folder: Any) -> None:
        self.logger = MetaLogger(str(folder), resume=False)
        self.is_ddp, self.current_epoch = False, 0

    def end_epoch(self, tp: float, fp: float, fn: float) -> float:
        counts = {"tp_hard": np.array([tp]), "fp_hard": np.array([fp]), "fn_hard": np.array([fn])}
        self.on_validation_epoch_end([{"loss": np.array(0.5), **counts}])
        self.current_epoch += 1
        return float(self.logger.get_value("ema_fg_dice", step=-1))


def test_epochs_without_foreground_repeat_the_average(tmp_path: Any) -> None:
    trainer = Logged(tmp_path)
    assert trainer.end_epoch(0, 0, 0) == 0
    assert trainer.end_epoch(1, 0, 0) == pytest.approx(0.1)
    assert trainer.end_epoch(0, 0, 0) == pytest.approx(0.1)
    assert trainer.end_epoch(2, 1, 1) == pytest.approx(0.9 * 0.1 + 0.1 * 2 / 3)
