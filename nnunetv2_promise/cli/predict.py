"""``nnUNetv2_promise_predict``: masks from a prompt file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.cli.common import run_command

EXAMPLE = """example:
  nnUNetv2_promise_predict -i imagesTs -o masks -d 10 -c 3d_fullres -f 0 --prompts prompts.json

The prompt file holds the clicks on each object of each case (docs/reference/prompt-json.md). Everything is checked
before weights are loaded; masks have the grid of their images."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: nnUNetv2_predict's, and ``--prompts``."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_predict",
        description="Segment the objects that a prompt file clicks on.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-i", dest="images", type=Path, required=True, help="folder with images, CASE_0000.nii.gz")
    parser.add_argument("-o", dest="output", type=Path, required=True, help="folder for the masks")
    parser.add_argument("-d", dest="dataset", help="dataset id or name; its model is looked for in nnUNet_results")
    parser.add_argument("-m", dest="model_folder", type=Path, help="model folder, instead of -d -c -tr -p")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", help="configuration (default: %(default)s)")
    parser.add_argument("-tr", dest="trainer", default="ProMISeTrainer", help="trainer (default: %(default)s)")
    parser.add_argument("-p", dest="plans", default="ProMISePlans", help="plans (default: %(default)s)")
    parser.add_argument("-f", dest="folds", nargs="+", default=["0"], help="folds to average (default: 0)")
    parser.add_argument("-chk", dest="checkpoint", default="checkpoint_final.pth", help="default: %(default)s")
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    parser.add_argument(
        "-np",
        dest="processes",
        type=int,
        default=2,
        help="masks that are written at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--prompts", type=Path, help="prompt file (default: $nnUNet_prompts, or prompts.json beside -i)"
    )
    parser.add_argument("--save_probabilities", action="store_true", help="write CASE.npz with probabilities as well")
    parser.add_argument(
        "--instances",
        action="store_true",
        help="write a mask of its own for each object, and objects.csv with their volumes and warnings",
    )
    parser.add_argument("--disable_tta", action="store_true", help="do not mirror: faster, but less accurate")
    parser.add_argument("--continue_prediction", action="store_true", help="keep cases that are already complete")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and predict."""
    arguments = build_parser().parse_args(argv)

    def command() -> None:
        from nnunetv2_promise.inference.nninteractive_batch import predict_in_engine, runs_in_engine
        from nnunetv2_promise.inference.predict import PredictionRequest, predict

        request = PredictionRequest(**vars(arguments))
        (predict_in_engine if runs_in_engine(request.model_path) else predict)(request)

    return run_command(command)
