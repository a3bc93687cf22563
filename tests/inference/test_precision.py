"""Precision that the hardware has: bfloat16, no float64; and old checkpoints under a new NumPy."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunetv2_promise.inference.model_folder import read_checkpoint
from nnunetv2_promise.inference.prompted_network import PromptedNetwork, encoder_autocast
from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.training.click_scores import click_scores, on_another_object
from nnunetv2_promise.training.losses import ProMISeLoss, loss_of_labels
from nnunetv2_promise.training.prompt_sampling import prompt_batch


@pytest.mark.parametrize("in_hardware", [True, False])
def test_emulated_bfloat16_is_not_used(in_hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
    )
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled, **__: enabled)
    assert encoder_autocast(torch.device("cuda")) is in_hardware
    assert encoder_autocast(torch.device("cpu")) is False
    assert encoder_autocast(torch.device("mps")) is False


def test_compiler_does_not_stumble_over_the_question() -> None:
    def half(values: torch.Tensor) -> torch.Tensor:
        with encoder_autocast(values.device):
            return values @ values

    compiled = torch.compile(half, backend="eager", fullgraph=True)
    values = torch.rand(3, 3)
    assert torch.equal(compiled(values), half(values))


def test_checkpoint_of_numpy_1_is_read(tmp_path: Path) -> None:
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save({"logging": {"ema_fg_dice": [np.float64(0.25)]}, "network_weights": {"w": torch.ones(2)}}, new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w", zipfile.ZIP_STORED) as target:
        for item in source.infolist():
            content = source.read(item)
            if item.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(item.filename, content)
    for path in (old, new):
        assert read_checkpoint(path)["logging"]["ema_fg_dice"] == [0.25]


class WithoutFloat64(TorchDispatchMode):
    """A device that has no float64, as Apple's GPUs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            assert not isinstance(leaf, torch.Tensor) or leaf.dtype != torch.float64, func
        return result


def test_training_and_prediction_need_no_float64() -> None:
    network = ProMISe(
        encoder={"embed_dim": 16, "depth": 4, "num_heads": 2, "global_attn_indexes": [1, 3]},
        patch_size=(16, 16, 16),
        neck_channels=16,
        decoder_channels=4,
        labels=2,
    )
    segmentation = torch.zeros(2, 2, 16, 16, 16, dtype=torch.int16)
    segmentation[:, :, 2:6, 2:6, 2:6] = 1
    segmentation[:, :, 9:13, 9:13, 9:13] = 2
    with WithoutFloat64():
        prompted = prompt_batch(segmentation, [1, 2], object_points=3, random_points=2, most_labels=2)
        logits = network(torch.randn(2, 1, 16, 16, 16), prompted.points, label_index=prompted.labels)
        loss_of_labels(ProMISeLoss(), logits, prompted.targets).backward()
        click_scores(logits[:, 0].detach(), prompted, 2, None)
        on_another_object(logits[:, 0].detach(), prompted, segmentation)
        with torch.inference_mode():
            prompting = PromptedNetwork(network.eval(), patch_size=(16, 16, 16), heads=3)
            window, clicks = torch.randn(1, 24, 24, 24), torch.tensor([[12, 12, 12]])
            answer = prompting.segment_window(window, clicks, 1, mirror_axes=(0, 1, 2))
    assert answer.dtype == torch.float32
