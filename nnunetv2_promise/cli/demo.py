"""``nnUNetv2_promise_demo``: the whole job on generated scans, on a CPU."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_promise.cli.common import run_command
from nnunetv2_promise.errors import UserError

if TYPE_CHECKING:
    from nnunetv2_promise.demo.demo_layout import Layout

_EXAMPLE = """example:
  nnUNetv2_promise_demo -o demo_output

The folder gets everything: scans, nnU-Net's own three folders, masks, scores and report.html.
A second run resumes where the first one stopped. What the commands print is in the folder's logs.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, or one of the steps that have no command of their own."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_demo",
        description="Generate CT scans with look-alike lesions; plan, train, predict and evaluate; write a report.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write, made if needed")
    parser.add_argument(
        "--only",
        choices=("data", "clicks", "report"),
        help="do this step alone: generate the scans, prepare a click on every lesion, or write the report",
    )
    parser.add_argument("--verbose", action="store_true", help="show the commands and all that they print")
    args = parser.parse_args(argv)
    return run_command(lambda: _demo(args.output, args.only, verbose=args.verbose))


def _demo(output: Path, only: str | None, *, verbose: bool) -> None:
    from nnunetv2_promise.demo import pipeline
    from nnunetv2_promise.demo.demo_layout import Layout

    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file where a folder is needed; name another folder.")
    layout = Layout(output.resolve())
    if only:
        {"data": pipeline.make_data, "clicks": pipeline.make_clicks, "report": pipeline.make_report}[only](layout)
    else:
        _run_all(layout, verbose=verbose)


def _run_all(layout: Layout, *, verbose: bool) -> None:
    from nnunetv2_promise.demo.demo_layout import EPOCHS
    from nnunetv2_promise.demo.pipeline import steps
    from nnunetv2_promise.demo.terminal import Terminal
    from nnunetv2_promise.files import read_json
    from nnunetv2_promise.steps import run_steps

    environment, chosen = layout.environment(), steps(layout)
    terminal = Terminal([step.title for step in chosen], epochs=EPOCHS)
    _say(
        "One click, one mask: the whole job on generated CT scans, on the CPU.\n"
        f"Everything is written to {layout.root}.\n"
    )
    if verbose:
        for name, value in environment.items():
            _say(f"export {name}={shlex.quote(value)}")
        run_steps(chosen, layout.root, environment, _say)
    else:
        try:
            run_steps(chosen, layout.root, environment, terminal.say, echo=False, hear=terminal.hear)
            terminal.finish()
        finally:
            terminal.stop()
    results = read_json(layout.results)
    _say(
        f"\nMean Dice over {results['cases']} unseen scans, one click each: {results['mean_dice']:.3f}\n"
        f"Clicks that gave the clicked lesion: {results['clicks_that_hit']} of {results['clicks']} "
        f"({results['share_of_clicks_that_hit']:.1%})\n"
        f"Report: {layout.report}\n"
        f"Logs:   {layout.root / 'logs'}"
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
