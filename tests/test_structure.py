"""The house: which room may import which, no circles, one name for one thing (see docs/explanation/layout.md)."""

from __future__ import annotations

import ast
import graphlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "nnunetv2_promise"
ROOMS = (
    "cli",
    ("benchmark", "demo"),
    "nnunet_trainers",
    "trainers",
    "training",
    "inference",
    "planning",
    ("dataset", "prompts", "evaluation"),
    "images",
    "network_architectures",
)
"""From top to bottom: a room imports itself and rooms below. What is in no room (errors, files) is at the bottom."""


def source_files() -> dict[str, Path]:
    """Every module's full name and file."""
    found = {}
    for folder, prefix in ((PACKAGE, ""), ("trainers", f"{PACKAGE}."), ("network_architectures", f"{PACKAGE}.")):
        for path in (REPOSITORY / folder).rglob("*.py"):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            name = prefix + ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


FILES = source_files()


def imported(path: Path) -> Iterator[str]:
    """Our modules that a file imports: at its top, inside of functions, and for types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES else str(node.module)


IMPORTS = {name: set(imported(path)) - {name} for name, path in FILES.items()}


def room_of(module: str) -> str:
    """The package below ours that a module belongs to; its own name where it stands in none."""
    return [*module.split("."), PACKAGE][1]


def level_of(room: str) -> int:
    """0 is the top; what stands in no room is at the bottom."""
    levels = [level for level, names in enumerate(ROOMS) if room in ((names,) if isinstance(names, str) else names)]
    return levels[0] if levels else len(ROOMS)


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name) for name, path in FILES.items() if path.name == "__init__.py"} - {PACKAGE}
    listed = {room for entry in ROOMS for room in ((entry,) if isinstance(entry, str) else entry)}
    assert rooms == listed


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_imports_only_its_own_room_and_rooms_below(module: str) -> None:
    own = room_of(module)
    upward = {name for name in IMPORTS[module] if room_of(name) != own and level_of(room_of(name)) < level_of(own)} - {
        PACKAGE
    }
    assert upward == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    tuple(graphlib.TopologicalSorter(IMPORTS).static_order())  # raises CycleError, which names the circle


def test_no_rooms_import_each_other_in_a_loop() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, names in IMPORTS.items():
        if module != PACKAGE:
            rooms[room_of(module)] |= {room_of(name) for name in names} - {room_of(module), PACKAGE}
    tuple(graphlib.TopologicalSorter(rooms).static_order())


def test_networks_know_nothing_of_the_framework() -> None:
    rooms = {room_of(n) for m in FILES if room_of(m) == "network_architectures" for n in IMPORTS[m]}
    assert rooms <= {"network_architectures", "errors", PACKAGE}
    for module, path in FILES.items():
        if room_of(module) == "network_architectures":
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            roots = {(n.module or "").split(".")[0] for n in tree if isinstance(n, ast.ImportFrom)}
            assert not roots & {"nnunetv2", "batchgenerators", "batchgeneratorsv2"}, module


def test_no_two_modules_have_one_name() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for module, path in FILES.items():
        if path.name != "__init__.py" and room_of(module) != "cli":  # commands are named as what they call
            files[path.name].append(module)
    assert {name: modules for name, modules in files.items() if len(modules) > 1} == {}


@pytest.mark.parametrize("module", sorted(FILES))
def test_module_is_short(module: str) -> None:
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 300


def test_tests_mirror_the_rooms() -> None:
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        folder = path.parent.relative_to(REPOSITORY / "tests")
        places = [REPOSITORY / folder, REPOSITORY / PACKAGE / folder]
        assert any(place.is_dir() for place in places), f"{path} mirrors no folder of the package"


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in (REPOSITORY / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_mutation_testing_finds_its_modules_and_their_tests() -> None:
    tree = ast.parse((REPOSITORY / "tests" / "mutate.py").read_text(encoding="utf-8"))
    listed = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TESTS"
    )
    files = [REPOSITORY / PACKAGE / f"{module}.py" for module in listed]
    files += [REPOSITORY / "tests" / name.split("::")[0] for names in listed.values() for name in names]
    assert [file for file in files if not file.is_file()] == []
