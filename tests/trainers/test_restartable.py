"""The pseudo Dice of epochs without foreground, and plans that change between folds; without data or network."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunetv2_promise.errors import UserError
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


class Starting(RestartableTraining):
    """Only what is looked at before a training starts."""

    def __init__(self, model: Path, plans: dict[str, Any]) -> None:
        self.output_folder_base, self.configuration_name = str(model), "3d_fullres"
        self.plans_manager, self.dataset_json = SimpleNamespace(plans=plans), {"labels": {"background": 0, "a": 1}}


def test_a_second_fold_does_not_overwrite_the_plans_of_the_first(tmp_path: Path) -> None:
    plans = {"configurations": {"3d_fullres": {"spacing": [1.0, 1.0, 1.0], "promise": {"target": "object"}}}}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))
    other = copy.deepcopy(plans)
    other["configurations"]["3d_fullres"]["promise"]["target"] = "label"
    Starting(tmp_path, other)._require_plans_of_folder()  # nothing is trained yet
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_latest.pth").touch()
    Starting(tmp_path, plans)._require_plans_of_folder()
    with pytest.raises(
        UserError, match=r"checkpoint_latest\.pth was trained with other plans \(promise\.target differ"
    ):
        Starting(tmp_path, other).on_train_start()
