"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import Workspace, make_workspace


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and real data, beside the repository; tests that need it skip without it."""
    folder = Path(os.environ.get("PROMISE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no folder 'shared' beside the repository (golden values and real data)")
    return folder


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small dataset, planned and preprocessed by the real command."""
    return make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def trained(workspace: Workspace) -> Workspace:
    """The same, with ``ProMISeTrainer_1epoch`` trained on fold 0 by stock ``nnUNetv2_train``."""
    workspace.train("ProMISeTrainer_1epoch", "--npz")
    return workspace
