"""Rounds of corrections: what the network is asked in each, and which losses count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.promise.correcting import REFINEMENTS
from nnunetv2_promise.planning.correction_settings import CorrectionSettings
from nnunetv2_promise.training.correction_rounds import Answer, CorrectionRounds, hard_dice, rounds_loss
from nnunetv2_promise.training.patch_corrections import CLICKS, ProtocolClicks, click_dice
from nnunetv2_promise.training.prompt_sampling import PromptedTarget

SIZE = (6, 6, 6)


class Recorder:
    """Answers background everywhere, label l with a foreground logit of -0.5 - l; keeps what it was asked."""

    def __init__(self, labels: int = 1) -> None:
        self.labels = labels
        self.asked: list[dict[str, Any]] = []

    def decode_and_rate(self, encoded: None, coords: Tensor, **prompt: Any) -> tuple[Tensor, Tensor]:
        self.asked.append({"coords": coords, **prompt})
        index = prompt["label_index"]
        if self.labels == 1:
            index = index.reshape(-1)
        foreground = -0.5 - index.float()
        logits = torch.zeros(*index.shape, 2, *SIZE)
        logits[..., 1, :, :, :] = foreground.view(*index.shape, 1, 1, 1)
        return logits, torch.full((len(coords),), 0.25)

    def decode(self, encoded: None, coords: Tensor, **prompt: Any) -> Tensor:
        return self.decode_and_rate(encoded, coords, **prompt)[0]


def prompted(object_points: int = 3, noise: int = 2, *, labels: int = 1) -> PromptedTarget:
    """Two patches with an object of two voxels each, of labels 1 and 0."""
    target = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
    target[:, 0, 2, 2, 2:4] = 1
    points = torch.arange(2 * (object_points + noise) * 3).view(2, -1, 3) % 6
    others = torch.zeros(2, 1, *SIZE, dtype=torch.uint8)
    others[1, 0, 0, 0, 0] = 1
    more = labels - 1
    return PromptedTarget(target, torch.tensor([1, 0]), points, others[:, :more], torch.tensor([[0], [1]])[:, :more])


def rounds(settings: CorrectionSettings, **changes: Any) -> CorrectionRounds:
    values = {"prompted": prompted(), "object_points": 3, "settings": settings, "rng": np.random.default_rng(0)}
    return CorrectionRounds(**{**values, **changes})


def test_first_round_is_the_papers_prompt_and_later_ones_add_clicks_on_errors() -> None:
    network = Recorder()
    asked = rounds(CorrectionSettings(iterations=4, without_click_share=0.0))
    answers = asked(network, None)
    assert len(answers) == len(network.asked) == 4
    first, *later = network.asked
    assert torch.equal(first["coords"], asked.prompted.points)
    assert not {"point_labels", "previous_logits"} & first.keys()
    kept = later[0]["coords"].shape[1] - 1
    assert 1 <= kept <= 3
    for number, prompt in enumerate(later, start=1):
        assert torch.equal(prompt["coords"][:, :kept], asked.prompted.points[:, :kept])
        new = prompt["coords"][:, kept:]
        assert new.shape[1] == number
        assert all(asked.prompted.target[b, 0][tuple(voxel)] for b in range(2) for voxel in new[b].tolist())
        assert prompt["point_labels"].all()
        assert prompt["point_labels"].shape == prompt["coords"].shape[:2]
        assert (prompt["previous_logits"] < 0).all()
        assert prompt["previous_logits"].shape == (2, 1, *SIZE)


def test_rounds_without_a_click_give_the_previous_mask_alone() -> None:
    network = Recorder()
    rounds(CorrectionSettings(iterations=4, without_click_share=1.0))(network, None)
    assert len({prompt["coords"].shape[1] for prompt in network.asked[1:]}) == 1
    assert all("previous_logits" in prompt for prompt in network.asked[1:])


def test_later_rounds_keep_one_of_the_points_on_the_object_or_several() -> None:
    kept = set()
    for seed in range(30):
        network = Recorder()
        settings = CorrectionSettings(iterations=2, without_click_share=1.0)
        rounds(settings, rng=np.random.default_rng(seed))(network, None)
        kept.add(network.asked[1]["coords"].shape[1])
    assert kept == {1, 2, 3}


def test_each_round_corrects_the_answer_before_it() -> None:
    class Sinking(Recorder):
        """Its foreground logit is lower by 1 in each answer."""

        def decode_and_rate(self, encoded: None, coords: Tensor, **prompt: Any) -> tuple[Tensor, Tensor]:
            logits, rating = super().decode_and_rate(encoded, coords, **prompt)
            logits[:, 1] -= len(self.asked)
            return logits, rating

    network = Sinking()
    rounds(CorrectionSettings(iterations=4))(network, None)
    given = [prompt["previous_logits"][:, 0, 0, 0, 0].tolist() for prompt in network.asked[1:]]
    assert given == [[-2.5, -1.5], [-3.5, -2.5], [-4.5, -3.5]]


def test_clicks_of_a_training_step_fall_on_what_was_not_found() -> None:
    """One of an object's two voxels was found; the other is clicked, or the first point again where it is ignored."""
    ignored = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    ignored[1, 0, 2, 2, 3] = True
    network = Finder((2, 2, 2))
    asked = rounds(CorrectionSettings(iterations=3, without_click_share=0.0), ignored=ignored)
    asked(network, None)
    first = asked.prompted.points[1, 0].tolist()
    assert network.asked[-1]["coords"][:, -2:].tolist() == [[[2, 2, 3]] * 2, [first] * 2]
    assert network.asked[-1]["point_labels"].all()


