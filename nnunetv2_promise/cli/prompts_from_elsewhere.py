"""``nnUNetv2_promise_prompts convert`` and ``propose``: prompt files from viewers, challenges and an nnU-Net."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_promise.cli.arguments import name_or_number, not_negative

if TYPE_CHECKING:
    from nnunetv2_promise.prompts.schema import PromptFile


def add_convert(commands: argparse._SubParsersAction) -> None:
    """The arguments of ``convert``."""
    parser = commands.add_parser(
        "convert",
        help="make a prompt file from the click files of viewers and challenges",
        description="Read clicks of 3D Slicer (.mrk.json, .fcsv), MITK (.mps), napari (.csv), Grand Challenge and "
        "autoPET (.json) and the CVPR 2025 challenge (.npz).",
        epilog="examples:\n"
        "  nnUNetv2_promise_prompts convert colon_001.mrk.json -o prompts.json --label tumour -i imagesTs\n"
        "  nnUNetv2_promise_prompts convert *.json -o prompts.json --label lesion --coordinates voxel --object case",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="click files; their names start with their case's name")
    add("-o", dest="output", type=Path, required=True, help="prompt file to write")
    add(
        "--label",
        dest="labels",
        type=name_or_number,
        nargs="+",
        required=True,
        help="label of the objects; or one for each list of a file (for each class of the CVPR challenge)",
    )
    add("-i", dest="images", type=Path, help="folder with the images; checks that clicks lie inside, lists every case")
    add("--case", help="case of the file, if its name does not say it")
    add(
        "--coordinates",
        choices=("voxel", "LPS", "RAS"),
        help="what the numbers mean, for formats that do not say it (Grand Challenge and autoPET)",
    )
    add(
        "--object",
        dest="object_of",
        choices=("point", "list", "case"),
        default="point",
        help="an object is a point, the points of a list, or all points of a case (default: %(default)s)",
    )
    add(
        "--negative",
        nargs="+",
        default=(),
        metavar="WORD",
        help="points (or files, behind the case) whose name starts with one of these words are negative clicks",
    )


def add_propose(commands: argparse._SubParsersAction) -> None:
    """The arguments of ``propose``."""
    parser = commands.add_parser(
        "propose",
        help="make a prompt file from an nnU-Net's own prediction",
        description="Click each object that an nnU-Net finds, on its most certain voxel, and keep its mask to refine.",
        epilog="examples:\n"
        "  nnUNetv2_promise_prompts propose -m MODEL_FOLDER -i imagesTs -o prompts.json\n"
        "  nnUNetv2_promise_prompts propose --masks predictions -i imagesTs -o prompts.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-m", dest="folder", type=Path, help="folder of a trained nnU-Net (the one with fold_0 in it)")
    source.add_argument("--masks", type=Path, help="folder of its masks, with or without .npz of --save_probabilities")
    add("-i", dest="images", type=Path, required=True, help="folder with images, CASE_0000.nii.gz")
    add("-o", dest="output", type=Path, required=True, help="prompt file to write; masks go to a folder beside it")
    add("-f", dest="folds", nargs="+", help="folds of the model (default: 0)")
    add("-chk", dest="checkpoint", help="checkpoint of the model (default: checkpoint_final.pth)")
    add("-device", choices=("cuda", "cpu", "mps"), help="where the model runs (default: cuda)")
    add("--coordinates", choices=("voxel", "LPS", "RAS"), help="coordinates of the prompt file (default: voxel)")
    add("--min_volume", dest="min_volume_mm3", type=not_negative, metavar="MM3", help="leave out smaller objects")
    add("--dataset_json", type=Path, help="with --masks: where labels are named (default: found in or above --masks)")


def convert(arguments: dict) -> None:
    """Run ``convert``."""
    from nnunetv2_promise.prompts.convert import convert_prompts

    _report(convert_prompts(arguments.pop("files"), arguments.pop("output"), **arguments))


def propose(arguments: dict) -> None:
    """Run ``propose``."""
    from nnunetv2_promise.errors import UserError
    from nnunetv2_promise.prompts.propose import StockModel, propose_from_masks, propose_from_model

    places = [arguments.pop("images"), arguments.pop("output")]
    model_options = {name: arguments.pop(name) for name in ("folds", "checkpoint", "device") if name in arguments}
    if "masks" in arguments:
        if model_options:
            raise UserError("--masks needs no model; leave out -f, -chk and -device.")
        _report(propose_from_masks(arguments.pop("masks"), *places, **arguments))
        return
    if "dataset_json" in arguments:
        raise UserError("-m has a dataset.json of its own; leave out --dataset_json.")
    model = StockModel(arguments.pop("folder"), **({"folds": ("0",)} | model_options))
    _report(propose_from_model(model, *places, **arguments))


def _report(written: PromptFile) -> None:
    objects = sum(map(len, written.cases.values()))
    clicks = sum(len(prompt.clicks) for prompts in written.cases.values() for prompt in prompts)
    empty = sum(not prompts for prompts in written.cases.values())
    found = f"{len(written.cases)} cases, {objects} objects, {clicks} clicks, {empty} cases without an object"
    print(f"{written.path}: {found}.")  # noqa: T201
