"""The clickable U-Net against the plain one."""

from __future__ import annotations

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.interactive.answers import choose_labels, object_logits
from nnunetv2_promise.network_architectures.interactive.channels import (
    CHANNELS,
    NEGATIVE_POINTS,
    POSITIVE_POINTS,
    PREVIOUS_MASK,
    click,
    empty_channels,
    point_ball,
)
from nnunetv2_promise.network_architectures.interactive.correction_head import CLICK_LOGIT

OURS = "nnunetv2_promise.network_architectures.InteractiveUNet"
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
SIZE = (16, 16, 16)


def _kwargs(unet: str) -> dict:
    blocks = {"n_conv_per_stage": [1, 1, 1]} if unet == PLAIN else {"n_blocks_per_stage": [1, 1, 1]}
    return {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **blocks,
    }


IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def _plain(unet: str, channels: int, heads: int, **options):
    return get_network_from_plans(unet, _kwargs(unet), IMPORTED, channels, heads, **options).eval()


def _ours(unet: str, channels: int, heads: int, *, labels: int, deep_supervision: bool = False, **options):
    kwargs = _kwargs(unet) | {"unet": unet, "image_channels": 1, "labels": labels} | options
    return get_network_from_plans(OURS, kwargs, IMPORTED, channels, heads, deep_supervision=deep_supervision).eval()


@pytest.mark.parametrize("unet", [PLAIN, RESIDUAL])
def test_decoder_form_with_the_plain_weights_equals_the_plain_network_before_training(unet):
    torch.manual_seed(0)
    plain, ours = _plain(unet, 1, 3), _ours(unet, 1 + CHANNELS, 2, labels=2)
    missing, unexpected = ours.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("corrections.seg_layers.") for key in missing)
    image, interactions = torch.randn(2, 1, *SIZE), torch.rand(2, CHANNELS, *SIZE)
    with torch.no_grad():
        expected = plain(image)
        torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-6)
        labels = torch.tensor([1, 0])
        interactions[:, [PREVIOUS_MASK, POSITIVE_POINTS, NEGATIVE_POINTS]] = 0
        answered = ours.decode(ours.encode(image), interactions, labels)
        torch.testing.assert_close(answered, object_logits(expected, labels), rtol=0, atol=1e-6)


def test_a_label_that_was_asked_for_is_not_guessed():
    torch.manual_seed(0)
    ours = _ours(PLAIN, 1 + CHANNELS, 2, labels=2)
    image, channels = torch.randn(2, 1, *SIZE), empty_channels(2, SIZE)
    for patch in channels:
        click(patch, (8, 8, 5), positive=True)
    x = torch.cat([image, channels], 1)
    with torch.no_grad():
        guessed, features = ours(x), ours.encode(image)
        answers = []
        for label in (0, 1):
            ours.ask_for(label)
            answers.append(ours(x))
            torch.testing.assert_close(answers[-1], ours.decode(features, channels, torch.tensor([label, label])))
            named = torch.tensor([1 - label] * 2)
            torch.testing.assert_close(ours.decode(features, channels, named), ours(features, channels, named))
        assert not torch.allclose(answers[0], answers[1])
        torch.testing.assert_close(ours.decode(features, channels, named), answers[0])
        ours.ask_for(None)
        torch.testing.assert_close(ours(x), guessed)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("certainty", "fewest", "most"), [(1000.0, 1, 30), (0.0, 60, 200)])
def test_decoder_form_corrects_a_previous_mask_around_clicks_before_training(
    certainty: float, fewest: int, most: int, positive: bool
):
    """A click changes little of a mask of which the U-Net is certain, and much of one at which it hesitates."""
    torch.manual_seed(0)
    ours = _ours(PLAIN, 1 + CHANNELS, 2, labels=2)
    for parameter in ours.decoder.seg_layers[-1].parameters():
        parameter.data *= certainty
    image, channels = torch.randn(1, 1, *SIZE), empty_channels(1, SIZE)
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:8] = True
    channels[:, PREVIOUS_MASK] = mask
    with torch.no_grad():
        click(channels[0], (8, 8, 5), positive=positive)
        background, wanted = ours(torch.cat([image, channels], 1))[0]
        alone = ours(image)
        rest, label = object_logits(alone, choose_labels(alone, channels))[0]
    kept, ball = (4 * torch.tanh((label - rest).abs() / 4)).clamp(min=1), torch.zeros(SIZE)
    ball[4:13, 4:13, 1:10] = point_ball()
    expected = torch.where(mask, kept, -kept) + (CLICK_LOGIT if positive else -CLICK_LOGIT) * ball
    torch.testing.assert_close(wanted, expected)
    assert not background.any()
    answer = wanted > background
    assert answer[8, 8, 5].item() is positive
    assert answer[7, 8, 5].item() is positive
    assert fewest <= (answer != mask).sum() <= most
    assert torch.equal(answer[ball == 0], mask[ball == 0])