def test_every_other_label_is_compared_with_its_own_target() -> None:
    others = torch.zeros(2, 2, *SIZE, dtype=torch.uint8)
    others[:, 0, 0, 0, :1], others[:, 1, 0, 0, :2] = 1, 1
    asked = rounds(CorrectionSettings(confidence_weight=0.0), prompted=prompted()._replace(other_targets=others))
    logits = torch.arange(3.0).view(1, 3, 1, 1, 1, 1).expand(2, 3, 2, *SIZE)
    calls: list[tuple[float, int]] = []

    def loss(logits: Tensor, target: Tensor, ignored: Tensor | None) -> Tensor:
        calls.append((float(logits.mean()), int(target.sum())))
        return logits.mean()

    total = rounds_loss([Answer(logits[:, 0], torch.zeros(2), logits[:, 1:])], asked, loss)
    assert calls == [(0, 4), (1, 2), (2, 4)]
    assert float(total) == 1


def test_every_label_learns_in_the_first_round() -> None:
    network = Recorder(labels=2)
    asked = rounds(CorrectionSettings(iterations=2, confidence_weight=0.0), prompted=prompted(labels=2))
    answers = asked(network, None)
    assert network.asked[0]["label_index"].tolist() == [[1, 0], [0, 1]]
    assert network.asked[1]["label_index"].tolist() == [1, 0]
    assert [answer.logits[:, 1, 0, 0, 0].tolist() for answer in answers] == [[-1.5, -0.5]] * 2  # of the prompted label
    assert answers[0].other_logits is not None
    assert answers[0].other_logits[:, 0, 1, 0, 0, 0].tolist() == [-0.5, -1.5]
    calls: list[tuple[Tensor, Tensor]] = []

    def loss(logits: Tensor, target: Tensor, ignored: Tensor | None) -> Tensor:
        calls.append((logits, target))
        return torch.tensor(float(len(calls)))

    total = rounds_loss(answers, asked, loss)
    assert float(total) == ((1 + 3) / 2 + 2) / 2  # the first round's mean over labels, then over rounds
    other_logits, other_target = calls[2]
    assert other_logits[:, 1, 0, 0, 0].tolist() == [-0.5, -1.5]  # label 0 of the first patch, label 1 of the second
    assert other_target.sum((1, 2, 3, 4)).tolist() == [0, 1]


def test_rating_is_compared_with_the_dice() -> None:
    asked = rounds(CorrectionSettings(iterations=1, confidence_weight=2.0))
    answers = asked(Recorder(), None)
    total = rounds_loss(answers, asked, lambda *_: torch.zeros(()))
    assert float(total) == pytest.approx(2 * 0.25**2)  # 0.25 expected, the mask is empty


def test_hard_dice_of_each_patch() -> None:
    logits = torch.zeros(4, 2, 1, 1, 4)
    logits[:, 1] = -1
    logits[0, 1, 0, 0, :3] = 1
    logits[3, 1, 0, 0, 1] = 1  # one voxel, and no object
    target = torch.zeros(4, 1, 1, 1, 4)
    target[:2, 0, 0, 0, 2:] = 1
    assert hard_dice(logits, target, None).tolist() == pytest.approx([2 / 5, 0, 1, 0])
    ignored = torch.zeros(4, 1, 1, 1, 4, dtype=torch.bool)
    ignored[0, 0, 0, 0, 3] = True
    assert hard_dice(logits, target, ignored).tolist() == pytest.approx([2 / 4, 0, 1, 0])
    ignored[0, 0, 0, 0, 0] = True
    assert hard_dice(logits, target, ignored).tolist() == pytest.approx([2 / 3, 0, 1, 0])


