"""The parts that correct: without effect at first, and each prompt counts once they are trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from oracle_helpers import inputs, options, relative_error
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.network_architectures.promise.correcting import Confidence, dense_maps

PATCH = (20, 17, 24)
CASES = {
    "plain": {},
    "residual CNN, channels": {"cnn_encoder": "residual", "in_channels": 2},
    "trilinear, one adapter": {"upsampling": "trilinear", "adapters": 1},
    "two labels": {"labels": 2},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(*, trained: bool = False, **changes: object) -> ProMISe:
    torch.manual_seed(0)
    made = ProMISe(**options(patch_size=PATCH, corrects=True, **changes)).eval()
    if trained:
        for parameter in made.corrections.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.mark.parametrize("case", CASES)
def test_correcting_network_starts_as_the_plain_one(case: str) -> None:
    torch.manual_seed(1)
    plain = ProMISe(**options(patch_size=PATCH, **CASES[case])).eval()
    ours = network(**CASES[case])
    missing = ours.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(key.startswith("corrections.") for key in missing)
    image, points = inputs(ours, batch=2, points=3, dtype=torch.float32)
    signs, previous = torch.tensor([[1, 0, 1], [0, 1, 1]]), torch.randn(2, 1, *PATCH)
    with torch.no_grad():
        expected = plain(image, points)
        assert torch.equal(ours(image, points), expected)
        assert relative_error(ours(image, points, point_labels=signs), expected) < 1e-6
        corrected = ours(image, points, point_labels=signs, previous_logits=previous)
    change = (corrected - expected).unflatten(-4, (-1, 2)).movedim(-4, 0)  # (2, ..., D, H, W)
    assert change[0].abs().max() < 1e-5  # background is left alone


def test_correcting_clicks_raise_and_lower_the_foreground_around_them_before_training() -> None:
    """A bell of 1.5 voxels, 8 high, by hand."""
    ours = network(labels=2)
    image, _ = inputs(ours, dtype=torch.float32)
    points = torch.tensor([[[4.0, 6.0, 8.0], [12.0, 10.0, 16.0]]])
    with torch.no_grad():
        encoded = ours.encode(image)
        plain = ours.decode(encoded, points)
        signed = {"point_labels": torch.tensor([[1, 0]]), "previous_logits": torch.zeros(1, 1, *PATCH)}
        refined, _ = ours.decode_and_rate(encoded, points, refines=True, **signed)
        change = ours.decode(encoded, points, **signed) - plain  # (1, labels, 2, D, H, W)
    assert change[:, :, 0].abs().max() < 1e-5
    assert relative_error(refined, plain) < 1e-6  # the very same clicks correct nothing
    for raised in change[0, :, 1]:
        at = {voxel: float(raised[voxel]) for voxel in [(4, 6, 8), (4, 9, 8), (5, 6, 10), (12, 10, 16), (0, 16, 0)]}
        expected = [8, 8 * np.exp(-2), 8 * np.exp(-0.5 * 5 / 1.5**2), -8, 0]
        np.testing.assert_allclose(list(at.values()), expected, atol=1e-4)


def test_pretrained_weights_of_a_plain_model_are_taken_by_nnunets_own_function(tmp_path: Path) -> None:
    torch.manual_seed(1)
    plain = ProMISe(**options(patch_size=PATCH))
    torch.save({"network_weights": plain.state_dict()}, tmp_path / "plain.pth")
    ours = network()
    load_pretrained_weights(ours, str(tmp_path / "plain.pth"))
    state = ours.state_dict()
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())


def answers(ours: ProMISe, image: Tensor, points: Tensor, **prompt: Tensor) -> Tensor:
    with torch.no_grad():
        return ours(image, points, **prompt)


def test_every_part_of_a_prompt_counts_after_training() -> None:
    ours = network(trained=True)
    image, points = inputs(ours, points=2, dtype=torch.float32)
    previous = torch.randn(1, 1, *PATCH)
    reference = answers(ours, image, points)
    assert torch.equal(answers(ours, image, points, point_labels=torch.ones(1, 2, dtype=torch.long)), reference)
    others = (
        {"point_labels": torch.tensor([[1, 0]])},
        {"point_labels": torch.tensor([[0, 1]])},
        {"previous_logits": previous},
        {"previous_logits": -previous},
    )
    found = [reference, *(answers(ours, image, points, **prompt) for prompt in others)]
    for index, one in enumerate(found):
        assert all(relative_error(one, other) > 1e-3 for other in found[:index])


def test_the_order_of_clicks_does_not_matter() -> None:
    ours = network(trained=True)
    image, points = inputs(ours, points=3, dtype=torch.float32)
    signs, order = torch.tensor([[1, 0, 1]]), [2, 0, 1]
    first = answers(ours, image, points, point_labels=signs)
    assert relative_error(answers(ours, image, points[:, order], point_labels=signs[:, order]), first) < 1e-5


def test_every_new_parameter_gets_a_gradient() -> None:
    ours = network(trained=True).train()
    image, points = inputs(ours, points=2, dtype=torch.float32)
    prompt = {"point_labels": torch.tensor([[1, 0]]), "previous_logits": torch.randn(1, 1, *PATCH)}
    logits, dice = ours.decode_and_rate(ours.encode(image), points, **prompt)
    (logits.square().mean() + dice.mean()).backward()
    still = [name for name, p in ours.corrections.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still
    parts = ours.parameter_parts()
    assert sum(map(len, parts.values())) == len(list(ours.parameters()))


def test_every_new_parameter_is_in_the_graph_of_a_first_answer() -> None:
    """DDP waits for parameters without a gradient; with one iteration there is nothing to correct."""
    ours = network().train()
    image, points = inputs(ours, points=2, dtype=torch.float32)
    logits, dice = ours.decode_and_rate(ours.encode(image), points)
    (logits.square().mean() + dice.mean()).backward()
    assert [name for name, p in ours.corrections.named_parameters() if p.grad is None] == []


def test_dense_maps_are_bells_by_maximum_and_the_previous_probability() -> None:
    """A patch of 8 x 4 x 4 voxels; a pair of voxels has its middle at 0.5, 2.5, 4.5, 6.5."""
    points = torch.tensor([[[2.5, 0.5, 2.5], [4.5, 0.5, 2.5], [0.0, 0.0, 0.0]]])
    logits = torch.full((1, 1, 8, 4, 4), -100.0)
    logits[0, 0, :2] = 100.0
    logits[0, 0, 2:4] = 0.0
    maps = dense_maps(points, torch.tensor([[1, 1, 0]]), logits, (8, 4, 4))
    assert maps.shape == (1, 3, 2, 2, 4)  # H, W, D
    step = np.exp(-0.5 * (2 / 1.5) ** 2)
    np.testing.assert_allclose(maps[0, 0, 0, 1], [step, 1, 1, step], rtol=1e-6)
    np.testing.assert_allclose(maps[0, 0, 1, 0], [step**3, step**2, step**2, step**3], rtol=1e-5)
    np.testing.assert_allclose(maps[0, 1, 0, 0, 0], np.exp(-0.5 * 3 * (0.5 / 1.5) ** 2), rtol=1e-6)
    np.testing.assert_allclose(maps[0, 2, 1, 1], [1, 0.5, 0, 0], atol=1e-6)


def test_dense_maps_pad_the_previous_mask_with_background_and_are_empty_without_one() -> None:
    points, signs = torch.zeros(1, 1, 3), torch.ones(1, 1)
    padded = dense_maps(points, signs, torch.full((1, 1, 6, 4, 4), 50.0), (8, 4, 4))
    np.testing.assert_allclose(padded[0, 2, 0, 0], [1, 1, 1, 0])
    assert dense_maps(points, signs, None, (8, 4, 4))[0, 1:].abs().max() == 0


def test_confidence_learns_the_dice_of_masks_and_leaves_the_features_alone() -> None:
    """Masks that are as good as they are certain: a constant guess has an error of 0.25 in the mean."""
    torch.manual_seed(0)
    head = Confidence(16)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    quality = torch.rand(64)
    fused = torch.randn(64, 16, 4, 4, 4, requires_grad=True)
    logits = torch.zeros(64, 2, 8, 8, 8)
    logits[:, 1] = -20
    logits[:, 1, :4] = (8 * quality - 2).view(-1, 1, 1, 1)
    for _ in range(300):
        optimizer.zero_grad()
        error = (head(fused, logits) - quality).abs().mean()
        error.backward()
        optimizer.step()
    assert error < 0.05
    assert fused.grad is None


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({"point_labels": torch.ones(1, 3)}, r"point_labels has shape \(1, 3\); the network needs \(1, 2\)"),
        ({"previous_logits": torch.ones(1, 2, *PATCH)}, r"previous_logits has shape .* needs \(1, 1, 20, 17, 24\)"),
    ],
)
def test_wrong_prompts_are_refused(prompt: dict[str, Tensor], words: str) -> None:
    ours = network()
    image, points = inputs(ours, points=2, dtype=torch.float32)
    with pytest.raises(UserError, match=words):
        ours(image, points, **prompt)


def test_plain_network_refuses_what_it_cannot_do() -> None:
    plain = ProMISe(**options(patch_size=PATCH))
    image, points = inputs(plain, points=2, dtype=torch.float32)
    encoded = plain.encode(image)
    with pytest.raises(UserError, match="point_labels was given to a network that cannot correct"):
        plain.decode(encoded, points, point_labels=torch.ones(1, 2))
    with pytest.raises(UserError, match="previous_logits was given to a network that cannot correct"):
        plain.decode(encoded, points, previous_logits=torch.ones(1, 1, *PATCH))
    with pytest.raises(UserError, match="cannot rate its masks"):
        plain.decode_and_rate(encoded, points)