@pytest.mark.parametrize("positive", [True, False])
def test_decoder_form_without_a_previous_mask_adds_clicks_to_the_plain_answer_before_training(positive: bool):
    torch.manual_seed(0)
    ours = _ours(PLAIN, 1 + CHANNELS, 2, labels=1)
    image, channels = torch.randn(1, 1, *SIZE), empty_channels(1, SIZE)
    with torch.no_grad():
        plain = ours(image)
        click(channels[0], (8, 8, 5), positive=positive)
        change = ours(torch.cat([image, channels], 1)) - plain
    assert not change[:, 0].any()
    ball = torch.zeros(SIZE)
    ball[4:13, 4:13, 1:10] = point_ball()
    torch.testing.assert_close(change[0, 1], (CLICK_LOGIT if positive else -CLICK_LOGIT) * ball, atol=1e-5, rtol=0)


def test_decoder_form_after_training_listens_to_clicks_but_the_automatic_mask_does_not():
    torch.manual_seed(0)
    ours = _ours(PLAIN, 1 + CHANNELS, 2, labels=1)
    image, channels = torch.randn(1, 1, *SIZE), empty_channels(1, SIZE)
    before = ours(image)
    for parameter in ours.corrections.parameters():
        torch.nn.init.normal_(parameter)
    click(channels[0], (8, 8, 8), positive=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), before)
        assert (ours(torch.cat([image, channels], 1)) - before).abs().max() > 0.01


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_decoder_form_answers_from_features_as_in_one_go(deep_supervision: bool):
    torch.manual_seed(0)
    ours = _ours(PLAIN, 1 + CHANNELS, 2, labels=2)
    ours.decoder.deep_supervision = deep_supervision
    image, channels = torch.randn(2, 1, *SIZE), empty_channels(2, SIZE)
    for patch, place in zip(channels, [(8, 8, 5), (3, 4, 12)], strict=True):
        click(patch, place, positive=True)
    with torch.no_grad():
        automatic, clicked = ours(image), ours(torch.cat([image, channels], 1))
        features = ours.encode(image)
        ours.encoder = ours.decoder.stages = ours.decoder.transpconvs = None  # an answer needs none of them
        torch.testing.assert_close(ours(features), automatic, rtol=0, atol=0)
        torch.testing.assert_close(ours(features, channels), clicked, rtol=0, atol=0)


def test_decoder_form_without_interactions_is_the_plain_network_key_for_key():
    assert _ours(PLAIN, 1, 3, labels=2).state_dict().keys() == _plain(PLAIN, 1, 3).state_dict().keys()


@pytest.mark.parametrize("unet", [PLAIN, RESIDUAL])
def test_input_form_is_the_plain_network_with_seven_more_channels(unet):
    torch.manual_seed(0)
    plain = _plain(unet, 1 + CHANNELS, 2)
    ours = _ours(unet, 1 + CHANNELS, 2, labels=2, prompts="input")
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(1, 1 + CHANNELS, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x))


def test_initialisation_leaves_corrections_at_zero_and_the_rest_not():
    network = _ours(RESIDUAL, 1 + CHANNELS, 2, labels=1)
    for level in network.corrections["seg_layers"].levels:
        assert not level[-1].weight.any()
        assert level[0].weight.any()
    assert network.decoder.stages[0].convs[0].conv.weight.any()


def test_deep_supervision_returns_every_level_without_interactions_only():
    network = _ours(PLAIN, 1 + CHANNELS, 2, labels=1, deep_supervision=True)
    image = torch.randn(1, 1, *SIZE)
    assert [tuple(level.shape) for level in network(image)] == [(1, 2, 16, 16, 16), (1, 2, 8, 8, 8)]
    assert network.decode(network.encode(image), empty_channels(1, SIZE)).shape == (1, 2, *SIZE)


@pytest.mark.parametrize(
    ("channels", "options", "words"),
    [(5, {}, "got 5 input channels; the plans' architecture needs 1"), (8, {"prompts": "both"}, "prompts 'both'")],
)
def test_unknown_options_end_in_a_sentence(channels, options, words):
    with pytest.raises(UserError, match=words):
        _ours(PLAIN, channels, 2, labels=1, **options)


def test_object_logits_keep_the_probability_of_the_label():
    logits = torch.randn(2, 4, 2, 2, 2)
    pairs = object_logits(logits, torch.tensor([2, 0]))
    probabilities = logits.softmax(1)
    torch.testing.assert_close(pairs.softmax(1)[0, 1], probabilities[0, 3])
    torch.testing.assert_close(pairs.softmax(1)[1, 1], probabilities[1, 1])


def test_object_logits_of_one_label_are_the_logits():
    logits = torch.randn(1, 2, 2, 2, 2)
    assert object_logits(logits, torch.tensor([0])) is logits


def test_choose_labels_follows_the_mask_then_the_first_click():
    logits, channels = torch.zeros(3, 3, *SIZE), empty_channels(3, SIZE)
    logits[:, 1, :8], logits[:, 2, 8:] = 5, 5  # label 1 in front, label 2 behind
    click(channels[0], (12, 8, 8), positive=True)
    click(channels[0], (2, 8, 8), positive=True)
    click(channels[1], (2, 8, 8), positive=True)
    channels[2, 0, 12:14] = 1
    click(channels[2], (2, 2, 2), positive=True)  # on a voxel that the network gives to the other label
    assert choose_labels(logits, channels).tolist() == [1, 0, 1]
