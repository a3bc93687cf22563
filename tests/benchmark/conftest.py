"""Fixtures of the benchmark's tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def split_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders with dataset 9, which has a split of three cases and no images; their parent."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name / "Dataset009_Small").mkdir(parents=True)
        monkeypatch.setenv(name, str(tmp_path / name))
    split = tmp_path / "nnUNet_preprocessed" / "Dataset009_Small" / "splits_final.json"
    split.write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}]))
    return tmp_path
