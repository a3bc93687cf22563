"""``nnUNetv2_promise_evaluate``: Dice and surface Dice of predictions."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.cli.arguments import at_least_one, tolerance
from nnunetv2_promise.cli.common import run_command

_EXAMPLE = """examples:
  nnUNetv2_promise_evaluate -p predictions -l labelsTs -o scores
  nnUNetv2_promise_evaluate -p fold_0/validation -l labelsTr \\
      --cases $(basename -a -s .nii.gz fold_0/validation/*.nii.gz)

The scores are defined in docs/reference/evaluation.md.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_evaluate",
        description="Dice and normalised surface Dice (NSD) of each case and label, with mean and standard deviation.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-p", dest="predictions", type=Path, required=True, help="folder with predicted label maps, CASE.nii.gz")
    add("-l", dest="truths", type=Path, required=True, help="folder with true label maps, CASE.nii.gz")
    add("-o", dest="output", type=Path, help="folder for evaluation.csv and evaluation.json")
    add(
        "--tolerance",
        dest="tolerances",
        nargs="+",
        type=tolerance,
        default=[],
        metavar="[LABEL=]MM",
        help="distance of surfaces that counts as agreement in NSD, of all labels or of one (default: 5)",
    )
    add("--cases", nargs="+", metavar="CASE", help="score only these cases (default: all of -l)")
    add("--dataset_json", type=Path, help="where the labels are named (default: found in or above -l, then -p)")
    add(
        "-np",
        dest="num_processes",
        type=at_least_one,
        default=min(4, os.cpu_count() or 1),
        help="worker processes (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and evaluate."""
    arguments = vars(build_parser().parse_args(argv))
    return run_command(lambda: _evaluate(arguments))


def _evaluate(arguments: dict) -> None:
    from nnunetv2_promise.evaluation.folder import evaluate_folder, format_summary, summarize, write_scores
    from nnunetv2_promise.evaluation.metrics import DEFAULT_TOLERANCE_MM
    from nnunetv2_promise.evaluation.tolerances import split_tolerances, warnings_of

    output = arguments.pop("output")
    tolerance_mm, own = split_tolerances(arguments.pop("tolerances"), DEFAULT_TOLERANCE_MM)
    arguments |= {"tolerance_mm": tolerance_mm, "label_tolerances_mm": own}
    scores = evaluate_folder(arguments.pop("predictions"), arguments.pop("truths"), **arguments)
    print(format_summary(summarize(scores)))  # noqa: T201
    for sentence in warnings_of(scores, scores.attrs["tolerances_mm"]):
        print(sentence)  # noqa: T201
    if output is not None:
        written = write_scores(scores, output, tolerance_mm=tolerance_mm, label_tolerances_mm=own)
        print(f"Scores of each case are in {written[0]} and {written[1]}.")  # noqa: T201
