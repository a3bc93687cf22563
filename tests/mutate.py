"""Mutation testing: change one token of a logic module at a time, and see whether the module's own tests notice.

Cosmic Ray finds the places and writes the mutants; this script draws among them and runs each against the tests that
``TESTS`` names for its module, in a copy of the repository. Libraries are imported once and each mutant is tested in a
fork, so that one takes as long as its tests. Run it through ``make mutate``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

logger = logging.getLogger("mutate")

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "nnunetv2_promise"
LIBRARIES = ("torch", "nnunetv2.inference.predict_from_raw_data", "monai.losses", "pandas", "scipy.stats", "SimpleITK",
             "nibabel", "matplotlib.pyplot", "statsmodels.api", "jsonschema", "cc3d", "edt",
             "batchgenerators")  # fmt: skip

# The modules that decide about voxels, clicks and numbers, and the tests that must notice when they are wrong.
TESTS = {
    "images/folders": ["images/test_folders.py"],
    "images/geometry": ["images/test_geometry.py"],
    "images/labels": ["images/test_labels.py"],
    "images/nifti": ["images/test_nifti.py"],
    "images/objects": ["images/test_objects.py"],
    "images/reading": ["images/test_reading.py", "images/test_nifti.py"],
    "prompts/check": ["cli/test_prompts_check.py"],
    "prompts/convert": ["prompts/formats/test_convert.py"],
    "prompts/correct": ["prompts/test_correct.py"],
    "prompts/corrections": ["prompts/test_corrections.py"],
    "prompts/kinds": ["prompts/test_locate.py"],
    "prompts/locate": [
        "prompts/test_locate.py",
        "prompts/test_exported_files.py::test_file_is_refused_with_its_cure",
    ],
    "prompts/misplaced": ["prompts/test_misplaced.py", "prompts/test_simulate_misplaced.py"],
    "prompts/parsing": ["prompts/test_schema.py"],
    "prompts/propose": ["prompts/test_propose.py"],
    "prompts/schema": ["prompts/test_schema.py"],
    "prompts/scribbles": ["prompts/test_scribbles.py"],
    "prompts/simulate": ["prompts/test_misplaced.py", "prompts/test_simulate_misplaced.py", "cli/test_prompts.py"],
    "prompts/skipped": ["prompts/test_simulate_misplaced.py"],
    "inference/case_segmentation": ["inference/test_segment.py", "inference/test_case_segmentation.py"],
    "inference/clicked_component": ["inference/test_clicked_component.py"],
    "inference/composition": ["inference/test_placement.py"],
    "inference/correction_code": ["inference/test_correction_code.py"],
    "inference/correction_window": ["inference/test_correction_window.py"],
    "inference/correctable_mask": ["inference/test_correctable_mask.py"],
    "inference/growth": ["inference/test_growth.py"],
    "inference/image_grids": ["inference/test_image_grids.py"],
    "inference/interactions": ["inference/test_interactions.py"],
    "inference/mirroring": ["inference/test_mirroring.py"],
    "inference/object_faults": ["inference/test_object_faults.py"],
    "inference/patch_memory": ["inference/test_correctable_mask.py"],
    "inference/placement": ["inference/test_placement.py", "inference/test_window_cutting.py"],
    "inference/prompted_model": [
        "inference/test_segment.py",
        "inference/test_case_segmentation.py",
        "inference/test_prompted_model.py",
    ],
    "inference/prompted_network": [
        "inference/test_prompted_network.py",
        "inference/test_placement.py",
        "inference/test_segment.py",
        "inference/test_precision.py",
    ],
    "inference/segment": ["inference/test_segment.py"],
    "inference/tile_code": ["inference/test_placement.py"],
    "inference/window_cutting": ["inference/test_window_cutting.py"],
    "training/case_order": ["training/test_case_order.py"],
    "training/case_shares": ["training/test_case_shares.py"],
    "training/click_rounds": ["training/test_click_rounds.py"],
    "training/click_scores": ["training/test_object_scores.py"],
    "training/click_validation": ["training/test_click_validation.py"],
    "training/clicked_patches": ["training/test_clicked_patches.py"],
    "training/correction_rounds": ["training/test_correction_rounds.py"],
    "training/data_loading": ["training/test_data_loading.py"],
    "training/error_clicks": ["training/test_error_clicks.py"],
    "training/losses": ["training/test_losses.py"],
    "training/object_maps": ["training/test_object_maps.py"],
    "training/object_scores": ["training/test_object_scores.py"],
    "training/patch_corrections": ["training/test_correction_rounds.py"],
    "training/pretrained_heads": ["training/test_pretrained_heads.py"],
    "training/prompt_sampling": ["training/test_prompt_sampling.py"],
    "training/zoomed_loading": ["training/test_zoomed_loading.py"],
    "evaluation/cases": ["evaluation/test_folder.py"],
    "evaluation/correction_curves": ["evaluation/test_correction_curves.py"],
    "evaluation/folder": ["evaluation/test_folder.py"],
    "evaluation/metrics": [
        "evaluation/test_dice_and_nsd.py",
        "evaluation/test_metrics.py",
        "evaluation/test_tolerances.py",
    ],
    "evaluation/tolerances": ["evaluation/test_tolerances.py"],
    "planning/plan_changes": ["planning/test_plan_changes.py"],
    "benchmark/conditions": ["benchmark/test_conditions.py"],
    "benchmark/nearest": ["benchmark/test_nearest.py"],
    "benchmark/scoring": ["benchmark/test_scoring.py"],
    "benchmark/statistics": ["benchmark/test_statistics.py"],
}


@dataclass(frozen=True)
class Mutant:
    """One module with one token changed."""

    module: str
    code: str
    change: str


def spans_without_effect(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a change cannot be noticed: annotations, keywords that make Python stricter, the -1 of a reshape."""
    nodes: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            nodes.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.keyword) and node.arg in ("strict", "frozen", "eq", "stacklevel"):
            nodes.append(node.value)
        elif isinstance(node, ast.FormattedValue):
            nodes.append(node.format_spec)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("reshape", "view"):
            nodes += [size for size in node.args if isinstance(size, ast.UnaryOp)]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]


