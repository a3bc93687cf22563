"""ProMISe behind nnInteractive's channels: clicks are found, the image is encoded once, labels are chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle_helpers import options
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ClickableProMISe
from nnunetv2_promise.network_architectures.interactive.channels import (
    CHANNELS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
    click,
    empty_channels,
)
from nnunetv2_promise.network_architectures.interactive.clickable_promise import Clicks, find_clicks
from nnunetv2_promise.network_architectures.promise.correcting import refine_first

PATCH = (20, 24, 28)


def made(**changes: Any) -> ClickableProMISe:
    torch.manual_seed(0)
    chosen = options(patch_size=PATCH, **changes)
    network = ClickableProMISe(1 + CHANNELS, 2, deep_supervision=False, **chosen).eval()
    with torch.no_grad():
        for parameter in network.network.corrections.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def patch(*clicks: tuple[tuple[int, int, int], bool], mask: Tensor | None = None, seed: int = 0) -> Tensor:
    """(1, 8, D, H, W), the clicks from the oldest to the newest."""
    channels = empty_channels(1, PATCH)[0]
    for point, positive in clicks:
        click(channels, point, positive=positive)
    if mask is not None:
        channels[PREVIOUS_MASK] = mask
    image = torch.randn(1, *PATCH, generator=torch.Generator().manual_seed(seed))
    return torch.cat([image, channels])[None]


def test_clicks_are_found_in_their_order_and_with_their_sign() -> None:
    clicks = [((3, 4, 5), True), ((10, 12, 20), False), ((12, 5, 9), True), ((19, 0, 27), False)]
    found = find_clicks(patch(*clicks)[0, 1:])
    assert found is not None
    assert found.coords[0].tolist() == [list(point) for point, _ in clicks]
    assert found.labels[0].tolist() == [1, 0, 1, 0]


def test_click_outside_of_the_patch_leaves_no_false_maximum() -> None:
    found = find_clicks(patch(((-3, 10, 10), True), ((10, 10, 10), True))[0, 1:])
    assert found is not None
    assert found.coords[0].tolist() == [[10, 10, 10]]


def test_mask_without_clicks_is_clicked_itself_and_nothing_is_nothing() -> None:
    mask = torch.zeros(PATCH)
    mask[5:8, 5:9, 5:9] = 1
    found = find_clicks(patch(mask=mask)[0, 1:])
    assert found is not None
    assert all(mask[tuple(voxel)] == 1 for voxel in found.coords[0].tolist())
    assert found.labels.all()
    assert find_clicks(patch()[0, 1:]) is None
    with torch.inference_mode():
        assert not (made()(patch()).argmax(1)).any()


def test_answer_is_promises_for_the_same_clicks_and_mask() -> None:
    network = made()
    mask = torch.zeros(PATCH)
    mask[5:8, 5:9, 5:9] = 1
    x = patch(((6, 6, 6), True), ((15, 20, 20), False), mask=mask)
    points = torch.tensor([[[6.0, 6, 6], [15, 20, 20]]])
    with torch.inference_mode():
        expected = network.network(
            x[:, :1], points, point_labels=torch.tensor([[1, 0]]), previous_logits=(12 * mask - 6)[None, None]
        )
        torch.testing.assert_close(network(x), expected)


def test_image_is_encoded_once_while_the_patch_stays_and_the_last_answer_is_remembered() -> None:
    network = made()
    encoded = []
    network.network.image_encoder.register_forward_hook(lambda *_: encoded.append(1))
    with torch.inference_mode():
        first = network(patch(((6, 6, 6), True)))
        mask = first.argmax(1)[0].float()
        assert mask.any()
        second = network(patch(((6, 6, 6), True), ((15, 20, 20), False), mask=mask))
        assert len(encoded) == 1
        points = torch.tensor([[[6.0, 6, 6], [15, 20, 20]]])
        previous = first[:, 1:] - first[:, :1]
        image = patch()[:, :1]
        expected = network.network(image, points, point_labels=torch.tensor([[1, 0]]), previous_logits=previous)
        torch.testing.assert_close(second, expected)
        network(patch(((6, 6, 6), True), seed=1))
        assert len(encoded) == 3  # one of them for the expected answer
        network.load_state_dict(network.state_dict())
        network(patch(((6, 6, 6), True), seed=1))
        assert len(encoded) == 4


def test_label_is_chosen_by_logits_whose_probabilities_round_to_the_same_number() -> None:
    """A click that corrects raises all labels' logits by 8 where it lies."""
    logits = torch.zeros(3, 2, *PATCH)
    logits[:, 1] = torch.tensor([20.0, 30, 25])[:, None, None, None]
    assert (torch.sigmoid(logits[1:, 1]) == 1).all()
    clicks = Clicks(torch.tensor([[[6, 6, 6]]]), torch.tensor([[1]]))
    assert ClickableProMISe._choose_label(logits, clicks, torch.zeros(PATCH)) == 1


def test_label_is_the_most_probable_one_under_the_first_positive_click() -> None:
    network = made(labels=3)
    x = patch(((15, 20, 20), False), ((6, 6, 6), True), ((10, 10, 10), True))
    with torch.inference_mode():
        clicks = find_clicks(x[0, 1:])
        assert clicks is not None
        every = network.network(x[:, :1], clicks.coords, point_labels=clicks.labels)[0]  # (3, 2, D, H, W)
        probable = (every[:, 1] - every[:, 0])[:, 6, 6, 6].argmax()
        refined, _ = refine_first(
            network.network,
            network.network.encode(x[:, :1]),
            clicks.coords,
            every[probable][None],
            label_index=probable[None],
            point_labels=clicks.labels,
        )
        torch.testing.assert_close(network(x), refined)


def test_weights_have_the_names_of_a_checkpoint() -> None:
    from nnunetv2_promise.inference.prompted_network import PromptedNetwork

    network = made()
    assert (
        network.state_dict().keys() == PromptedNetwork(network.network, patch_size=PATCH, heads=2).state_dict().keys()
    )


@pytest.mark.parametrize("arguments", [(CHANNELS, 2, False), (1 + CHANNELS, 3, False), (1 + CHANNELS, 2, True)])
def test_other_channels_are_refused(arguments: tuple[int, int, bool]) -> None:
    with pytest.raises(UserError, match="ClickableProMISe needs image channels and 7 more"):
        ClickableProMISe(*arguments, **options(patch_size=PATCH))


def test_point_channel_is_the_engines() -> None:
    """Its ball has the value 1 in the middle, whatever the sign of the click."""
    assert patch(((6, 6, 6), True))[0, 1 + POSITIVE_POINTS, 6, 6, 6] == 1
