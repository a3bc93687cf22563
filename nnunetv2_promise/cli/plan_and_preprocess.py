"""``nnUNetv2_promise_plan_and_preprocess``: from an MSD folder to preprocessed training data."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.cli.common import run_command

_logger = logging.getLogger(__name__)

_EXAMPLE = """example:
  nnUNetv2_promise_plan_and_preprocess -i Task07_Pancreas -d 7 --labels cancer -np 4
  nnUNetv2_train 7 3d_fullres 0 -tr ProMISeTrainer -p ProMISePlans

A dataset that is in nnUNet_raw already needs only -d. A second call resumes where an interrupted one stopped.
"""

_PLANNERS = (
    "ProMISePlanner",
    "ProMISeTinyPlanner",
    "ProMISeInteractivePlanner",
    "ProMISeInteractiveTinyPlanner",
    "InteractiveUNetPlanner",
    "InteractiveUNetTinyPlanner",
    "InteractiveUNetResEncMPlanner",
    "InteractiveUNetResEncLPlanner",
    "InteractiveUNetResEncXLPlanner",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    args = _parser().parse_args(argv)
    return run_command(lambda: _plan_and_preprocess(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_plan_and_preprocess",
        description="Check a Medical Segmentation Decathlon (MSD) dataset, make an nnU-Net dataset of it, extract its "
        "fingerprint, plan ProMISe and preprocess.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-i", metavar="FOLDER", help="extracted MSD folder; without it the dataset must exist already")
    parser.add_argument("-d", metavar="ID", type=_dataset_id, required=True, help="nnU-Net dataset number, 1 to 999")
    parser.add_argument(
        "--labels",
        metavar="LABEL",
        nargs="+",
        help="names or numbers of the labels to merge into one foreground label (default: keep all); "
        "'tumour' stands for every label named tumour, cancer or lesion",
    )
    parser.add_argument("-pl", choices=_PLANNERS, default=_PLANNERS[0], help="planner (default: %(default)s)")
    parser.add_argument(
        "--start_from",
        metavar="FOLDER",
        type=Path,
        help="model folder of nnInteractive whose architecture, patch and weights are taken over for fine-tuning",
    )
    parser.add_argument(
        "-gpu_memory_target", metavar="GB", type=_positive, help="GPU memory that training may take (default: 8)"
    )
    parser.add_argument(
        "-overwrite_plans_name", metavar="NAME", type=_plain_name, help="name of the plans instead of the planner's own"
    )
    parser.add_argument(
        "-overwrite_target_spacing",
        metavar=("Z", "Y", "X"),
        nargs=3,
        type=_positive,
        help="spacing in mm of the preprocessed images instead of the planned one",
    )
    parser.add_argument(
        "-c", choices=("3d_fullres",), default="3d_fullres", help="configuration; ProMISe has this one only"
    )
    parser.add_argument(
        "-np", metavar="N", type=_count, help="worker processes (default: nnU-Net's, at most all cores)"
    )
    parser.add_argument("--clean", action="store_true", help="extract the fingerprint again even if it exists")
    parser.add_argument("--no_pp", action="store_true", help="plan only, do not preprocess")
    return parser


def _plan_and_preprocess(args: argparse.Namespace) -> None:
    from nnunetv2_promise.dataset.environment import nnunet_folder
    from nnunetv2_promise.errors import UserError

    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        nnunet_folder(variable)
    if args.i is None and args.labels is not None:
        raise UserError("--labels needs the MSD folder; give it with -i.")
    num_processes = args.np or _default_processes()
    name = _dataset(args, num_processes)

    from nnunetv2_promise.planning import preparation

    preparation.extract_fingerprint(args.d, num_processes=num_processes, clean=args.clean)
    plans_name = preparation.plan(
        args.d,
        args.pl,
        gpu_memory_target_gb=args.gpu_memory_target,
        plans_name=args.overwrite_plans_name,
        target_spacing_mm=args.overwrite_target_spacing,
        start_from=args.start_from,
    )
    if not args.no_pp:
        preparation.preprocess(name, plans_name, num_processes=num_processes)
        _logger.info("Train with: nnUNetv2_train %d %s 0 -tr %s -p %s", args.d, args.c, _trainer(args.pl), plans_name)


def _trainer(planner: str) -> str:
    """The trainer that a planner's plans are for."""
    families = ("InteractiveUNet", "ProMISeInteractive", "ProMISe")
    return next(family for family in families if planner.startswith(family)) + "Trainer"


def _dataset(args: argparse.Namespace, num_processes: int) -> str:
    if args.i is None:
        from nnunetv2_promise.dataset.existing import check_existing_dataset

        return check_existing_dataset(args.d, num_processes=num_processes)
    from nnunetv2_promise.dataset.msd_conversion import convert_msd

    return convert_msd(args.i, args.d, labels=args.labels, num_processes=num_processes)


def _default_processes() -> int:
    from nnunetv2.configuration import default_num_processes

    return max(1, min(default_num_processes, os.cpu_count() or 1))


def _dataset_id(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 999:
        raise argparse.ArgumentTypeError(f"'{text}' is not a dataset number from 1 to 999")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive number")
    return value


def _plain_name(text: str) -> str:
    if not text or text.startswith(".") or os.path.basename(text) != text:
        raise argparse.ArgumentTypeError(f"'{text}' is not a plain file name")
    return text
