"""Published checkpoints run in our network and give the published numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle_checkpoint import load_seeded, published_checkpoint
from oracle_helpers import relative_error
from oracle_network import PlainProMISe
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import load_published_checkpoint
from nnunetv2_promise.network_architectures.weights.published import read_published_checkpoint
from nnunetv2_promise.training.losses import boundary_loss, published_boundary_loss, structural_loss

GOLDEN_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def small_checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published checkpoint of full width, four blocks and 8 x 8 x 8 tokens of a 32^3 patch."""
    path = tmp_path_factory.mktemp("published") / "small_promise.pth"
    torch.save(published_checkpoint(shared, depth=4, slices=8), path)
    return path


def test_reduced_depth_equals_plain(small_checkpoint: Path, shared: Path) -> None:
    ours = load_published_checkpoint(small_checkpoint)
    encoder = {"embed_dim": 768, "depth": 4, "num_heads": 12, "pos_embed_size": 64, "table_window": 14}
    plain = PlainProMISe(encoder={**encoder, "global_attn_indexes": [2]}, patch_size=(32, 32, 32))
    plain.load_state_dict(ours.state_dict())
    seeded = load_seeded(shared)
    image = torch.from_numpy(seeded.volume(32))[None, None]
    points = torch.from_numpy(seeded.clicks(3, 32))[None].float()
    with torch.no_grad():
        assert relative_error(ours(image, points), plain(image, points)) < 1e-5


def test_loaded_network_has_what_the_file_says(small_checkpoint: Path) -> None:
    checkpoint = torch.load(small_checkpoint, weights_only=False)
    network = load_published_checkpoint(small_checkpoint)
    assert network.patch_size == (32, 32, 32)
    assert not network.training
    state = network.state_dict()
    assert torch.equal(state["image_encoder.blocks.2.attn.lr"], checkpoint["encoder_dict"]["blocks.2.attn.lr"])
    query = "transformer.layers.1.global_query"
    assert torch.equal(state[f"prompt_encoder.{query}"], checkpoint["feature_dict"][3][query])
    assert torch.equal(state["mask_decoder.head.0.weight"], checkpoint["decoder_dict"]["cls_hao.0.weight"])
    assert not network.image_encoder.pos_embed.requires_grad
    assert network.image_encoder.depth_embed.requires_grad


