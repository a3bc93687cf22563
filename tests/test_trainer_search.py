"""Trainers are found, whatever else this process has imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from nnunetv2_promise.trainer_search import find_trainer


class LazyModule(ModuleType):
    """A module that imports another lazy one when it is asked for its file or path, ``depth`` times in a row."""

    def __init__(self, name: str, depth: int) -> None:
        super().__init__(name)
        self.depth = depth

    def __getattr__(self, name: str) -> object:
        below = f"{self.__name__}_below"
        if name in ("__file__", "__path__") and self.depth and below not in sys.modules:
            sys.modules[below] = LazyModule(below, self.depth - 1)
        raise AttributeError(name)


@pytest.fixture
def lazy_modules() -> Iterator[None]:
    sys.modules["lazy"] = LazyModule("lazy", depth=3)
    yield
    for name in [name for name in sys.modules if name.startswith("lazy")]:
        if isinstance(sys.modules[name], LazyModule):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["ProMISeTrainer", "nnUNetTrainer"])
def test_trainers_are_found_beside_lazy_modules(name: str, lazy_modules: None) -> None:
    found = find_trainer(name)
    assert found is not None
    assert found.__name__ == name


def test_an_unknown_trainer_is_none() -> None:
    assert find_trainer("NoSuchTrainer") is None
