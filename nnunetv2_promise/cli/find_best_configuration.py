"""``nnUNetv2_promise_find_best_configuration``: nnU-Net's model selection without harmful post-processing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from nnunetv2_promise.cli.arguments import at_least_one
from nnunetv2_promise.cli.common import run_command

_EXAMPLE = """example:
  nnUNetv2_promise_find_best_configuration 10 -tr ProMISeTrainer ProMISeInteractiveTrainer -f 0 1 2 3 4 \\
      --disable_ensembling

All folds must be trained. The printed commands apply no post-processing: nnU-Net's keeps the largest component of a
label, and would delete the other clicked objects.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_find_best_configuration",
        description="Compares the cross-validations of clicked models and prints how to predict with the best one.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", help="number or name of the dataset")
    add("-tr", dest="trainers", nargs="+", default=["ProMISeTrainer"], help="trainers (default: ProMISeTrainer)")
    add("-p", dest="plans", nargs="+", default=["ProMISePlans"], help="plans (default: ProMISePlans)")
    add("-c", dest="configurations", nargs="+", default=["3d_fullres"], help="configurations (default: 3d_fullres)")
    add("-f", dest="folds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="folds (default: 0 1 2 3 4)")
    add(
        "--disable_ensembling",
        dest="ensembling",
        action="store_false",
        help="do not try pairs of models, which must have been trained with --npz",
    )
    add(
        "--no_overwrite",
        dest="overwrite",
        action="store_false",
        help="take what an earlier call collected, at the risk that it is old",
    )
    add(
        "-np",
        dest="processes",
        type=at_least_one,
        default=min(4, os.cpu_count() or 1),
        help="worker processes (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and compare."""
    arguments = vars(build_parser().parse_args(argv))
    return run_command(lambda: _compare(arguments))


def _compare(arguments: dict) -> None:
    from nnunetv2_promise.evaluation.model_selection import SelectionRequest, find_best_configuration

    find_best_configuration(SelectionRequest(**arguments))
