"""The installed package: its files, its commands, its requirements, and the Makefile that installs it."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import entry_points, requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import nnunetv2_promise

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = {
    "nnunetv2_promise": ".",
    "trainers": "trainers",
    "network_architectures": "network_architectures",
}
COMMANDS = sorted(
    entry.name for entry in entry_points(group="console_scripts") if entry.value.startswith("nnunetv2_promise.cli.")
)


@pytest.fixture(scope="module")
def installed() -> Path:
    """The installed package's folder; `make test` sets the variable and installs the wheel."""
    if not os.environ.get("PROMISE_TEST_WHEEL"):
        pytest.skip("not started by make test, so no wheel is installed")
    return Path(nnunetv2_promise.__file__).parent


def test_tests_run_against_the_installed_wheel(installed: Path) -> None:
    assert "site-packages" in installed.parts
    assert REPOSITORY / "nnunetv2_promise" != installed
    # The tests' own rooms have these names, too; pytest puts them on its path.
    for name in ("trainers", "network_architectures"):
        spec = find_spec(name)
        places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
        assert all(place.is_relative_to(REPOSITORY / "tests") for place in places)


def location_of_a_trainer() -> str:
    from nnunetv2_promise.trainers import promise

    return str(promise.__file__)


def test_children_run_the_installed_wheel(installed: Path) -> None:
    code = "from nnunetv2_promise.trainers import promise; print(promise.__file__)"
    child = run(sys.executable, "-c", code).stdout.strip()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        worker = pool.apply(location_of_a_trainer)
    assert child == worker == str(installed / "trainers" / "promise.py")


def test_tests_of_the_wheel_refuse_a_checkout() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", str(REPOSITORY / "tests" / "test_packaging.py")]
    done = run(*command, PROMISE_TEST_WHEEL="1", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 4
    assert f"comes from {REPOSITORY / 'nnunetv2_promise'}" in done.stdout + done.stderr


def test_a_checkout_is_importable_as_it_is() -> None:
    code = "from nnunetv2_promise import network_architectures, trainers; print(trainers.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(REPOSITORY / "trainers" / "__init__.py")


@pytest.mark.parametrize("folder", FOLDERS)
def test_wheel_holds_every_file_of_the_source_tree(installed: Path, folder: str) -> None:
    source = REPOSITORY / folder
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    present = {path.relative_to(installed / FOLDERS[folder]) for path in (installed / FOLDERS[folder]).rglob("*")}
    assert wanted - present == set()
    assert len(wanted) > 1


@pytest.mark.parametrize(
    "name", ["py.typed", "prompts/prompts.schema.json", "templates/page.html", "nnunet_trainers/promise_trainers.py"]
)
def test_wheel_holds_data_files(installed: Path, name: str) -> None:
    assert (installed / name).is_file()


def test_versions_agree() -> None:
    assert version("nnunetv2-promise") == nnunetv2_promise.__version__
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {nnunetv2_promise.__version__}\n" in citation


# --- commands


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_command_is_known() -> None:
    modules = {path.stem for path in Path(nnunetv2_promise.__file__).parent.glob("cli/*.py")}
    helpers = {"__init__", "common", "arguments", "prompts_from_elsewhere"}
    assert {f"nnUNetv2_promise_{name}" for name in modules - helpers} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_help_is_fast_and_has_an_example(command: str) -> None:
    script = Path(sys.executable).parent / command
    # The quickest of a few attempts, since other work on the machine delays single ones.
    seconds = []
    while len(seconds) < 5 and min(seconds, default=2) >= 1:
        start = time.monotonic()
        done = run(str(script), "--help")
        seconds.append(time.monotonic() - start)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"examples?:\n(.*\n)*?  \S*.*{command} ?", done.stdout), done.stdout
    assert min(seconds) < 1


