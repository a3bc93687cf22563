"""Half precision only where the hardware has it, and old checkpoints under a new NumPy."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunetv2_promise.inference.model_folder import read_checkpoint
from nnunetv2_promise.inference.prompted_network import encoder_autocast


@pytest.mark.parametrize("in_hardware", [True, False])
def test_emulated_bfloat16_is_not_used(in_hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or in_hardware
    )
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled, **__: enabled)
    assert encoder_autocast(torch.device("cuda")) is in_hardware
    assert encoder_autocast(torch.device("cpu")) is False


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