def test_protocol_clicks_correct_each_patch_by_itself() -> None:
    network = Recorder()
    start = prompted(object_points=1, noise=0)
    start.target[1] = 0  # nothing to correct: the prompt's own point, negative
    answers = ProtocolClicks(start, (1.0, 1.0, 1.0), None)(network, None)
    assert len(answers) == CLICKS
    last = network.asked[-1]
    assert last["coords"].shape == (2, CLICKS, 3)
    assert all(voxel == [2, 2, 2] for voxel in last["coords"][0].tolist())
    assert last["point_labels"].tolist() == [[1] * CLICKS, [0] * CLICKS]
    assert network.asked[0]["previous_logits"] is None
    assert len(network.asked) == CLICKS + REFINEMENTS
    for refined in network.asked[1 : 1 + REFINEMENTS]:  # the first answer, handed back
        assert torch.equal(refined["coords"], network.asked[0]["coords"])
        assert torch.equal(refined["previous_logits"][:, 0], answers[0][:, 1] - answers[0][:, 0])


class Finder(Recorder):
    """Finds certain voxels of each patch: a foreground logit of 0.5 there, which is certain enough."""

    def __init__(self, *voxels: tuple[int, int, int]) -> None:
        super().__init__()
        self.voxels = voxels

    def decode_and_rate(self, encoded: None, coords: Tensor, **prompt: Any) -> tuple[Tensor, Tensor]:
        logits, rating = super().decode_and_rate(encoded, coords, **prompt)
        for voxel in self.voxels:
            logits[(slice(None), 1, *voxel)] = 0.5
        return logits, rating


def test_protocol_clicks_on_what_spills_are_negative() -> None:
    """The answer covers the object and, far away, a voxel in each of two places, of which one does not count."""
    network = Finder((2, 2, 2), (2, 2, 3), (5, 5, 0), (0, 5, 5))
    start = prompted(object_points=1, noise=0)
    ignored = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    ignored[:, :, 0, 5, 5] = True
    ProtocolClicks(start, (1.0, 1.0, 1.0), ignored)(network, None)
    last = network.asked[-1]
    assert last["coords"][:, 1:].tolist() == [[[5, 5, 0]] * (CLICKS - 1)] * 2
    assert last["point_labels"].tolist() == [[1] + [0] * (CLICKS - 1)] * 2


def test_protocol_does_not_click_where_nothing_counts() -> None:
    """Everything is ignored but one voxel of each object, which the network misses."""
    network = Recorder()
    start = prompted(object_points=1, noise=0)
    ignored = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    ignored[:, :, 2, 2, 3] = False
    ProtocolClicks(start, (1.0, 1.0, 1.0), ignored)(network, None)
    assert network.asked[-1]["coords"].tolist() == [[[2, 2, 3]] * CLICKS] * 2
    assert network.asked[-1]["point_labels"].all()


def test_click_dice_by_hand() -> None:
    dice = click_dice(np.array([2.0, 0, 0, 0]), np.array([1.0, 3, 1, 0]), np.array([1.0, 0, 0, 0]))
    assert dice[:3].tolist() == [4 / 6, 0, 0]
    assert np.isnan(dice[3])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"iterations": 0}, "iterations of the plans is 0; use a whole number"),
        ({"iterations": 2.5}, "iterations of the plans is 2.5"),
        ({"click_density": "middle"}, "use 'central' or 'uniform'"),
        ({"without_click_share": 1.5}, "without_click_share of the plans is 1.5; use a number from 0 to 1"),
        ({"confidence_weight": -1}, "confidence_weight of the plans is -1"),
        ({"rounds": 3}, "has 'rounds'; it may have iterations, click_density"),
    ],
)
def test_settings_without_meaning_are_refused(entries: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        CorrectionSettings.from_configuration({"promise": {"interactive": entries}})


def test_settings_have_defaults() -> None:
    assert CorrectionSettings.from_configuration({}) == CorrectionSettings()
    assert CorrectionSettings.from_configuration({"promise": {"interactive": {"iterations": 3}}}).iterations == 3
