"""The image encoder is SAM's where the two are defined alike, and what comes from SAM stays as it is."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from oracle_helpers import SAM_LIKE, gradients, inputs, options, relative_error
from segment_anything import sam_model_registry
from segment_anything.modeling.image_encoder import Block as SamBlock
from segment_anything.modeling.image_encoder import ImageEncoderViT
from torch import nn
from torch.nn import functional as F

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ProMISe, load_sam_encoder, sam_encoder_options
from nnunetv2_promise.network_architectures.promise.image_encoder import Block
from nnunetv2_promise.network_architectures.promise.options import SAM_ENCODERS, EncoderConfig
from nnunetv2_promise.network_architectures.promise.window_attention import WindowLayout

LAYER_NORM = partial(nn.LayerNorm, eps=1e-6)
TRAINED = [
    "depth_embed",
    r"slice_embed\.(weight|bias)",
    r"blocks\.\d+\.norm[12]\.(weight|bias)",
    r"blocks\.\d+\.(adapter|adapter_back)\.(linear1|conv|linear2)\.(weight|bias)",
    r"blocks\.\d+\.attn\.rel_pos_d",
    r"neck_3d\.\d\.\d\.(weight|bias)",
]


def sam_encoder(embed_dim: int, depth: int, heads: int, global_blocks: list[int], tokens: int = 64, window: int = 14):
    return ImageEncoderViT(
        img_size=16 * tokens, depth=depth, embed_dim=embed_dim, num_heads=heads, use_rel_pos=True,
        global_attn_indexes=tuple(global_blocks), window_size=window, norm_layer=LAYER_NORM,
        out_chans=32,
    )  # fmt: skip


@pytest.fixture
def sam_file(tmp_path: Path) -> Path:
    """A small file of SAM's form that fits ``SAM_LIKE``, with a mask decoder that nobody needs."""
    torch.manual_seed(0)
    encoder = sam_encoder(16, 4, 2, [1, 3], tokens=12, window=6)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    torch.save({**state, "mask_decoder.iou_token.weight": torch.zeros(1, 8)}, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def network_for_sam(**changes) -> ProMISe:
    return ProMISe(**options(encoder=SAM_LIKE, patch_size=(20, 24, 32), **changes))


@pytest.mark.parametrize("name", SAM_ENCODERS)
def test_encoder_presets_are_those_of_segment_anything(name: str) -> None:
    with torch.device("meta"):  # shapes without numbers: ViT-H has 2.5 GB of them
        theirs = sam_model_registry[name]().image_encoder
    ours = SAM_ENCODERS[name]
    heads = {block.attn.num_heads for block in theirs.blocks}
    windows = [block.window_size for block in theirs.blocks]
    assert theirs.pos_embed.shape == (1, ours.pos_embed_size, ours.pos_embed_size, ours.embed_dim)
    assert (len(theirs.blocks), heads) == (ours.depth, {ours.num_heads})
    assert theirs.blocks[0].mlp.lin1.out_features == ours.mlp_ratio * ours.embed_dim
    assert tuple(index for index, window in enumerate(windows) if window == 0) == ours.global_attn_indexes
    assert set(windows) == {0, ours.table_window}


@pytest.mark.parametrize("grid", [(8, 8), (16, 24), (10, 13)])
def test_block_one_slice_without_adapters_equals_sam(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    sam = SamBlock(32, 2, norm_layer=LAYER_NORM, use_rel_pos=True, window_size=8, input_size=(64, 64)).double()
    sam.attn.rel_pos_h, sam.attn.rel_pos_w = (nn.Parameter(torch.zeros(27, 16).double()) for _ in range(2))
    for parameter in sam.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours = Block(EncoderConfig(32, 4, 2, table_window=14), is_global=False, adapters=1).double()
    missing = ours.load_state_dict(sam.state_dict(), strict=False).missing_keys
    assert {key.split(".")[0] for key in missing} == {"adapter", "attn"}
    nn.init.normal_(ours.attn.rel_pos_d)  # one slice: it shifts all scores of a query alike
    nn.init.zeros_(ours.adapter.linear2.weight)
    nn.init.zeros_(ours.adapter.linear2.bias)
    tokens = torch.randn(2, *grid, 32, dtype=torch.float64)
    layout = WindowLayout(grid=(*grid, 1), window=(8, 8, 1), shifted=False).double()
    with torch.no_grad():
        expected = sam(tokens)
        found = ours(tokens[..., None, :], layout)[..., 0, :]
    assert relative_error(found, expected) < 1e-12


def test_tokens_of_a_constant_stack_equal_sam_patch_embedding(sam_file: Path) -> None:
    """Slices that are all alike give SAM's own tokens of one slice: the slice embedding starts as a mean."""
    network = network_for_sam()
    load_sam_encoder(network, sam_file)
    slice_ = torch.randn(24, 32)
    image = slice_.expand(1, 1, 20, 24, 32)
    state = torch.load(sam_file)
    big = F.interpolate(slice_[None, None], scale_factor=4, mode="bilinear").repeat(1, 3, 1, 1)
    weight, bias = (state[f"image_encoder.patch_embed.proj.{name}"] for name in ("weight", "bias"))
    expected = F.conv2d(big, weight, bias, stride=16).permute(0, 2, 3, 1)
    encoder = network.image_encoder
    with torch.no_grad():
        tokens = encoder.embed(image.permute(0, 1, 3, 4, 2)) - encoder._positions()
    for place in range(5):
        assert relative_error(tokens[:, :, :, place], expected) < 1e-5


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vit_b", (768, 12, 12, [2, 5, 8, 11])),
        ("vit_l", (1024, 24, 16, [5, 11, 17, 23])),
        ("vit_h", (1280, 32, 16, [7, 15, 23, 31])),
    ],
)
def test_encoder_of_each_sam_has_its_keys_and_shapes(name: str, sizes: tuple) -> None:
    with torch.device("meta"):
        sam = sam_encoder(*sizes).state_dict()
        ours = ProMISe(encoder=name, patch_size=(32, 32, 32)).image_encoder.state_dict()
    shared = {key: value.shape for key, value in sam.items() if not key.startswith("neck")}
    assert {key: ours[key].shape for key in shared} == shared


