"""``nnUNetv2_promise_path``: the folder that nnU-Net scans for our trainers."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from nnunetv2_promise.cli.common import run_command
from nnunetv2_promise.trainer_search import trainer_folder

_EXAMPLE = """example:
  export nnUNet_extTrainer=$(nnUNetv2_promise_path)

Put the line into your shell's start-up file, beside nnUNet_raw, nnUNet_preprocessed and nnUNet_results.
It is needed for training and for prediction.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the folder, or the whole export line."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_path",
        description="Print the folder to export as nnUNet_extTrainer, so that nnU-Net's commands know our trainers.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--export", action="store_true", help="print the whole export line")
    args = parser.parse_args(argv)
    return run_command(lambda: _print_folder(export=args.export))


def _print_folder(*, export: bool) -> None:
    folder = str(trainer_folder())
    print(f"export nnUNet_extTrainer={shlex.quote(folder)}" if export else folder)  # noqa: T201
