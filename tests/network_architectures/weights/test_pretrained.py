"""Weights of another patch size, other channels or other labels, loaded by nnU-Net's own function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.network_architectures.weights.pretrained import accept_pretrained

SMALL: dict[str, Any] = {
    "encoder": {"embed_dim": 16, "depth": 4, "num_heads": 2, "global_attn_indexes": [1, 3], "window_size": [2, 2, 2]},
    "patch_size": (16, 16, 16),
    "neck_channels": 16,
    "decoder_channels": 4,
}
POINTS = torch.tensor([[[8, 8, 8], [3, 9, 4]]])


def loaded(given: ProMISe, folder: Path, **options: Any) -> tuple[ProMISe, list[str]]:
    """A network with other options and the given one's weights."""
    torch.save({"network_weights": given.state_dict()}, folder / "given.pth")
    made = ProMISe(**{**SMALL, **options})
    keys = accept_pretrained(made, given.state_dict(), in_channels=made.in_channels, source="given.pth")
    load_pretrained_weights(made, str(folder / "given.pth"))
    return made.eval(), keys


def logits(network: ProMISe, image: torch.Tensor, **prompt: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(image, POINTS, **prompt)


def test_an_image_of_equal_channels_gives_what_one_channel_gave(tmp_path: Path) -> None:
    one = ProMISe(**SMALL).eval()
    two, keys = loaded(one, tmp_path, in_channels=2)
    assert sorted(keys) == ["channel_mixer.weight", "cnn_encoder.0.weight", "mask_decoder.head.0.weight"]
    image = torch.randn(1, 1, 16, 16, 16)
    expected = logits(one, image)
    torch.testing.assert_close(logits(two, image.repeat(1, 2, 1, 1, 1)), expected, rtol=1e-4, atol=1e-5)
    back, _ = loaded(two, tmp_path)
    torch.testing.assert_close(logits(back, image), expected, rtol=1e-4, atol=1e-5)


def test_every_label_starts_with_the_one_labels_logits(tmp_path: Path) -> None:
    one = ProMISe(**SMALL).eval()
    three, keys = loaded(one, tmp_path, labels=3)
    assert keys == ["mask_decoder.head.3.weight"]
    image = torch.randn(1, 1, 16, 16, 16)
    expected = logits(one, image)
    for label in range(3):
        answer = logits(three, image, label_index=torch.tensor([label]))
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


def test_positions_of_another_patch_are_interpolated(tmp_path: Path) -> None:
    given = ProMISe(**SMALL)
    with torch.no_grad():
        given.image_encoder.depth_embed.copy_(torch.arange(4.0)[None, :, None])  # 0, 1, 2, 3
        given.image_encoder.pos_embed.copy_(torch.arange(4.0)[None, :, None, None])
    larger, keys = loaded(given, tmp_path, patch_size=(32, 32, 16))
    assert sorted(keys) == ["image_encoder.depth_embed", "image_encoder.pos_embed"]
    # Twice as fine: places at a quarter and three quarters between the old ones.
    expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    torch.testing.assert_close(larger.image_encoder.depth_embed[0, :, 0], expected)
    torch.testing.assert_close(larger.image_encoder.pos_embed[0, :, 0, 0], expected)
    assert larger.image_encoder.pos_embed.shape == (1, 8, 4, 16)
    again = larger.state_dict()  # the hooks are gone
    assert again["image_encoder.depth_embed"].shape == (1, 8, 16)


def test_equal_networks_are_left_to_nnunet(tmp_path: Path) -> None:
    given = ProMISe(**SMALL)
    same, keys = loaded(given, tmp_path)
    assert keys == []
    for key, value in given.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])


def test_another_network_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"given\.pth has '.*' with shape .* checkpoint of another model"):
        loaded(ProMISe(**SMALL), tmp_path, decoder_channels=8)
    with pytest.raises(UserError, match=r"given\.pth lacks '.*adapter_back.*'; it is a checkpoint of another model"):
        loaded(ProMISe(**{**SMALL, "adapters": 1}), tmp_path)
