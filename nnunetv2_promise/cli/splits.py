"""``nnUNetv2_promise_splits``: published case lists or the paper's split, as nnU-Net's folds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.cli.arguments import at_least_one
from nnunetv2_promise.cli.common import run_command

_EXAMPLE = """examples:
  nnUNetv2_promise_splits import colon_split.pkl -d 10
  nnUNetv2_promise_splits import colon_split.pkl -d 10 --fold 2
  nnUNetv2_promise_splits paper -d 10 --seed 1

Both write splits_final.json into the dataset's folder in nnUNet_preprocessed; see docs/reference/splits.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and write the split."""
    args = build_parser().parse_args(argv)
    return run_command(lambda: _write(args))


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_splits",
        description="Decide which cases train, validate and test.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    published = kinds.add_parser("import", help="case lists in the form that the paper published (.pkl)")
    published.add_argument("file", type=Path, help="pickle of a list of folds; nothing in it is run")
    published.add_argument("--fold", type=int, metavar="K", help="only this one, counted from 0; it becomes fold 0")
    paper = kinds.add_parser("paper", help="0.7 train, 0.1 validation, 0.2 test, as fold 0")
    paper.add_argument("--seed", type=int, default=0, help="another seed, another split (default: %(default)s)")
    for kind in (published, paper):
        kind.add_argument("-d", dest="dataset_id", type=at_least_one, required=True, metavar="ID", help="dataset")
        kind.add_argument("--overwrite", action="store_true", help="replace a splits_final.json with other folds")
    return parser


def _write(args: argparse.Namespace) -> None:
    from nnunetv2_promise.dataset import splits
    from nnunetv2_promise.dataset.environment import dataset_name_of, nnunet_folder
    from nnunetv2_promise.errors import UserError

    raw, preprocessed = nnunet_folder("nnUNet_raw"), nnunet_folder("nnUNet_preprocessed")
    name = dataset_name_of(args.dataset_id)
    cases = splits.dataset_cases(raw / name)
    if args.kind == "paper":
        source, folds = f"The split of {name}", splits.paper_split(cases, seed=args.seed)
    else:
        source, folds = str(args.file), splits.read_published_splits(args.file)
    splits.check_splits(folds, cases, source)
    if args.kind == "import" and args.fold is not None:
        if not 0 <= args.fold < len(folds):
            raise UserError(f"{source} has the folds 0 to {len(folds) - 1}; --fold {args.fold} is none of them.")
        folds = [folds[args.fold]]
    file = splits.write_splits(folds, preprocessed / name, overwrite=args.overwrite)
    print(f"Written to {file}.")  # noqa: T201
