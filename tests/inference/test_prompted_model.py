"""A model folder in memory: its network, its folds and its mirrored axes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from test_case_segmentation import Half
from test_prediction_geometry import DATASET, PATCH, BallNetwork, plans

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference import prompted_model
from nnunetv2_promise.inference.prompted_model import PromptedModel, WindowPrompt
from nnunetv2_promise.inference.prompted_network import PromptedNetwork

FOLDER: Any = SimpleNamespace(
    checkpoints=["fold_0.pth", "fold_1.pth"], plans=plans([0, 1, 2]), dataset_json=DATASET, configuration="3d_fullres"
)


class Trainer:
    """Builds a network whose answer is known; keeps what it was asked for."""

    asked: list[Any]

    @classmethod
    def build_network_architecture(
        cls, plans: PlansManager, configuration: ConfigurationManager, channels: int, heads: int, deep: bool
    ) -> PromptedNetwork:
        cls.asked = [configuration.patch_size, channels, heads, deep]
        return PromptedNetwork(BallNetwork(), patch_size=PATCH, heads=heads)


def load(
    monkeypatch: pytest.MonkeyPatch, axes: Any, trainer: type | None = Trainer, *, folds: int = 2
) -> PromptedModel:
    state = PromptedNetwork(BallNetwork(), patch_size=PATCH, heads=3).state_dict()
    content = {"trainer_name": "Trainer", "network_weights": state, "inference_allowed_mirroring_axes": axes}
    monkeypatch.setattr(prompted_model, "read_checkpoint", lambda path: content | {"path": path})
    monkeypatch.setattr(prompted_model, "find_trainer", lambda name: trainer if name == "Trainer" else None)
    folder: Any = SimpleNamespace(**{**vars(FOLDER), "checkpoints": FOLDER.checkpoints[:folds]})
    return PromptedModel.load(folder, torch.device("cpu"))


@pytest.mark.parametrize("folds", [1, 2])
@pytest.mark.parametrize("axes", [(0, 2), [1], None, ()])
def test_every_fold_votes_in_every_mirror_image_that_training_allows(
    monkeypatch: pytest.MonkeyPatch, axes, folds: int
) -> None:
    model = load(monkeypatch, axes, folds=folds)
    assert Trainer.asked == [list(PATCH), 1, 3, False]
    assert not model.network.training
    assert len(list(model._views())) == folds * 2 ** len(axes or ())


def test_a_trainer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="The trainer Trainer is not found; add its folder"):
        load(monkeypatch, None, None)


def test_fold_that_did_not_look_has_no_vote() -> None:
    manager = PlansManager(plans([0, 1, 2]))
    weights = [{"network.weight": torch.tensor([value])} for value in (1.0, 1.0, -1.0)]
    made = PromptedModel(
        PromptedNetwork(Half(), patch_size=(8, 8, 8), heads=3),
        weights,
        manager,
        manager.get_configuration("3d_fullres"),
        DATASET,
    )
    window = np.full((1, 8, 8, 32), -1, np.float32)
    window[0, 2:6, 2:6, 4:28] = 1
    ((logit, _),) = made.answer(window, [WindowPrompt(1, [(4, 4, 16)])])
    # Two folds grow along the whole object; the third stays in its first patch and must not veto what is beyond.
    assert (logit[2:6, 2:6, 4:28] > 0).all()
    assert logit[3, 3, 25] == pytest.approx(10)


def test_two_folds_vote_alike() -> None:
    manager = PlansManager(plans([0, 1, 2]))
    made = PromptedModel(
        PromptedNetwork(Half(), patch_size=(8, 8, 8), heads=3),
        [{"network.weight": torch.tensor([value])} for value in (1.0, 2.0)],
        manager,
        manager.get_configuration("3d_fullres"),
        DATASET,
    )
    ((logit, _),) = made.answer(np.ones((1, 8, 8, 8), np.float32), [WindowPrompt(1, [(4, 4, 4)])])
    np.testing.assert_allclose(logit, (10 + 20) / 2)
