"""Depthwise convolutions: PyTorch's results, and the layout that a GPU wants."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunetv2_promise.network_architectures.compared.ux_net import UXBlock
from nnunetv2_promise.network_architectures.depthwise import DepthwiseConv3d
from nnunetv2_promise.network_architectures.promise.adapter import Adapter


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_result_is_that_of_the_grouped_convolution(kernel_size: int) -> None:
    torch.manual_seed(0)
    ours = DepthwiseConv3d(4, kernel_size)
    plain = nn.Conv3d(4, 4, kernel_size, padding=kernel_size // 2, groups=4)
    plain.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, 5, 6, 7, 4)
    torch.testing.assert_close(ours(tokens.permute(0, 4, 1, 2, 3)), plain(tokens.permute(0, 4, 1, 2, 3).contiguous()))


def test_ux_block_is_the_published_one() -> None:
    """With gradients; the grouped convolutions as the paper has them."""
    torch.manual_seed(0)
    block = UXBlock(3)
    nn.init.ones_(block.scale)
    features = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    branch = block.activation(block.expand(block.norm(block.depthwise(features))))
    expected = features + block.scale * block.reduce(branch)
    found = block(features)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    inputs = [features, *block.parameters()]
    for one, other in zip(
        torch.autograd.grad(found, inputs, weight), torch.autograd.grad(expected, inputs, weight), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", ["adapter", "ux"])
def test_a_gpu_convolves_features_whose_voxels_lie_together(name: str, device: str) -> None:
    """On tensors without data, so that no GPU is needed."""
    seen: list[bool] = []
    with FakeTensorMode(), torch.device(device):
        module = Adapter(8) if name == "adapter" else UXBlock(8)
        for part in module.modules():
            if isinstance(part, nn.Conv3d) and part.groups == part.in_channels:
                part.register_forward_hook(lambda _m, _i, out: seen.append(out.is_contiguous()))
        tokens = torch.empty(2, 5, 6, 7, 8)
        module(tokens if name == "adapter" else tokens.permute(0, 4, 1, 2, 3))
    assert seen
    assert all(seen) == (device == "cuda")
