"""What the network refuses: one sentence each."""

from __future__ import annotations

import pytest
import torch
from oracle_helpers import TINY, inputs, options

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ProMISe

BAD_OPTIONS = [
    ({"encoder": "vit_x"}, "encoder 'vit_x' is unknown"),
    ({"encoder": {"embed_dim": 32, "depth": 4}}, r"missing \['num_heads'\]"),
    ({"encoder": {**TINY, "heads": 2}}, r"unknown \['heads'\]"),
    ({"encoder": {**TINY, "depth": 3}}, "at least 4 blocks"),
    ({"encoder": {**TINY, "num_heads": 5}}, "not a multiple of num_heads 5"),
    ({"encoder": {**TINY, "window_size": 0}}, "window_size is 0"),
    ({"encoder": {**TINY, "window_size": [4, 4]}}, "window_size is"),
    ({"patch_size": (8, 64, 64)}, "at least 16 voxels"),
    ({"patch_size": (64, 64)}, "three sizes"),
    ({"in_channels": 0}, "in_channels is 0"),
    ({"adapters": 3}, "adapters is 3"),
    ({"upsampling": "nearest"}, "upsampling is 'nearest'"),
    ({"cnn_encoder": "add"}, "cnn_encoder is 'add'"),
    ({"neck_channels": 24}, "neck_channels is 24"),
    ({"decoder_channels": 0}, "decoder_channels is 0"),
]


@pytest.mark.parametrize(("change", "message"), BAD_OPTIONS)
def test_network_bad_option_is_one_sentence(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        ProMISe(**options(**change))
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def network() -> ProMISe:
    return ProMISe(**options(patch_size=(16, 20, 24))).eval()


@pytest.mark.parametrize(
    "shape", [(1, 1, 16, 20, 23), (1, 1, 24, 20, 16), (1, 2, 16, 20, 24), (1, 16, 20, 24), (16, 20, 24)]
)
def test_network_wrong_image_shape_names_the_right_one(network: ProMISe, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"needs \(batch, 1, 16, 20, 24\)"):
        network(torch.zeros(shape), torch.zeros(1, 1, 3))


@pytest.mark.parametrize("shape", [(1, 3), (1, 0, 3), (1, 1, 2), (2, 1, 3)])
def test_network_wrong_point_shape_names_the_right_one(network: ProMISe, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"needs \(1, at least 1, 3\)"):
        network(torch.zeros(1, 1, 16, 20, 24), torch.zeros(shape))


@pytest.mark.parametrize("point", [(16, 0, 0), (0, 20, 0), (0, 0, 24), (-1, 0, 0), (0, float("nan"), 0)])
def test_network_point_outside_is_named(network: ProMISe, point: tuple[float, ...]) -> None:
    points = torch.tensor([[(1.0, 1.0, 1.0), point]])
    with pytest.raises(UserError, match=r"lies outside the patch of \(16, 20, 24\) voxels"):
        network(torch.zeros(1, 1, 16, 20, 24), points)


@pytest.mark.parametrize("point", [(-0.5, -0.5, -0.5), (15.5, 19.5, 23.5)])
def test_network_point_on_the_border_is_accepted(network: ProMISe, point: tuple[float, ...]) -> None:
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 16, 20, 24), torch.tensor([[point]])).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_network_image_not_finite_is_refused_outside_training(network: ProMISe, value: float) -> None:
    image = torch.zeros(1, 1, 16, 20, 24)
    image[0, 0, 3, 4, 5] = value
    with pytest.raises(UserError, match="NaN or infinite"):
        network.encode(image)


def test_network_in_training_does_not_look_at_values() -> None:
    """The check would make a GPU wait in every step."""
    network = ProMISe(**options(patch_size=(16, 16, 16))).train()
    image, points = inputs(network, dtype=torch.float32)
    network(image, points + 100)


@pytest.mark.parametrize("patch_size", [(16, 16, 16), (19, 64, 33)])
def test_network_returns_logits_of_the_patch(patch_size: tuple[int, ...]) -> None:
    network = ProMISe(**options(patch_size=patch_size, in_channels=2))
    image, points = inputs(network, batch=2, dtype=torch.float32)
    with torch.no_grad():
        assert network(image, points).shape == (2, 2, *patch_size)
