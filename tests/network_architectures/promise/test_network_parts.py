"""The exact reformulations one by one, against the plain steps that they replace."""

from __future__ import annotations

import weakref

import pytest
import torch
from oracle_helpers import relative_error
from torch import Tensor, nn
from torch.nn import functional as F

from nnunetv2_promise.network_architectures.promise.cpu import add_relu
from nnunetv2_promise.network_architectures.promise.fused_attention import WindowTerms, attend, relative_table
from nnunetv2_promise.network_architectures.promise.image_encoder import Block
from nnunetv2_promise.network_architectures.promise.mask_decoder import FeatureHeads
from nnunetv2_promise.network_architectures.promise.options import EncoderConfig
from nnunetv2_promise.network_architectures.promise.patch_embedding import (
    embed_patches,
    fused_kernel,
    interpolation_weights,
)
from nnunetv2_promise.network_architectures.promise.window_attention import WindowLayout


def assert_same_with_gradients(found: Tensor, expected: Tensor, leaves: list[Tensor], tolerance: float) -> None:
    assert relative_error(found, expected) < tolerance
    weight = torch.randn_like(expected)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found_gradients = torch.autograd.grad((found * weight).sum(), wanted)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), wanted)
    for one, other in zip(found_gradients, expected_gradients, strict=True):
        assert relative_error(one, other) < tolerance


