"""Published checkpoints with seeded weights, of full size or cut down, for the conformance tests."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor


def load_seeded(shared: Path) -> ModuleType:
    """``conformance/seeded.py`` as a module."""
    spec = importlib.util.spec_from_file_location("seeded", shared / "conformance" / "seeded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_checkpoint(
    shared: Path, *, depth: int = 12, slices: int = 32, name: str = "checkpoint"
) -> dict[str, Any]:
    """What ``torch.load`` of a published checkpoint gives, cut to ``depth`` blocks and ``slices`` tokens of axis 0.

    ``name`` is that of the layout file: ``"checkpoint"`` for ProMISe's, ``"adapter"`` for 3DSAM-adapter's.
    """
    layout = json.loads((shared / "conformance" / f"{name}_layout.json").read_text())
    layout["encoder"]["depth_embed"][1] = slices
    kept = {
        key: shape
        for key, shape in layout["encoder"].items()
        if not (key.startswith("blocks.") and int(key.split(".")[1]) >= depth)
    }
    seeded = load_seeded(shared)

    def entries(part: str, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
        return {
            key: torch.zeros(1) if key.endswith("attn_mask") else torch.from_numpy(_value(seeded, part, key, shape))
            for key, shape in shapes.items()
        }

    prompt = entries("prompt", layout["prompt"])
    decoder = entries("decoder", layout["decoder"])
    return {
        "epoch": 3,
        "best_val_loss": np.float64(0.25),
        "encoder_dict": entries("encoder", kept),
        "feature_dict": [*({key: torch.zeros_like(value) for key, value in prompt.items()} for _ in range(3)), prompt],
        "decoder_dict": {_published_name(key): value for key, value in decoder.items()},
        "encoder_opt": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 4e-4, "params": [0]}]},
    }


def _published_name(key: str) -> str:
    return key.replace("head.", "cls_hao.") if key.startswith("head.") else key


def _value(seeded: ModuleType, part: str, key: str, shape: list[int]) -> np.ndarray:
    return np.asarray(seeded.parameter(part, key, tuple(shape)))
