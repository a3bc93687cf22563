"""A whole benchmark: prepare, run the units, report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from nnunetv2_promise.benchmark.collect import collect
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.local import run_units, slots
from nnunetv2_promise.benchmark.prepare import prepare, preprocessing_steps, prompt_steps
from nnunetv2_promise.benchmark.report.html import write_report
from nnunetv2_promise.benchmark.settings import Training, load_settings
from nnunetv2_promise.benchmark.units import unit_steps, units


def run_locally(layout: BenchmarkLayout, *, jobs: int | None, say: Callable[[str], None]) -> Path:
    """Do what is not done yet, on this machine.

    Args:
        layout: The benchmark.
        jobs: Units at a time; one for each GPU by default.
        say: Prints one line.

    Returns:
        The report.

    Raises:
        UserError: If anything is wrong or fails; what is done stays done.
    """
    prepare(layout, say)
    run_units(layout.root, units(layout.settings), slots(layout.settings.device, jobs))
    return finish(layout.root)


def finish(root: Path) -> Path:
    """Write the report of a benchmark whose units are done.

    Raises:
        UserError: If one is not.
    """
    layout = BenchmarkLayout(root, load_settings(root))
    return write_report(collect(layout, command_lines(layout)), layout.report)


def command_lines(layout: BenchmarkLayout) -> list[str]:
    """Every command of the benchmark in order, to be read or to be run by hand.

    The first one plans, preprocesses, lists the held-out cases and clicks on them; the others need what it makes.
    """
    call = [argument for argument in layout.settings.call if argument not in ("--dry_run", "--prepare_only")]
    lines = [shlex.join(("nnUNetv2_promise_benchmark", *call, "--prepare_only"))]
    lines += ["# The first command does these as well:"] + [
        f"#   {shlex.join(step.command)}" for step in [*preprocessing_steps(layout), *prompt_steps(layout)]
    ]
    exported: dict[str, str] = {}
    for key, text in units(layout.settings):
        training = Training.parse(text)
        variables = layout.environment(training.seed)
        lines += [
            f"export {name}={shlex.quote(value)}" for name, value in variables.items() if exported.get(name) != value
        ]
        exported = variables
        steps = unit_steps(layout, layout.settings.method(key), training)
        lines += [step.line for step in steps]
    return lines
