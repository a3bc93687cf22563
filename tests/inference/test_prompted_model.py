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
    monkeypatch: pytest.MonkeyPatch, axes: Any, trainer: type | None = Trainer, *, folds: int = 2, **options: bool
) -> PromptedModel:
    state = PromptedNetwork(BallNetwork(), patch_size=PATCH, heads=3).state_dict()
    content = {"trainer_name": "Trainer", "network_weights": state, "inference_allowed_mirroring_axes": axes}
    monkeypatch.setattr(prompted_model, "read_checkpoint", lambda path: content | {"path": path})
    monkeypatch.setattr(prompted_model, "find_trainer", lambda name: trainer if name == "Trainer" else None)
    folder: Any = SimpleNamespace(**{**vars(FOLDER), "checkpoints": FOLDER.checkpoints[:folds]})
    return PromptedModel.load(folder, torch.device("cpu"), **options)


@pytest.mark.parametrize("folds", [1, 2])
@pytest.mark.parametrize("axes", [(0, 2), [1], None, ()])
def test_every_fold_votes_in_every_mirror_image_that_training_allows(
    monkeypatch: pytest.MonkeyPatch, axes, folds: int
) -> None:
    model = load(monkeypatch, axes, folds=folds)
    assert Trainer.asked == [list(PATCH), 1, 3, False]
    assert not model.network.training
    assert len(list(model._views())) == folds * 2 ** len(axes or ())
    unmirrored = load(monkeypatch, axes, folds=folds, use_mirroring=False)
    assert list(unmirrored._views()) == [()] * folds


def test_a_trainer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="The trainer Trainer is not found; add its folder"):
        load(monkeypatch, None, None)


def half(*weights: float, network: Half | None = None, **promise: str) -> PromptedModel:
    """Folds that answer with the image, multiplied by ten times their weight."""
    planned = plans([0, 1, 2])
    planned["configurations"]["3d_fullres"]["promise"] = promise
    manager = PlansManager(planned)
    return PromptedModel(
        PromptedNetwork(network or Half(), patch_size=(8, 8, 8), heads=3),
        [{"network.weight": torch.tensor([value])} for value in weights],
        manager,
        manager.get_configuration("3d_fullres"),
        DATASET,
    )


def test_fold_that_did_not_look_has_no_vote() -> None:
    made = half(1.0, 1.0, -1.0)
    window = np.full((1, 8, 8, 32), -1, np.float32)
    window[0, 2:6, 2:6, 4:28] = 1
    ((logit, _),) = made.answer(window, [WindowPrompt(1, [(4, 4, 16)])])
    # Two folds grow along the whole object; the third stays in its first patch and must not veto what is beyond.
    assert (logit[2:6, 2:6, 4:28] > 0).all()
    assert logit[3, 3, 25] == pytest.approx(10)


@pytest.mark.parametrize(("weights", "mean"), [((), 10), ((3.0,), 30), ((1.0, 2.0), 15), ((1.0, 2.0, 6.0), 30)])
def test_folds_vote_alike(weights: tuple[float, ...], mean: float) -> None:
    window, prompt = np.ones((1, 8, 8, 8), np.float32), WindowPrompt(1, [(4, 4, 4)])
    ((logit, _),) = half(*weights).answer(window, [prompt])
    np.testing.assert_allclose(logit, mean)


@pytest.mark.parametrize(("promise", "both"), [({}, False), ({"target": "object"}, False), ({"target": "label"}, True)])
def test_the_clicked_component_is_the_answer_unless_the_label_is_the_target(
    promise: dict[str, str], both: bool
) -> None:
    window = np.full((1, 8, 8, 8), -1, np.float32)
    window[0, 3:6, 3:6, 3:6] = window[0, 1, 1, 1] = 1
    ((logit, _),) = half(**promise).answer(window, [WindowPrompt(1, [(4, 4, 4)])])
    assert (logit[3:6, 3:6, 3:6] > 0).all()
    assert np.count_nonzero(logit > 0) == 27 + both


@pytest.mark.parametrize(("promise", "inside"), [({}, False), ({"placement": "inside"}, True)])
def test_the_plans_say_whether_windows_stay_inside_the_scan(promise: dict[str, str], inside: bool) -> None:
    assert half(**promise).inside == inside


class RatedHalf(Half):
    """Expects a Dice that is the largest intensity of a patch."""

    corrections = object()

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def decode_and_rate(
        self, image: torch.Tensor, points: torch.Tensor, **prompt: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self(image, points), image.amax((1, 2, 3, 4))


def test_expected_dice_is_that_of_the_patch_that_holds_most_of_the_mask() -> None:
    """The first patch, voxels 12 to 19, holds the thick part of the object; others hold more intense voxels."""
    window = np.full((1, 8, 8, 32), -1, np.float32)
    window[0, 3:5, 3:5, 4:28] = 0.75
    window[0, 3:5, 3:5, 12:20] = window[0, 1:7, 1:7, 13:19] = 0.25
    ((logit, expected_dice),) = half(network=RatedHalf()).answer(window, [WindowPrompt(1, [(4, 4, 16)])])
    np.testing.assert_array_equal(logit > 0, window[0] > 0)
    assert expected_dice == 0.25
