"""The networks and trainers of Table 1 beside ProMISe: sizes, any patch, locality, weights, training."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures.compared.nnformer import NNFormer, token_size
from nnunetv2_promise.network_architectures.compared.nnformer_blocks import VolumeAttention
from nnunetv2_promise.network_architectures.compared.nnformer_windows import Volumes
from nnunetv2_promise.network_architectures.compared.padding import crop_end, pad_end, padded_size
from nnunetv2_promise.network_architectures.compared.swin_unetr import PaddedSwinUNETR, load_self_supervised
from nnunetv2_promise.network_architectures.compared.ux_net import UXBlock, UXNet3D

SMALL_UX: dict[str, Any] = {"features": (4, 8, 8, 8), "hidden": 16, "depths": (1, 1, 1, 1)}
SMALL_NNFORMER: dict[str, Any] = {"embed_dim": 16, "num_heads": (1, 2, 2, 4)}
SMALL_SWIN: dict[str, Any] = {"feature_size": 12, "num_heads": (2, 2, 2, 2), "depths": (1, 2, 1, 1)}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(name: str, patch: tuple[int, ...], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    if name == "nnformer":
        return NNFormer(patch_size=patch, **SMALL_NNFORMER, **options)
    return {"ux": UXNet3D, "swin": PaddedSwinUNETR}[name](**{"ux": SMALL_UX, "swin": SMALL_SWIN}[name], **options)


def test_ux_net_has_the_published_size_part_by_part() -> None:
    with torch.device("meta"):
        network = UXNet3D()
    assert count(network) == 53_005_922
    assert count(network.backbone) == 1_311_936
    assert [count(block) for block in network.encoder] == [63_552, 377_856, 1_511_424, 6_045_696, 24_182_784]
    assert [count(b) for b in [*network.decoder, network.last]] == [14_598_144, 3_649_536, 912_384, 228_096, 124_416]


def test_nnformer_has_the_published_size() -> None:
    with torch.device("meta"):
        network = NNFormer(patch_size=(64, 128, 128))
        cube = NNFormer(patch_size=(128, 128, 128))
    assert count(network) == 149_638_694
    assert count(cube) == 149_650_982
    assert count(network.embedding) == 1_746_144
    assert count(network.encoder) == 75_484_716
    assert count(network.decoder) == 8_706_060 + 9_481_548


@pytest.mark.parametrize(
    ("patch", "token"),
    [
        ((64, 128, 128), (2, 4, 4)),
        ((128, 128, 128), (4, 4, 4)),
        ((14, 160, 160), (1, 4, 4)),
        ((96, 128, 112), (4, 4, 4)),
        ((160, 40, 80), (4, 1, 2)),
    ],
)
def test_nnformer_tokens_follow_the_patch(patch: tuple[int, ...], token: tuple[int, ...]) -> None:
    assert token_size(patch) == token
    network = small("nnformer", patch).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *patch)).shape == (1, 2, *patch)


def test_nnformer_deep_supervision_adds_two_outputs_only() -> None:
    with torch.device("meta"):
        network = NNFormer(patch_size=(64, 128, 128), deep_supervision=True)
    assert count(network) == 149_638_694 + 32 * 2 * (384 + 768) + 2 * 2


def test_swin_unetr_has_the_published_size() -> None:
    assert count(PaddedSwinUNETR()) == 62_186_708


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((64, 128, 128), 32, (64, 128, 128)),
        ((1, 33, 65), 32, (32, 64, 96)),
        ((16, 16, 16), 16, (16, 16, 32)),
        ((5, 7, 9), 32, (32, 32, 64)),
    ],
)
def test_padded_size(size: tuple[int, ...], multiple: int, expected: tuple[int, ...]) -> None:
    assert padded_size(size, multiple) == expected


def test_cropping_undoes_padding() -> None:
    volume = torch.arange(120).reshape(1, 2, 3, 4, 5)
    padded = pad_end(volume, (4, 4, 8))
    assert padded.shape == (1, 2, 4, 4, 8)
    assert padded.sum() == volume.sum()
    assert torch.equal(crop_end(padded, (3, 4, 5)), volume)


@pytest.mark.parametrize("patch", [(16, 16, 16), (20, 33, 17)])
@pytest.mark.parametrize("name", ["ux", "swin", "nnformer"])
def test_any_patch_size_gives_finite_logits_of_that_size_in_training(name: str, patch: tuple[int, ...]) -> None:
    network = small(name, patch, in_channels=2, out_channels=3).train()
    logits = network(torch.randn(1, 2, *patch))
    assert logits.shape == (1, 3, *patch)
    assert torch.isfinite(logits).all()
    logits.square().mean().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not idle


@pytest.mark.parametrize("name", ["ux", "swin", "nnformer"])
def test_cases_of_a_batch_do_not_mix(name: str) -> None:
    network = small(name, (32, 32, 32)).eval()
    batch = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(batch)[1:], network(batch[1:]), rtol=1e-4, atol=1e-5)


def test_ux_block_keeps_channels_apart_and_starts_as_the_identity() -> None:
    block = UXBlock(3)
    features = torch.randn(1, 3, 8, 8, 8)
    torch.testing.assert_close(block(features), features, atol=1e-4, rtol=0)
    nn.init.ones_(block.scale)
    block.norm = nn.Identity()  # the norm is what looks at all channels
    changed = features.clone()
    changed[:, 1] += 1
    difference = (block(changed) - block(features)).abs().amax((0, 2, 3, 4))
    assert difference[1] > 0.1
    assert difference[0] == difference[2] == 0


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("grid", "window"), [((4, 8, 8), 4), ((2, 3, 4), 2), ((3, 5, 4), 3), ((4, 4, 4), 4)])
def test_volumes_partition_and_merge_are_inverse(grid: tuple[int, ...], window: int, shifted: bool) -> None:
    volumes = Volumes(grid=grid, window=window, shifted=shifted)
    tokens = torch.randn(2, *grid, 3)
    cubes = volumes.partition(tokens)
    assert cubes.shape == (2, math.prod(-(-g // window) for g in grid), window**3, 3)
    assert torch.equal(volumes.merge(cubes), tokens)


def slow_attention(module: VolumeAttention, tokens: torch.Tensor, queries: torch.Tensor | None) -> torch.Tensor:
    """Token by token: who shares a volume of the shifted grid and lies on it, one head after the other."""
    volumes, grid = module.volumes, module.volumes.grid
    places = list(itertools.product(*(range(length) for length in grid)))

    def home(place: tuple[int, ...]) -> tuple[int, ...]:
        # The grid is cut at shift, shift + window, ...; what lies before the first cut is a volume of its own.
        return tuple((p - s) // volumes.window for p, s in zip(place, volumes.shift, strict=True))

    output = torch.zeros_like(tokens)
    edge = 2 * volumes.window - 1
    for place in places:
        others = [other for other in places if home(other) == home(place)]
        inputs = torch.stack([tokens[(0, *other)] for other in others])
        if queries is None:
            own, key, value = module.project_in(inputs).chunk(3, -1)
            query = own[others.index(place)]
        else:
            key, value = module.project_in(inputs).chunk(2, -1)
            query = queries[(0, *place)]
        offsets = [[a - b + volumes.window - 1 for a, b in zip(place, other, strict=True)] for other in others]
        rows = [(d * edge + h) * edge + w for d, h, w in offsets]
        width = query.shape[0] // module.heads
        heads = []
        for head in range(module.heads):
            part = slice(head * width, (head + 1) * width)
            scores = key[:, part] @ query[part] / width**0.5 + module.bias[rows, head]
            heads.append(scores.softmax(0) @ value[:, part])
        output[(0, *place)] = module.project_out(torch.cat(heads))
    return output


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("grid", "window"), [((4, 4, 4), 2), ((2, 3, 5), 2), ((3, 4, 4), 3), ((4, 4, 8), 4)])
def test_volume_attention_equals_attention_token_by_token(
    grid: tuple[int, ...], window: int, shifted: bool, cross: bool
) -> None:
    torch.manual_seed(0)
    volumes = Volumes(grid=grid, window=window, shifted=shifted)
    module = VolumeAttention(8, 2, volumes, cross=cross).double()
    nn.init.normal_(module.bias)
    tokens = torch.randn(1, *grid, 8, dtype=torch.float64)
    queries = torch.randn_like(tokens) if cross else None
    with torch.no_grad():
        torch.testing.assert_close(module(tokens, queries), slow_attention(module, tokens, queries))


def test_nnformer_supervises_three_resolutions_in_their_places() -> None:
    patch = (20, 33, 18)
    network = small("nnformer", patch, deep_supervision=True).eval()
    image = torch.randn(1, 1, *patch)
    with torch.no_grad():
        fine, half, quarter = network(image)
        network.deep_supervision = False
        assert torch.equal(network(image), fine)
    assert [tuple(o.shape[2:]) for o in (fine, half, quarter)] == [patch, (10, 16, 9), (5, 8, 4)]


def test_nnformer_refuses_another_patch_size() -> None:
    with pytest.raises(UserError, match=r"built for patches of \(32, 32, 32\)"):
        small("nnformer", (32, 32, 32))(torch.zeros(1, 1, 32, 32, 64))
    with pytest.raises(UserError, match="three sizes"):
        NNFormer(patch_size=(32, 32))


def published_form(network: PaddedSwinUNETR) -> dict[str, Any]:
    """Random weights under the names of the published file, a head of the pretext task among them."""
    generator = torch.Generator().manual_seed(3)
    weights = {
        "module." + key.replace("mlp.linear", "mlp.fc"): torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for key, value in network.network.swinViT.state_dict().items()
    }
    return {"epoch": 1, "state_dict": {**weights, "module.rotation_head.weight": torch.zeros(4, 4)}}


def test_self_supervised_weights_load_as_monai_loads_them(tmp_path: Path) -> None:
    network = PaddedSwinUNETR(**SMALL_SWIN)
    reference = copy.deepcopy(network.network)
    content = published_form(network)
    torch.save(content, tmp_path / "swin.pt")
    before = network.network.out.conv.conv.weight.clone()
    load_self_supervised(network, tmp_path / "swin.pt")
    monai_form = {key.replace("mlp.fc", "mlp.linear"): value for key, value in content["state_dict"].items()}
    reference.load_from({"state_dict": {**content["state_dict"], **monai_form}})
    loaded = network.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in reference.state_dict().items())
    assert torch.equal(network.network.out.conv.conv.weight, before)
    assert torch.equal(
        loaded["swinViT.layers1.0.blocks.0.mlp.linear1.weight"],
        content["state_dict"]["module.layers1.0.blocks.0.mlp.fc1.weight"],
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c["state_dict"].pop("module.layers2.0.blocks.1.mlp.fc2.bias"), "lacks 'layers2.0.blocks.1.mlp"),
        (lambda c: c["state_dict"].update({"module.patch_embed.proj.weight": torch.zeros(3)}), "patch_embed.proj.w"),
        (lambda c: c.pop("state_dict"), "holds no 'state_dict'"),
        (lambda c: c.update(run=print), "holds more than weights"),
    ],
)
def test_bad_self_supervised_weights_are_refused_and_change_nothing(spoil: Any, message: str, tmp_path: Path) -> None:
    network = PaddedSwinUNETR(**SMALL_SWIN)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    content = published_form(network)
    spoil(content)
    torch.save(content, tmp_path / "swin.pt")
    with pytest.raises(UserError, match=message) as error:
        load_self_supervised(network, tmp_path / "swin.pt")
    assert str(tmp_path / "swin.pt") in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_missing_self_supervised_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pt does not exist"):
        load_self_supervised(PaddedSwinUNETR(**SMALL_SWIN), tmp_path / "nowhere.pt")
