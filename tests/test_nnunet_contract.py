"""What we override in nnU-Net, call and read there, so that a release that changes it fails here and not in a training.

``nnunet_contract.txt`` holds the signatures as they were when someone last read nnU-Net's source with our use of it in
mind. After doing so for a new release, write it again with ``python tests/test_nnunet_contract.py``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

import nnunetv2_promise

CONTRACT = Path(__file__).with_name("nnunet_contract.txt")
OURS, THEIRS = "nnunetv2_promise", "nnunetv2"
CALLED_METHODS = {
    "nnunetv2.inference.predict_from_raw_data:nnUNetPredictor": (
        "__init__",
        "initialize_from_trained_model_folder",
        "predict_logits_from_preprocessed_data",
    ),
    "nnunetv2.preprocessing.preprocessors.default_preprocessor:DefaultPreprocessor": ("run_case", "run_case_npy"),
    "nnunetv2.training.logging.nnunet_logger:MetaLogger": ("plot_progress_png",),
}


def our_modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(nnunetv2_promise.__path__[:1], f"{OURS}."):
        yield importlib.import_module(found.name)
    for room in ("trainers", "network_architectures"):
        package = importlib.import_module(f"{OURS}.{room}")
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)


def tree_of(module: Any) -> ast.AST:
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def signature(thing: Any) -> str:
    """Names, kinds and whether there is a default; annotations may change without harm."""
    parts = [
        f"{parameter.kind.name.lower()} {parameter.name}{'?' if parameter.default is not parameter.empty else ''}"
        for parameter in inspect.signature(thing).parameters.values()
    ]
    return ", ".join(part.replace("positional_or_keyword ", "") for part in parts)


def overridden(modules: list[Any]) -> Iterator[tuple[str, Any]]:
    """Every attribute of a class of nnU-Net that a class of ours replaces."""
    classes = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and c.__module__.startswith(OURS)}
    for cls in classes:
        for base in cls.__mro__[1:]:
            if base.__module__.split(".")[0] != THEIRS:
                continue
            for name in set(vars(cls)) & set(vars(base)):
                if not name.startswith("__") or name == "__init__":
                    yield f"{base.__module__}:{base.__qualname__}.{name}", getattr(base, name)


def imported(modules: list[Any]) -> Iterator[tuple[str, Any]]:
    """Every function of nnU-Net that we import."""
    for module in modules:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == THEIRS:
                for alias in node.names:
                    thing = getattr(importlib.import_module(str(node.module)), alias.name)
                    yield f"{node.module}:{alias.name}", thing


def contract() -> list[str]:
    """One line for each thing of nnU-Net that we rely on."""
    modules = list(our_modules())
    lines = set()
    for name, thing in [*overridden(modules), *imported(modules)]:
        lines.add(f"{name}({signature(thing)})" if callable(thing) and not inspect.isclass(thing) else name)
    for place, methods in CALLED_METHODS.items():
        module, _, owner = place.partition(":")
        for method in methods:
            thing = getattr(getattr(importlib.import_module(module), owner), method)
            lines.add(f"{place}.{method}({signature(thing)})")
    return sorted(lines)


def test_nnunet_still_has_what_we_override_and_call() -> None:
    pinned = CONTRACT.read_text(encoding="utf-8").splitlines()[1:]
    now = contract()
    changed = {"pinned, but nnU-Net or our use of it changed": sorted(set(pinned) - set(now))}
    changed["new or changed, not pinned yet"] = sorted(set(now) - set(pinned))
    assert not any(changed.values()), changed


def test_dependencies_allow_only_releases_of_the_pinned_minor_version() -> None:
    pinned = Version(CONTRACT.read_text(encoding="utf-8").splitlines()[0].split()[-1])
    (requirement,) = (r for r in map(Requirement, requires("nnunetv2-promise") or ()) if r.name == "nnunetv2")
    assert requirement.specifier.contains(pinned)
    assert not requirement.specifier.contains(Version(f"{pinned.major}.{pinned.minor + 1}"))
    assert Version(version("nnunetv2")).release[:2] == pinned.release[:2]


def attributes(tree: ast.AST, of: str, context: type[ast.expr_context]) -> set[str]:
    """Names that stand behind ``of.`` where they are read (ast.Load) or set (ast.Store)."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, context)]
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == of}


def test_trainer_attributes_that_we_read_exist() -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    known = set(re.findall(r"self\.(\w+)", inspect.getsource(nnUNetTrainer)))
    read: set[str] = set()
    for module in our_modules():
        tree = tree_of(module)
        if module.__name__.startswith(f"{OURS}.training"):
            read |= attributes(tree, "trainer", ast.Load)
        for node in ast.walk(tree):
            cls = vars(module).get(getattr(node, "name", ""))
            if isinstance(node, ast.ClassDef) and inspect.isclass(cls) and issubclass(cls, nnUNetTrainer):
                read |= attributes(node, "self", ast.Load)
                known |= attributes(node, "self", ast.Store) | set(dir(cls))
    assert "configuration_manager" in read
    assert read - known == set()


if __name__ == "__main__":
    CONTRACT.write_text("\n".join([f"# nnunetv2 {version('nnunetv2')}", *contract(), ""]), encoding="utf-8")