def test_names_with_and_without_cls_hao_are_read_alike(small_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(small_checkpoint, weights_only=False)
    decoder = checkpoint["decoder_dict"]
    checkpoint["decoder_dict"] = {key.replace("cls_hao.", "head."): value for key, value in decoder.items()}
    torch.save(checkpoint, tmp_path / "renamed.pth")
    states = [load_published_checkpoint(path).state_dict() for path in (small_checkpoint, tmp_path / "renamed.pth")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.fixture(scope="module")
def small_adapter(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of 3DSAM-adapter."""
    path = tmp_path_factory.mktemp("adapter") / "best.pth.tar"
    torch.save(published_checkpoint(shared, depth=4, slices=8, name="adapter"), path)
    return path


def test_checkpoints_of_3dsam_adapter_are_read(small_adapter: Path, small_checkpoint: Path, shared: Path) -> None:
    published = read_published_checkpoint(small_adapter)
    assert published.method == "3DSAM-adapter"
    assert read_published_checkpoint(small_checkpoint).method == "ProMISe"
    ours = load_published_checkpoint(small_adapter)
    checkpoint = torch.load(small_adapter, weights_only=False)
    assert torch.equal(ours.state_dict()["mask_decoder.head.0.weight"], checkpoint["decoder_dict"]["cls.0.weight"])
    encoder = {"embed_dim": 768, "depth": 4, "num_heads": 12, "pos_embed_size": 64, "table_window": 14}
    plain = PlainProMISe(
        encoder={**encoder, "global_attn_indexes": [2]}, patch_size=(32, 32, 32), adapters=1, upsampling="trilinear",
        cnn_encoder=None,
    )  # fmt: skip
    plain.load_state_dict(ours.state_dict())
    seeded = load_seeded(shared)
    image = torch.from_numpy(seeded.volume(32))[None, None]
    points = torch.from_numpy(seeded.clicks(3, 32))[None].float()
    with torch.no_grad():
        assert relative_error(ours(image, points), plain(image, points)) < 1e-5


@pytest.mark.slow
def test_full_size_adapter_equals_golden(shared: Path, tmp_path: Path) -> None:
    """3DSAM-adapter's published code, its decoder with align_corners=True; a minute or two."""
    torch.save(published_checkpoint(shared, name="adapter"), tmp_path / "best.pth.tar")
    network = load_published_checkpoint(tmp_path / "best.pth.tar")
    seeded = load_seeded(shared)
    with np.load(shared / "conformance" / "adapter_logits.npz") as archive:
        golden = {name: torch.from_numpy(values) for name, values in archive.items()}
    points = torch.from_numpy(seeded.clicks(1))[None]
    features: list[Tensor] = []
    network.image_encoder.register_forward_hook(lambda module, inputs, output: features.extend(output))
    with torch.inference_mode():
        encoded = network.encode(torch.from_numpy(seeded.volume())[None, None])
        prompted = network.prompt_encoder(encoded.deepest, points, network.patch_size)[0]
        logits = network.decode(encoded, points)[0]
    for number, feature in enumerate(features):
        assert relative_error(feature[0, ::32, ::4, ::4, ::4], golden[f"feature_{number}"]) < GOLDEN_TOLERANCE
    assert relative_error(prompted[::32, ::4, ::4, ::4], golden["prompt_feature_1"]) < GOLDEN_TOLERANCE
    assert relative_error(logits[:, ::4, ::4, ::4], golden["logits_1"]) < GOLDEN_TOLERANCE


def _drop(part: str, key: str) -> Callable[[dict[str, Any]], None]:
    return lambda checkpoint: checkpoint[part].pop(key)


def _replace(part: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda checkpoint: checkpoint[part].update({key: value})


BAD_CONTENT = {
    "no encoder": (lambda c: c.pop("encoder_dict"), "lacks 'encoder_dict'"),
    "prompt list too short": (lambda c: c.update(feature_dict=c["feature_dict"][:2]), "lacks 'feature_dict'"),
    "no table": (_drop("encoder_dict", "pos_embed"), "lacks 'image_encoder.pos_embed'"),
    "no blocks": (
        lambda c: c.update(encoder_dict={k: v for k, v in c["encoder_dict"].items() if "blocks" not in k}),
        "lacks 'image_encoder.blocks.0.attn.rel_pos_h'",
    ),
    "key missing": (_drop("encoder_dict", "blocks.3.norm2.bias"), "lacks 'image_encoder.blocks.3.norm2.bias'"),
    "misshapen": (
        _replace("decoder_dict", "mlahead.head4.0.weight", torch.zeros(128, 64, 3, 3, 3)),
        r"'mask_decoder.mlahead.head4.0.weight' .* shape \(128, 64, 3, 3, 3\) where \(128, 256, 3, 3, 3\)",
    ),
    "no tensor": (_replace("encoder_dict", "blocks.0.norm1.bias", "zero"), "with shape str where"),
    "unknown key": (_replace("encoder_dict", "blocks.0.norm7.bias", torch.zeros(768)), "norm7.bias' that this network"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_bad_content_names_the_file_and_the_first_key(small_checkpoint: Path, tmp_path: Path, case: str) -> None:
    spoil, message = BAD_CONTENT[case]
    checkpoint = torch.load(small_checkpoint, weights_only=False)
    spoil(checkpoint)
    path = tmp_path / "spoilt.pth"
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=message) as raised:
        load_published_checkpoint(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


BAD_FILES = {
    "missing": (lambda path: None, "does not exist"),
    "text": (lambda path: path.write_text("no checkpoint at all"), "not a PyTorch weight file"),
    "a list": (lambda path: torch.save([1, 2], path), "lacks 'encoder_dict'"),
    "pickled code": (lambda path: torch.save({"encoder_dict": Path("x")}, path), "holds more than weights"),
    "a SAM file": (lambda path: torch.save({"image_encoder.pos_embed": torch.zeros(1)}, path), "lacks 'encoder_dict'"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    make, message = BAD_FILES[case]
    path = tmp_path / "bad.pth"
    make(path)
    with pytest.raises(UserError, match=message):
        load_published_checkpoint(path)


def test_truncated_file_is_one_sentence(small_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "truncated.pth"
    path.write_bytes(small_checkpoint.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match="is damaged or is not a PyTorch"):
        load_published_checkpoint(path)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "conformance" / "published_logits.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def computed(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The full-size network on the golden image: about two minutes on two cores, hence ``slow``."""
    path = tmp_path_factory.mktemp("published") / "full_promise.pth"
    torch.save(published_checkpoint(shared), path)
    network = load_published_checkpoint(path)
    seeded = load_seeded(shared)
    features: list[Tensor] = []
    hook = network.image_encoder.register_forward_hook(lambda module, inputs, output: features.extend(output))
    found: dict[str, Any] = {}
    with torch.inference_mode():
        encoded = network.encode(torch.from_numpy(seeded.volume())[None, None])
        hook.remove()
        for clicks in (1, 10):
            points = torch.from_numpy(seeded.clicks(clicks))[None]
            found[f"prompt_feature_{clicks}"] = network.prompt_encoder(encoded.deepest, points, network.patch_size)[0]
            found[f"logits_{clicks}"] = network.decode(encoded, points)
    found.update({f"feature_{number}": feature[0] for number, feature in enumerate(features)})
    found["mask"] = torch.from_numpy(seeded.mask())[None, None]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(f"feature_{i}" for i in range(4)), "prompt_feature_1", "prompt_feature_10"])
def test_full_size_features_equal_golden(computed: dict[str, Any], golden: dict[str, np.ndarray], name: str) -> None:
    sampled = computed[name][::32, ::4, ::4, ::4]
    assert relative_error(sampled, torch.from_numpy(golden[name])) < GOLDEN_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("clicks", [1, 10])
def test_full_size_logits_equal_golden(computed: dict[str, Any], golden: dict[str, np.ndarray], clicks: int) -> None:
    logits = computed[f"logits_{clicks}"]
    assert relative_error(logits[0, :, ::4, ::4, ::4], torch.from_numpy(golden[f"logits_{clicks}"])) < GOLDEN_TOLERANCE
    moments = torch.stack([logits.mean(), logits.std()])
    assert relative_error(moments, torch.from_numpy(golden[f"logits_{clicks}_mean_std"])) < GOLDEN_TOLERANCE
    voxels = int((logits.softmax(1)[:, 1] > 0.5).sum())
    assert abs(voxels - int(golden[f"mask_{clicks}_voxels"])) <= 20  # voxels on the boundary may fall either way


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("loss_dice_ce", structural_loss),
        ("loss_boundary_published", published_boundary_loss),
        ("loss_boundary_cubic_fg", boundary_loss),
    ],
)
def test_full_size_losses_equal_golden(
    computed: dict[str, Any], golden: dict[str, np.ndarray], name: str, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    value = float(loss(computed["logits_1"], computed["mask"]))
    assert value == pytest.approx(float(golden[name]), rel=GOLDEN_TOLERANCE)
