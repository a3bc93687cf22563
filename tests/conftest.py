"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and real data, beside the repository; tests that need it skip without it."""
    folder = Path(os.environ.get("PROMISE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no folder 'shared' beside the repository (golden values and real data)")
    return folder
