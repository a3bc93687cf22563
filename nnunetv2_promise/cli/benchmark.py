"""``nnUNetv2_promise_benchmark``: every method on the same folds, compared in one report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_promise.cli.arguments import at_least_one, not_negative, tolerance
from nnunetv2_promise.cli.common import run_command

if TYPE_CHECKING:
    from nnunetv2_promise.benchmark.layout import BenchmarkLayout
    from nnunetv2_promise.benchmark.settings import BenchmarkSettings

_EXAMPLE = """examples:
  nnUNetv2_promise_benchmark -d 10 -tr nnUNetTrainer ProMISeTrainer --prompts 1 10
  nnUNetv2_promise_benchmark -d 10 -tr nnUNetTrainer ProMISeTrainer -f 0 --minutes 30 --dry_run
  nnUNetv2_promise_benchmark -d 10 -tr nnUNetTrainer ProMISeInteractiveTrainer --corrections 5
  nnUNetv2_promise_benchmark -d 10 -tr nnUNetTrainer UXNet3DTrainer nnFormerTrainer SwinUNETRTrainer \\
      SAMAdapter3DTrainer ProMISeTrainer --per case --cluster slurm --partition gpu --minutes_per_job 1440

What is missing is trained, predicted and scored; a second call resumes where the first one ended, and adds trainers,
folds, seeds or numbers of clicks to what earlier ones named. See docs/how-to/benchmark.md.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_benchmark",
        description="Train, predict and score several trainers on the same folds, and write one report.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_comparison(parser.add_argument_group("what is compared"))
    _add_evaluation(parser.add_argument_group("how it is tested"))
    _add_execution(parser.add_argument_group("where it runs"))
    _add_cluster(parser.add_argument_group("on a cluster"))
    return parser


def _add_comparison(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-d", dest="dataset_id", type=at_least_one, required=True, metavar="ID", help="dataset number")
    add(
        "-tr",
        dest="trainers",
        nargs="+",
        default=["nnUNetTrainer", "ProMISeTrainer"],
        metavar="TRAINER[:PLANS]",
        help="trainers; without plans, prompted ones use -p and all others nnUNetPlans (default: %(default)s)",
    )
    add("-p", dest="plans", default="ProMISePlans", help="plans of prompted trainers (default: %(default)s)")
    add("-c", dest="configuration", default="3d_fullres", help="configuration (default: %(default)s)")
    add("-f", dest="folds", nargs="+", type=_fold, default=[0, 1, 2, 3, 4], metavar="FOLD", help="default: 0 1 2 3 4")
    add("--training_seeds", type=at_least_one, default=1, metavar="K", help="trainings of each fold (default: 1)")
    add("--masks", nargs="+", default=[], metavar="NAME=FOLDER", help="also score these masks, CASE.nii.gz in FOLDER")
    add(
        "--nninteractive",
        nargs="+",
        default=[],
        metavar="[NAME=]FOLDER",
        help="also models for nnInteractive's engine, as they are, with the same clicks",
    )
    add(
        "--start_from",
        metavar="TRAINER[:PLANS]",
        help="clickable U-Nets start from this trainer's model of the same fold; each of the two has half the budget",
    )
    budget = group.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=_positive, metavar="N", help="every training takes so long")
    budget.add_argument("--patches", type=at_least_one, metavar="N", help="every training sees so many patches")
    budget.add_argument("--epochs", type=at_least_one, metavar="N", help="every training has so many epochs")