def mutants_of(module: str, sample: int, rng: random.Random) -> list[Mutant]:
    """Mutants of a module: of each drawn place one of the changes that are possible there."""
    code = (REPOSITORY / PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    lines = code.splitlines()
    nodes = list(ast_nodes(get_ast(code)))
    spans = spans_without_effect(code)
    places: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in operator_names():
        # Exchanges of variables need to be told which; texts and numbers that are equal may or may not be identical;
        # Cosmic Ray's exchange of exceptions fails at names with a dot.
        if get_operator(name).arguments() or name.endswith(("_Is", "_IsNot", "ExceptionReplacer")):
            continue
        operator = get_operator(name)()
        positions = (position for node in nodes for position in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(positions):
            bare_star = lines[start[0] - 1][start[1] :].startswith(("*,", "*)"))
            if not bare_star and not any(first <= tuple(start) < last for first, last in spans):
                places.setdefault(tuple(start), []).append((name, occurrence))
    drawn = sorted(rng.sample(sorted(places), min(sample, len(places))))
    made = []
    for place in drawn:
        name, occurrence = rng.choice(places[place])
        mutated = mutate_code(code, get_operator(name)(), occurrence)
        if mutated is not None and mutated != code:
            made.append(Mutant(module, mutated, difference(code, mutated)))
    return made


def difference(code: str, mutated: str) -> str:
    """The lines that changed, with the number of the first."""
    lines = [line for line in difflib.unified_diff(code.splitlines(), mutated.splitlines(), n=0, lineterm="")][2:]
    number = lines[0].split("-")[1].split(" ")[0].split(",")[0]
    return f"line {number}: " + "  ".join(f"{line[0]} {line[1:].strip()}" for line in lines[1:])


def run_tests(copy: Path, tests: list[str], seconds: float) -> str:
    """Run tests in a fork: 'passed', 'failed' or 'too slow'."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with (copy / "output.txt").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.chdir(copy / "tests")
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutate", "--hypothesis-seed=0"]
        code = 99
        with contextlib.suppress(BaseException):
            code = int(pytest.main([*options, *tests]))
        os._exit(code)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what a test may have left running
            return "passed" if os.waitstatus_to_exitcode(status) == 0 else "failed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too slow"


@contextlib.contextmanager
def copied_repository() -> Iterator[Path]:
    """A copy that this process and its children import."""
    with tempfile.TemporaryDirectory(prefix="mutate_") as folder:
        copy = Path(folder) / "repository"
        for name in (PACKAGE, "trainers", "network_architectures", "tests", "docs"):
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(REPOSITORY / name, copy / name)
        os.environ.pop("PROMISE_TEST_WHEEL", None)
        os.environ.setdefault("PROMISE_SHARED", str(REPOSITORY.parent / "shared"))
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        sys.path[:] = [str(copy), *(part for part in sys.path if Path(part).resolve() not in (REPOSITORY, copy))]
        yield copy


def test_module(copy: Path, module: str, mutants: list[Mutant]) -> list[Mutant]:
    """The mutants that the module's tests do not notice."""
    file, tests = copy / PACKAGE / f"{module}.py", TESTS[module]
    original = file.read_text(encoding="utf-8")
    before = time.monotonic()
    if run_tests(copy, tests, 1200) != "passed":
        raise SystemExit(f"{module}: its tests fail without any change:\n{(copy / 'output.txt').read_text()[-3000:]}")
    seconds = 20 + 5 * (time.monotonic() - before)
    survivors = []
    for mutant in mutants:
        file.write_text(mutant.code, encoding="utf-8")
        if run_tests(copy, tests, seconds) == "passed":
            survivors.append(mutant)
            logger.info("  survived: %s.py, %s", module, mutant.change)
    file.write_text(original, encoding="utf-8")
    logger.info("%s: %d of %d killed", module, len(mutants) - len(survivors), len(mutants))
    return survivors


def main() -> None:
    """Test what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", help="such as images/geometry; a room stands for its modules; none: all")
    parser.add_argument("--sample", type=int, default=20, help="places to change in each module (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    named = arguments.modules or list(TESTS)
    modules = [module for module in TESTS if any(module == name or module.startswith(f"{name}/") for name in named)]
    unknown = [name for name in named if not any(m == name or m.startswith(f"{name}/") for m in TESTS)]
    if unknown:
        parser.error(f"no tests are listed for {', '.join(unknown)}; known are {', '.join(TESTS)}")
    hypothesis.settings.register_profile("mutate", deadline=None, database=None, phases=[
        hypothesis.Phase.explicit, hypothesis.Phase.generate])  # fmt: skip
    mutants = {
        module: mutants_of(module, arguments.sample, random.Random(f"{arguments.seed}/{module}")) for module in modules
    }
    with copied_repository() as copy:
        for library in LIBRARIES:
            importlib.import_module(library)
        survivors = [survivor for module in modules for survivor in test_module(copy, module, mutants[module])]
    total = sum(map(len, mutants.values()))
    killed = total - len(survivors)
    logger.info(
        f"Seed {arguments.seed}: of {total} mutants in {len(modules)} modules {killed} were killed "
        f"({killed / max(total, 1):.1%}), {len(survivors)} survived."
    )


if __name__ == "__main__":
    main()