@pytest.mark.parametrize("command", COMMANDS)
def test_command_help_needs_no_heavy_import(command: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=command)
    code = (
        f"import sys, importlib; main = importlib.import_module({entry.module!r}).main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "ours = {'nnunetv2_promise'} | sys.stdlib_module_names\n"
        "heavy = {name.partition('.')[0] for name in sys.modules} - ours - before\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = run(sys.executable, "-c", f"import sys; before = {{name.partition('.')[0] for name in sys.modules}}\n{code}")
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_command_refuses_unknown_options_with_exit_code_2(command: str) -> None:
    done = run(str(Path(sys.executable).parent / command), "--no_such_option")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# --- worker processes


def module_of(trainer: type) -> tuple[str, bool]:
    """Runs in a spawned process: where the class comes from, and whether it is the one that imports find."""
    from nnunetv2_promise import trainers

    return trainer.__module__, getattr(trainers, trainer.__name__) is trainer


def test_spawned_worker_finds_the_same_trainer() -> None:
    from nnunetv2_promise.trainers import ProMISeTrainer

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        module, same = pool.apply(module_of, (ProMISeTrainer,))
    assert same
    assert module.startswith("nnunetv2_promise.trainers")


# --- requirements


def pins(python_version: str) -> dict[str, str]:
    """The constraints file as one Python version sees it: normalised name -> exact version."""
    found: dict[str, str] = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            constraint = Requirement(line)
            if constraint.marker is None or constraint.marker.evaluate({"python_version": python_version}):
                name = normalise(constraint.name)
                assert name not in found, f"{name} has two versions for Python {python_version}"
                (specifier,) = constraint.specifier
                assert specifier.operator == "=="
                found[name] = specifier.version
    return found


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("python_version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_constraints_pin_every_requirement_within_its_bounds(python_version: str) -> None:
    pinned = pins(python_version)
    wanted = [Requirement(text) for text in requires("nnunetv2-promise") or []]
    assert wanted
    for requirement in wanted:
        optional = requirement.marker is not None and requirement.marker.evaluate({"extra": "dev"})
        if not optional:
            assert pinned[normalise(requirement.name)] in requirement.specifier, requirement


def test_environment_has_the_tested_versions(installed: Path) -> None:
    here = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    direct = {normalise(Requirement(text).name) for text in requires("nnunetv2-promise") or [] if "extra" not in text}
    assert {name: version(name) for name in direct} == {name: here[name] for name in direct}


def test_files_name_no_registry_and_no_local_folder() -> None:
    for name in ("constraints.txt", "Makefile", ".ci/run", "setup.py", "pyproject.toml", ".pre-commit-config.yaml"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://|file://|index-url|find-links|/root|/work/", text), name


# --- Makefile


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return run("make", "-C", str(REPOSITORY), *arguments, MAKEFLAGS="")


def test_make_says_when_python_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make("demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "Python 3.10 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("target", "variable", "stamps"),
    [
        ("demo", "VENV", [".promise-demo"]),
        ("test", "TEST_VENV", [".promise-requirements", ".promise-wheel"]),
    ],
)
def test_make_installs_once(tmp_path: Path, target: str, variable: str, stamps: list[str]) -> None:
    first = make("-n", target, f"{variable}={tmp_path}")
    assert "pip install" in first.stdout
    assert "-c constraints.txt" in first.stdout
    for stamp in stamps:
        (tmp_path / stamp).touch()
    second = make("-n", target, f"{variable}={tmp_path}")
    assert second.returncode == 0
    assert "pip install" not in second.stdout
    assert {"demo": "nnUNetv2_promise_demo", "test": "pytest"}[target] in second.stdout


def test_make_test_pythons_uses_each_interpreter_in_its_own_environment(tmp_path: Path) -> None:
    done = make("-n", "test-pythons", "PYTHONS=python3.10 /opt/3.14/bin/python3.14", f"TEST_VENV={tmp_path / 'env'}")
    for name in ("python3.10", "/opt/3.14/bin/python3.14"):
        assert re.search(rf"{name} -m venv \"{tmp_path / 'env'}-{Path(name).name}\"", done.stdout), done.stdout


def test_ci_checks_builds_the_documentation_and_tests(tmp_path: Path) -> None:
    script = REPOSITORY / ".ci" / "run"
    for name in ("make", "apt-get"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    done = run(str(script), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout.splitlines()[-3:] == ["make lint", "make docs", "make test"]
    assert done.returncode == 0
