"""``nnUNetv2_promise_import_checkpoint``: a published checkpoint as a model folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.cli.common import run_command

EXAMPLE = """example:
  nnUNetv2_promise_plan_and_preprocess -i Task10_Colon -d 10
  nnUNetv2_promise_import_checkpoint colon_pretrain_promise.pth -d 10 \\
      -o $nnUNet_results/Dataset010_Colon/ProMISeTrainer__ProMISePublished__3d_fullres -p ProMISePublished
  nnUNetv2_promise_predict -i imagesTs -o masks -d 10 -p ProMISePublished --prompts prompts.json

The model normalises by the dataset's foreground intensities, so the dataset must be planned first. Nothing that is
pickled in the file is run."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_import_checkpoint",
        description="Make a model folder of a checkpoint that the paper's authors published.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, metavar="FILE", help="for example colon_pretrain_promise.pth")
    parser.add_argument("-d", dest="dataset", required=True, help="dataset id or name that the model is for")
    parser.add_argument("-o", dest="model_folder", type=Path, required=True, help="model folder to make")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", help="configuration (default: %(default)s)")
    parser.add_argument("-p", dest="plans", default="ProMISePlans", help="name of the plans (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and import."""
    arguments = build_parser().parse_args(argv)

    def command() -> None:
        from nnunetv2_promise.training.published_model import ImportRequest, import_checkpoint

        import_checkpoint(ImportRequest(**vars(arguments)))

    return run_command(command)