def saved_bytes(function, *arguments) -> int:
    """Bytes that autograd keeps for the backward pass, each storage counted once."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(*arguments)
    return sum(storages.values())


def test_interpolation_weights_are_the_repeating_pattern() -> None:
    weights = interpolation_weights(dtype=torch.float64)
    assert weights[0].tolist() == [0.375, 0.625, 0, 0, 0, 0]
    assert weights[1].tolist() == [0.125, 0.875, 0, 0, 0, 0]
    assert weights[2].tolist() == [0, 0.875, 0.125, 0, 0, 0]
    assert weights[15].tolist() == [0, 0, 0, 0, 0.625, 0.375]
    assert torch.equal(weights.sum(1), torch.ones(16, dtype=torch.float64))


def test_patch_embedding_equals_upsampling_and_two_convolutions() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 8, 12, 16, dtype=torch.float64)  # token order: axes 1, 2, 0 of the patch
    proj = nn.Conv2d(3, 5, 16, stride=16).double()
    along = nn.Conv3d(5, 5, (1, 1, 16), stride=(1, 1, 16), groups=5).double()
    big = F.interpolate(image, scale_factor=4, mode="trilinear").repeat(1, 3, 1, 1, 1)
    slices = torch.stack([proj(big[..., i]) for i in range(64)], dim=-1)
    expected = along(slices).permute(0, 2, 3, 4, 1)
    found = embed_patches(image, *fused_kernel(proj.weight, proj.bias, along.weight, along.bias))
    assert_same_with_gradients(found, expected, [along.weight, along.bias, proj.weight], 1e-12)


def test_add_relu_equals_plain_and_keeps_a_byte_per_entry() -> None:
    x, y = (torch.randn(6, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert_same_with_gradients(add_relu(x, y), x + F.relu(y), [x, y], 1e-15)
    assert saved_bytes(add_relu, x, y) == 6 * 7
    with torch.no_grad():
        expected = x + F.relu(y)
        assert torch.equal(add_relu(x, y.clone()), expected)


def explicit_attention(qkv: Tensor, heads: int, terms: WindowTerms, tables: list[Tensor]) -> Tensor:
    n, tokens, _ = qkv.shape
    q, k, v = qkv.reshape(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    places = torch.cartesian_prod(*(torch.arange(size) for size in terms.window))
    for axis, table in enumerate(tables):
        pairs = table[places[:, axis][:, None], places[:, axis][None, :]]  # (N, N, c)
        scores = scores + torch.einsum("naqc,qkc->naqk", q, pairs)
    if terms.regions is not None:
        same = terms.regions.argmax(-1)[:, :, None] == terms.regions.argmax(-1)[:, None, :]
        scores = scores + torch.where(same, 0.0, -100.0)[:, None]
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, -1)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
def test_attention_equals_explicit_scores(shifted: bool, compact: bool) -> None:
    torch.manual_seed(0)
    layout = WindowLayout(grid=(4, 6, 5), window=(2, 3, 4), shifted=shifted).double()
    count = len(layout.partition(torch.zeros(2, 4, 6, 5, 1)))
    terms = WindowTerms(layout.window, layout.positions, layout.regions_of(count))
    qkv = torch.randn(count, 24, 3 * 8, dtype=torch.float64, requires_grad=True)
    tables = [torch.randn(size, size, 4, dtype=torch.float64, requires_grad=size != 3) for size in layout.window]
    found = attend(qkv, 2, terms, tables, compact=compact)
    assert_same_with_gradients(found, explicit_attention(qkv, 2, terms, tables), [qkv, *tables], 1e-12)
    with torch.no_grad():
        assert relative_error(attend(qkv, 2, terms, tables, compact=compact), found) < 1e-14


def test_attention_gradcheck() -> None:
    layout = WindowLayout(grid=(2, 2, 4), window=(2, 2, 2), shifted=True).double()
    terms = WindowTerms(layout.window, layout.positions, layout.regions_of(2))
    qkv = torch.randn(2, 8, 6, dtype=torch.float64, requires_grad=True)
    tables = [torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(
        lambda qkv, *tables: attend(qkv, 1, terms, tables, compact=True), (qkv, *tables), fast_mode=True
    )


@pytest.mark.parametrize("compact", [True, False])
def test_attention_compact_lets_go_of_the_long_vectors(monkeypatch: pytest.MonkeyPatch, compact: bool) -> None:
    layout = WindowLayout(grid=(4, 4, 4), window=(2, 2, 2), shifted=True)
    terms = WindowTerms(layout.window, layout.positions, layout.regions_of(8))
    qkv = torch.randn(8, 8, 3 * 16, requires_grad=True)
    seen: list[weakref.ref[Tensor]] = []
    kernel = F.scaled_dot_product_attention

    def spy(*long_vectors: Tensor, scale: float) -> Tensor:
        seen.extend(map(weakref.ref, long_vectors))
        return kernel(*long_vectors, scale=scale)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    out = attend(qkv, 2, terms, [torch.randn(2, 2, 8) for _ in range(3)], compact=compact)
    assert [vector() is None for vector in seen] == [compact] * 3
    out.sum().backward()


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_up_and_fusing_convolution_equal_one_after_the_other(bias: float) -> None:
    torch.manual_seed(0)
    heads = FeatureHeads(in_channels=3, channels=4, upsampling="transposed").double()
    conv = nn.Conv3d(16, 5, 3, padding=1, bias=False).double()
    features = [torch.randn(2, 3, 3, 4, 2, dtype=torch.float64) for _ in range(4)]
    for up in (heads.up2, heads.up3, heads.up4, heads.up5):
        nn.init.constant_(up.bias, bias)
    ups = [
        heads.up2(heads.head2(features[0])),
        heads.up3(heads.head3(features[1])),
        heads.up4(heads.head4(features[2])),
        heads.up5(heads.head5(features[3])),
    ]
    expected = conv(torch.cat(ups, dim=1))
    parts = conv.weight.split(4, dim=1)
    found = sum(heads(index, feature, parts[index]) for index, feature in enumerate(features))
    found = found + F.conv3d(torch.ones(1, 1, 6, 8, 4).double(), heads.bias_weight(conv.weight), padding=1)
    leaves = [conv.weight, heads.up2.weight, heads.up5.bias, heads.head3[0].weight]
    assert_same_with_gradients(found, expected, leaves, 1e-10)


def test_relative_table_of_smaller_window_keeps_distances() -> None:
    table = torch.randn(15, 2)
    full, small = relative_table(table, 8, 8), relative_table(table, 8, 3)
    assert torch.equal(small, full[:3, :3])
    assert torch.equal(small[0, 2], table[5])


def test_windows_merge_undoes_partition() -> None:
    for grid, window, shifted in [
        ((8, 6, 4), (4, 3, 2), True),
        ((5, 7, 3), (4, 4, 4), True),
        ((4, 4, 4), (4, 4, 4), False),
    ]:
        layout = WindowLayout(grid=grid, window=window, shifted=shifted)
        tokens = torch.randn(2, *grid, 3)
        assert torch.equal(layout.merge(layout.partition(tokens)), tokens)


def test_block_in_chunks_equals_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = Block(EncoderConfig(16, 4, 2, window_size=2), is_global=False, adapters=2).double()
    layout = WindowLayout(grid=(4, 5, 6), window=(2, 2, 2), shifted=True).double()
    tokens = torch.randn(2, 4, 5, 6, 16, dtype=torch.float64)
    kept = tokens.clone()
    expected = block(tokens, layout)
    monkeypatch.setattr("nnunetv2_promise.network_architectures.promise.cpu.CHUNK_TOKENS", 24)
    with torch.no_grad():
        assert relative_error(block(tokens, layout), expected) < 1e-14
    assert torch.equal(tokens, kept)