def test_load_sam_fills_and_freezes_exactly_what_design_says(sam_file: Path) -> None:
    network = network_for_sam()
    load_sam_encoder(network, sam_file)
    state = torch.load(sam_file)
    for key, parameter in network.image_encoder.named_parameters():
        if f"image_encoder.{key}" in state:
            assert torch.equal(parameter, state[f"image_encoder.{key}"]), key
        assert parameter.requires_grad == any(re.fullmatch(pattern, key) for pattern in TRAINED), key
    for block in network.image_encoder.blocks:
        assert torch.equal(block.attn.rel_pos_d, (block.attn.rel_pos_h + block.attn.rel_pos_w) / 2)
    parts = (network.prompt_encoder, network.mask_decoder, network.cnn_encoder)
    assert all(parameter.requires_grad for part in parts for parameter in part.parameters())


def test_training_never_changes_a_frozen_weight(sam_file: Path) -> None:
    network = network_for_sam(activation_checkpointing=True)
    load_sam_encoder(network, sam_file)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    trained = [parameter for part in network.parameter_parts().values() for parameter in part]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1)
    found = gradients(network, *inputs(network, dtype=torch.float32))
    optimizer.step()
    frozen = set(network.pretrained_parameters())
    for name, parameter in network.named_parameters():
        is_frozen = name.removeprefix("image_encoder.") in frozen
        assert is_frozen != (name in found), name
        assert is_frozen == torch.equal(parameter, before[name]), name


def test_parameter_parts_hold_every_trained_parameter_once(sam_file: Path) -> None:
    network = network_for_sam(in_channels=2)
    load_sam_encoder(network, sam_file)
    parts = network.parameter_parts()
    assert list(parts) == ["image_encoder", "prompt_encoder", "mask_decoder"]
    listed = [id(parameter) for part in parts.values() for parameter in part]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}


def test_trained_of_all_counts_by_hand(sam_file: Path) -> None:
    network = network_for_sam()
    everything = sum(parameter.numel() for parameter in network.parameters())
    assert network.trained_of_all() == f"{everything:,} of {everything:,} parameters are trained (100.0 %)."
    load_sam_encoder(network, sam_file)
    frozen = sum(parameter.numel() for parameter in network.pretrained_parameters().values())
    assert network.trained_of_all().startswith(f"{everything - frozen:,} of {everything:,} ")


def test_sam_encoder_options_follow_from_the_file(sam_file: Path) -> None:
    found = sam_encoder_options(sam_file)
    assert found == {
        "embed_dim": 16, "depth": 4, "num_heads": 2, "mlp_ratio": 4.0,
        "pos_embed_size": 12, "table_window": 6, "global_attn_indexes": [1, 3],
    }  # fmt: skip
    load_sam_encoder(ProMISe(**options(encoder=found)), sam_file)


def test_load_sam_accepts_a_training_checkpoint(sam_file: Path) -> None:
    """As MedSAM's training script saves it: the model beside the optimizer."""
    torch.save({"model": torch.load(sam_file), "optimizer": {"state": {}}, "epoch": 3}, sam_file)
    load_sam_encoder(network_for_sam(), sam_file)


def _save(path: Path, change) -> None:
    state = torch.load(path)
    change(state)
    torch.save(state, path)


BAD_FILES = {
    "missing": (lambda path: path.unlink(), "does not exist"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "does not exist or is not a file"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or is not a PyTorch"),
    "text": (lambda path: path.write_text("hello, this is not a checkpoint"), "not a PyTorch weight file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "damaged or is not a PyTorch"),
    "pickled code": (lambda path: torch.save({"image_encoder.x": Path("x")}, path), "holds more than weights"),
    "a tensor": (lambda path: torch.save(torch.zeros(3), path), "holds no 'image_encoder"),
    "another model": (lambda path: torch.save({"conv.weight": torch.zeros(3)}, path), "it is not a SAM checkpoint"),
    "key missing": (
        lambda path: _save(path, lambda state: state.pop("image_encoder.blocks.2.norm1.bias")),
        "lacks 'blocks.2.norm1.bias'",
    ),
    "misshapen": (
        lambda path: _save(path, lambda state: state.update({"image_encoder.pos_embed": torch.zeros(1, 8, 8, 16)})),
        r"'pos_embed' in its image encoder with shape \(1, 8, 8, 16\) where \(1, 12, 12, 16\)",
    ),
    "no tensor": (
        lambda path: _save(path, lambda state: state.update({"image_encoder.pos_embed": 3})),
        "with shape int where",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_load_sam_bad_file_is_one_sentence_and_changes_nothing(sam_file: Path, case: str) -> None:
    spoil, message = BAD_FILES[case]
    spoil(sam_file)
    network = network_for_sam()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as raised:
        load_sam_encoder(network, sam_file)
    assert str(sam_file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_load_sam_of_another_size_names_the_first_bad_key(sam_file: Path) -> None:
    larger = ProMISe(**options(encoder={**SAM_LIKE, "embed_dim": 32}))
    with pytest.raises(UserError, match="'pos_embed' in its image encoder with shape"):
        load_sam_encoder(larger, sam_file)
