"""``nnUNetv2_promise_prompts``: make prompt files and check them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunetv2_promise.cli.arguments import at_least_one, name_or_number, not_negative
from nnunetv2_promise.cli.common import run_command
from nnunetv2_promise.cli.prompts_from_elsewhere import add_convert, add_propose, convert, propose

_EXAMPLE = """examples:
  nnUNetv2_promise_prompts simulate -i imagesTs -l labelsTs -o imagesTs/prompts.json
  nnUNetv2_promise_prompts simulate -i imagesTs -l labelsTs -o prompts.json --points 3 --where centre --coordinates RAS
  nnUNetv2_promise_prompts simulate -i imagesTs -l labelsTs --prompts first.json --correct masks -o next.json
  nnUNetv2_promise_prompts convert colon_001.mrk.json -o prompts.json --label tumour -i imagesTs
  nnUNetv2_promise_prompts propose -m MODEL_FOLDER -i imagesTs -o prompts.json
  nnUNetv2_promise_prompts check imagesTs/prompts.json -i imagesTs -o pictures

The format is described in docs/reference/prompt-json.md.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_prompts",
        description="Make prompt files from label maps, viewers or an nnU-Net; check a prompt file against its images.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{simulate,convert,propose,check}")
    _add_simulate(commands)
    add_convert(commands)
    add_propose(commands)
    _add_check(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and delegate."""
    arguments = vars(build_parser().parse_args(argv))
    command = {"simulate": _simulate, "convert": convert, "propose": propose, "check": _check}[arguments.pop("command")]
    return run_command(lambda: command(arguments))


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "simulate",
        help="make a prompt file from label maps",
        description="Click on the objects of label maps. A case's clicks depend on its name and the seed only. With "
        "--correct, add to a prompt file the click that corrects each object's mask next.",
        epilog="examples:\n"
        "  nnUNetv2_promise_prompts simulate -i imagesTs -l labelsTs -o imagesTs/prompts.json\n"
        "  nnUNetv2_promise_prompts simulate -i imagesTs -l labelsTs --prompts first.json --correct masks -o next.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("-i", dest="images", type=Path, required=True, help="folder with images, CASE_0000.nii.gz (or CASE.nii.gz)")
    add("-l", dest="labels", type=Path, required=True, help="folder with their label maps, CASE.nii.gz")
    add("-o", dest="output", type=Path, required=True, help="prompt file to write")
    add("--dataset_json", type=Path, help="where the labels are named (default: found in or above -l, then -i)")
    add(
        "--per",
        choices=("component", "case"),
        help="an object is a connected component of a label, or a label of a case (default: component)",
    )
    _add_first_clicks(parser.add_argument_group("first clicks").add_argument)
    add = parser.add_argument_group("corrections").add_argument
    add(
        "--correct",
        dest="masks",
        type=Path,
        metavar="MASKS",
        help="folder with the masks to correct, CASE_object1.nii.gz and so on, or CASE.nii.gz",
    )
    add("--prompts", type=Path, metavar="FILE", help="prompt file that the masks were made from")


def _add_first_clicks(add: Callable[..., argparse.Action]) -> None:
    """The options that say how objects are clicked first; with --correct they mean nothing."""
    add("--points", type=at_least_one, help="clicks on each object (default: 1)")
    add("--seed", type=int, help="fixes the clicks (default: 0)")
    add(
        "--coordinates",
        choices=("voxel", "LPS", "RAS"),
        help="voxel index of the image file, or mm in its world (default: voxel)",
    )
    add(
        "--where",
        choices=("random", "centre", "border", "outside", "wrong"),
        help="random: any voxel of the object; centre: first click on the voxel deepest inside; border: voxels that "
        "touch its outside; outside: --distance_mm away from it; wrong: background at least --distance_mm away from "
        "every object of its label (default: random)",
    )
    add(
        "--distance_mm",
        type=not_negative,
        metavar="MM",
        help="how far from the object clicks lie (default: 5 with --where outside, 20 with --where wrong)",
    )
    add(
        "--skip_impossible",
        action="store_true",
        help="where no voxel lies as --where asks, list the case with no prompt and in OUTPUT.skipped.json instead",
    )
    add("--nested", action="store_true", help="draw points so that fewer of them are the first of more")
    add("--labels", dest="only_labels", nargs="+", type=name_or_number, metavar="LABEL", help="only these labels")
    add(
        "--min_volume",
        dest="min_volume_mm3",
        type=not_negative,
        metavar="MM3",
        help="leave out smaller objects (default: 0)",
    )


def _add_check(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "check",
        help="check a prompt file against its images and draw the clicks",
        description="Check that cases, labels and points fit the images, as prediction needs it; draw the clicks.",
        epilog="example:\n  nnUNetv2_promise_prompts check imagesTs/prompts.json -i imagesTs -o pictures",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("prompts", type=Path, help="prompt file")
    add("-i", dest="images", type=Path, required=True, help="folder with images, CASE_0000.nii.gz (or CASE.nii.gz)")
    add("-o", dest="output", type=Path, help="folder for one picture (PNG) of each click")
    add("--dataset_json", type=Path, help="where the labels are named (default: found in or above -i)")


def _correct(arguments: dict) -> None:
    from nnunetv2_promise.errors import UserError
    from nnunetv2_promise.prompts.correct import correct_prompts

    if "masks" not in arguments or "prompts" not in arguments:
        raise UserError("--correct MASKS and --prompts FILE belong together: the masks and what they were made from.")
    places = [arguments.pop(name) for name in ("prompts", "images", "labels", "masks", "output")]
    choices = {name: arguments.pop(name) for name in ("per", "dataset_json") if name in arguments}
    if arguments:
        raise UserError("--correct makes the next click by itself; leave out the options for first clicks.")
    written = correct_prompts(*places, **choices)
    clicks = sum(len(prompt.clicks) for prompts in written.cases.values() for prompt in prompts)
    objects = sum(map(len, written.cases.values()))
    print(f"{written.path}: {len(written.cases)} cases, {objects} objects, {clicks} clicks.")  # noqa: T201


def _simulate(arguments: dict) -> None:
    if arguments.keys() & {"masks", "prompts"}:
        _correct(arguments)
        return
    from nnunetv2_promise.prompts.simulate import simulate_prompts
    from nnunetv2_promise.prompts.skipped import skipped_cases, skipped_file

    written = simulate_prompts(arguments.pop("images"), arguments.pop("labels"), arguments.pop("output"), **arguments)
    skipped = skipped_cases(written.path)
    objects = sum(len(prompts) for prompts in written.cases.values())
    empty = sum(not prompts for prompts in written.cases.values()) - len(skipped)
    print(f"{written.path}: {len(written.cases)} cases, {objects} objects, {empty} cases without an object.")  # noqa: T201
    if skipped:
        print(f"{skipped_file(written.path)}: {len(skipped)} cases in which no such click could be had.")  # noqa: T201


def _check(arguments: dict) -> None:
    from nnunetv2_promise.errors import UserError
    from nnunetv2_promise.prompts.check import check_prompts

    prompts = arguments["prompts"]
    report = check_prompts(arguments.pop("prompts"), arguments.pop("images"), **arguments)
    lines = [f"{prompts}: {report.cases} cases, {report.objects} objects, {report.points} clicks."]
    if report.empty_cases:
        lines.append(f"Listed without an object, so their masks will be empty: {', '.join(report.empty_cases)}.")
    if not report.labels_known:
        lines.append("Labels were not checked: no dataset.json was found; name it with --dataset_json.")
    if report.pictures:
        lines.append(f"{len(report.pictures)} pictures in {report.pictures[0].parent}.")
    print("\n".join(lines + report.problems))  # noqa: T201
    if report.problems:
        count = len(report.problems)
        raise UserError(report.problems[0] if count == 1 else f"{prompts} has {count} faults, listed above; fix them.")
