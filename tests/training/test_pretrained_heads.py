"""Heads of a pretrained U-Net, which nnU-Net leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.training.pretrained_heads import fit_pretrained, pretrained_weights_of_command, take_over_heads

SMALL = {
    "encoder": {"embed_dim": 16, "depth": 4, "num_heads": 2, "global_attn_indexes": [1, 3], "window_size": [2, 2, 2]},
    "patch_size": (16, 16, 16),
    "neck_channels": 16,
    "decoder_channels": 4,
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nnUNetv2_train", "4", "3d_fullres", "0", "-pretrained_weights", "a.pth", "-tr", "T"], Path("a.pth")),
        (["nnUNetv2_train", "4", "3d_fullres", "0", "-p", "Plans", "-pretrained_weights", "a.pth"], Path("a.pth")),
        (["nnUNetv2_train", "4", "3d_fullres", "0", "-pretrained_weights", "a.pth", "-p", "Plans"], Path("a.pth")),
        (["nnUNetv2_train", "4", "3d_fullres", "0", "-tr", "T", "-p", "Plans", "--npz"], None),
        ([], None),
    ],
)
def test_the_command_names_the_file(arguments, expected):
    assert pretrained_weights_of_command(arguments) == expected


class _Network(nn.Module):
    def __init__(self, heads: int, resolutions: int = 1) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.seg_layers = nn.ModuleList(nn.Conv3d(2, heads, 1) for _ in range(resolutions))
        self.other = nn.Linear(2, 2)


def test_heads_are_copied_and_nothing_else(tmp_path):
    theirs, ours = _Network(3), _Network(3)
    before = ours.other.weight.clone()
    torch.save({"network_weights": theirs.state_dict()}, tmp_path / "w.pth")
    assert take_over_heads(ours, tmp_path / "w.pth")
    torch.testing.assert_close(ours.decoder.seg_layers[0].weight, theirs.decoder.seg_layers[0].weight)
    torch.testing.assert_close(ours.other.weight, before)


@pytest.mark.parametrize("heads", [2, 4])
def test_heads_for_other_labels_stay(heads, tmp_path):
    torch.save({"network_weights": _Network(heads).state_dict()}, tmp_path / "w.pth")
    assert not take_over_heads(_Network(3), tmp_path / "w.pth")


@pytest.mark.parametrize(("theirs", "ours", "copied"), [(1, 2, False), (2, 2, True), (2, 1, True)])
def test_heads_are_copied_if_there_is_one_for_every_resolution(theirs, ours, copied, tmp_path):
    torch.save({"network_weights": _Network(3, theirs).state_dict()}, tmp_path / "w.pth")
    network = _Network(3, ours)
    before = network.decoder.seg_layers[0].weight.clone()
    assert take_over_heads(network, tmp_path / "w.pth") == copied
    assert torch.equal(network.decoder.seg_layers[0].weight, before) != copied


@pytest.mark.parametrize("content", [{"a": 1}, ["network_weights"]])
def test_a_file_without_weights_ends_in_a_sentence(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match="nnU-Net did not write it"):
        take_over_heads(_Network(3), tmp_path / "w.pth")


def test_weights_for_other_labels_are_fitted_and_named(tmp_path):
    """Those of a network like this one need no fitting, so there is nothing to say."""
    torch.save({"network_weights": ProMISe(**SMALL).state_dict()}, tmp_path / "w.pth")
    command = ["nnUNetv2_train", "4", "3d_fullres", "0", "-pretrained_weights", str(tmp_path / "w.pth")]
    assert fit_pretrained(ProMISe(**SMALL, labels=3), 1, command) == [
        f"Fitted to this network from {tmp_path / 'w.pth'}: mask_decoder.head.3.weight."
    ]
    assert fit_pretrained(ProMISe(**SMALL), 1, command) == []


def test_without_the_option_nothing_is_fitted():
    assert fit_pretrained(_Network(3), 1, ["nnUNetv2_train", "4", "3d_fullres", "0"]) == []
