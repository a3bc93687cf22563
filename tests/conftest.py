"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickable_workspace import Clickable, make_clickable, plan_small
from commands import Workspace, make_workspace
from hypothesis import HealthCheck, settings

import nnunetv2_promise

# A busy machine is no fault of the code; what must be fast is measured in benchmarks/.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """What ``make test`` promises: the installed wheel is tested, never the checkout around it."""
    found = Path(nnunetv2_promise.__file__).resolve()
    if os.environ.get("PROMISE_TEST_WHEEL") and "site-packages" not in found.relative_to(found.anchor).parts:
        pytest.exit(f"the wheel was to be tested, but nnunetv2_promise comes from {found.parent}", returncode=4)


@pytest.fixture(scope="session", autouse=True)
def _empty_working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work outside of the repository, so that ``python -c`` in a child does not find the checkout in its folder."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("working_folder"))
    yield
    os.chdir(before)


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


@pytest.fixture(scope="session")
def clickable_plans(workspace: Workspace) -> Workspace:
    """The small dataset with plans for a clickable U-Net, preprocessed."""
    plan_small(workspace)
    return workspace


@pytest.fixture(scope="session")
def clickable(clickable_plans: Workspace) -> Clickable:
    """A clickable U-Net that was trained for seconds, started from a plain nnU-Net of the same plans."""
    return make_clickable(clickable_plans)