def _add_evaluation(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--prompts", dest="points", nargs="+", type=at_least_one, default=[1], metavar="N", help="clicks per object")
    add("--robustness", action="store_true", help="also other seeds of the click, clicks at the border, outside, wrong")
    add("--per", choices=("component", "case"), default="component", help="an object is (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the clicks (default: %(default)s)")
    add(
        "--tolerance",
        dest="tolerances",
        nargs="+",
        type=tolerance,
        default=[],
        metavar="[LABEL=]MM",
        help="of NSD, for all labels or for one (default: 5)",
    )
    add(
        "--corrections",
        type=at_least_one,
        metavar="N",
        help="also click N times on each object, where the mask is wrong",
    )
    add("--jitter", dest="jitter_mm", type=not_negative, default=0.0, metavar="MM", help="by which corrections miss")
    add("--crop", action="store_true", help="also run methods without clicks on the crop around the clicks")
    add("--disable_tta", action="store_true", help="do not mirror at prediction: faster, but less accurate")
    add("--reference", metavar="TRAINER", help="baseline of prompted trainers (default: nnUNetTrainer, else the first)")


def _add_execution(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-o", dest="output", type=Path, help="folder (default: benchmark... beside the dataset's models)")
    add("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    add("-np", dest="processes", type=at_least_one, default=min(4, os.cpu_count() or 1), help="default: %(default)s")
    add("--jobs", type=at_least_one, metavar="N", help="trainings at a time (default: one for each GPU, else one)")
    add("--dry_run", action="store_true", help="print the commands and do nothing")
    add("--prepare_only", action="store_true", help="plan, preprocess, choose cases and click, then stop")


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--cluster", choices=("slurm",), help="submit through submitit instead of running here")
    add("--partition", help="SLURM partition")
    add("--minutes_per_job", type=at_least_one, default=1440, metavar="N", help="time limit; then requeued")
    add("--gpus_per_job", type=int, choices=(0, 1), help="default: 1 with -device cuda, else 0")
    add("--cpus_per_job", type=at_least_one, default=12, metavar="N", help="default: %(default)s")
    add("--memory_gb", type=at_least_one, default=48, metavar="N", help="default: %(default)s")
    add("--parallel", type=at_least_one, default=32, metavar="N", help="jobs of the array at a time")
    add("--sbatch", nargs="+", type=_pair, default=[], metavar="KEY=VALUE", help="more options for sbatch")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    arguments = build_parser().parse_args(argv)
    arguments.call = tuple(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _benchmark(arguments))


def _benchmark(arguments: argparse.Namespace) -> None:
    from nnunetv2_promise.benchmark.layout import BenchmarkLayout
    from nnunetv2_promise.benchmark.settings import with_earlier
    from nnunetv2_promise.errors import UserError

    settings = _settings(arguments)
    root = (arguments.output or _default_output(settings)).absolute()
    if root.exists() and not root.is_dir():
        raise UserError(f"-o {root} is a file; name a folder.")
    layout = BenchmarkLayout(root, with_earlier(settings, root, reference_named=bool(arguments.reference)))
    if arguments.dry_run:
        from nnunetv2_promise.benchmark.run import command_lines

        _say("\n".join(command_lines(layout)))
    elif arguments.prepare_only:
        from nnunetv2_promise.benchmark.prepare import prepare

        prepare(layout, _say)
    elif arguments.cluster:
        _submit(layout, arguments)
    else:
        from nnunetv2_promise.benchmark.run import run_locally

        _say(f"Report: {run_locally(layout, jobs=arguments.jobs, say=_say)}")


def _settings(arguments: argparse.Namespace) -> BenchmarkSettings:
    from nnunetv2_promise.benchmark.local import slots
    from nnunetv2_promise.benchmark.methods import choose_masks, choose_methods, choose_models, start_clickable_from
    from nnunetv2_promise.benchmark.settings import BenchmarkSettings
    from nnunetv2_promise.errors import UserError
    from nnunetv2_promise.evaluation.metrics import DEFAULT_TOLERANCE_MM
    from nnunetv2_promise.evaluation.tolerances import split_tolerances

    limited = any(limit is not None for limit in (arguments.minutes, arguments.patches, arguments.epochs))
    methods = choose_methods(arguments.trainers, prompted_plans=arguments.plans, limited=limited)
    if arguments.start_from:
        methods = start_clickable_from(arguments.start_from, methods, limited=limited)
    names = [method.trainer for method in methods]
    reference = arguments.reference or ("nnUNetTrainer" if "nnUNetTrainer" in names else names[0])
    if reference not in names:
        raise UserError(f"--reference {reference} is none of the trainers ({', '.join(names)}); name one of them.")
    if arguments.jitter_mm and not arguments.corrections:
        raise UserError("--jitter is about the clicks of --corrections; give both.")
    tolerance_mm, own_mm = split_tolerances(arguments.tolerances, DEFAULT_TOLERANCE_MM)
    same = (
        "dataset_id", "configuration", "minutes", "patches", "epochs", "training_seeds", "robustness", "per", "seed",
        "corrections", "jitter_mm", "crop", "disable_tta", "device", "call",
    )  # fmt: skip
    settings = BenchmarkSettings(
        methods=methods + choose_models(arguments.nninteractive) + choose_masks(arguments.masks),
        tolerance_mm=tolerance_mm,
        label_tolerances_mm=own_mm,
        jobs=arguments.parallel if arguments.cluster else arguments.jobs or max(1, len(slots(arguments.device, None))),
        folds=tuple(sorted(set(arguments.folds))),
        points=tuple(sorted(set(arguments.points))),
        reference=reference,
        processes=arguments.processes,
        **{name: getattr(arguments, name) for name in same},
    )
    if arguments.start_from:
        settings.half_budgets()  # refused here, not when the first unit begins
    return settings


def _default_output(settings: BenchmarkSettings) -> Path:
    from nnunetv2_promise.dataset.environment import dataset_name_of, nnunet_folder

    budget = ""
    if settings.minutes is not None:
        budget = f"_{settings.minutes:g}_minutes"
    elif settings.patches is not None:
        budget = f"_{settings.patches}_patches"
    elif settings.epochs is not None:
        budget = f"_{settings.epochs}_epochs"
    return nnunet_folder("nnUNet_results") / dataset_name_of(settings.dataset_id) / f"benchmark{budget}"


def _submit(layout: BenchmarkLayout, arguments: argparse.Namespace) -> None:
    from nnunetv2_promise.benchmark.cluster.slurm import ClusterSettings, check_submission, submit
    from nnunetv2_promise.benchmark.prepare import prepare
    from nnunetv2_promise.benchmark.settings import SETTINGS_NAME, load_settings, save_settings
    from nnunetv2_promise.benchmark.units import units
    from nnunetv2_promise.errors import UserError

    settings = ClusterSettings(
        partition=arguments.partition,
        minutes_per_unit=arguments.minutes_per_job,
        gpus=int(arguments.device == "cuda") if arguments.gpus_per_job is None else arguments.gpus_per_job,
        cpus=arguments.cpus_per_job,
        memory_gb=arguments.memory_gb,
        parallel=arguments.parallel,
        extra=dict(arguments.sbatch),
    )
    check_submission(layout.root, settings)
    before = load_settings(layout.root) if (layout.root / SETTINGS_NAME).is_file() else None
    prepare(layout, _say)
    try:
        submitted = submit(layout.root, units(layout.settings), settings)
    except UserError:
        if before is not None:
            save_settings(before, layout.root)
        raise
    _say(str(submitted))


def _fold(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a fold; 'all' holds no case back to test on")
    return int(text)


def _positive(text: str) -> float:
    number = not_negative(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
