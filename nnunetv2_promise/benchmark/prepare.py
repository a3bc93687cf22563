"""What comes before the units: preprocessing, folds, held-out cases, clicks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

from nnunetv2_promise.benchmark.conditions import Condition, write_prompts
from nnunetv2_promise.benchmark.fingerprints import digest_of
from nnunetv2_promise.benchmark.inputs import conditions, ensure_splits, link_cases
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.settings import save_settings
from nnunetv2_promise.benchmark.start import check_architectures
from nnunetv2_promise.dataset.splits import dataset_cases
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.tolerances import tolerances_of
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.labels import read_labels, scored_labels
from nnunetv2_promise.steps import Step, run_steps


def prepare(layout: BenchmarkLayout, say: Callable[[str], None]) -> None:
    """Do what is not done yet of the preparation.

    Raises:
        UserError: If the benchmark cannot run: the device, the dataset, plans, folds or labels are wrong.
    """
    _check_device(layout.settings.device)
    dataset_cases(layout.raw)
    settings = layout.settings
    tolerances_of(scored_labels(read_labels(layout.dataset_json)), settings.tolerance_mm, settings.label_tolerances_mm)
    steps = preprocessing_steps(layout)
    save_settings(layout.settings, layout.root)
    environment = layout.environment()
    # nnU-Net's planner gives PyTorch as many threads as this variable says, and fails where it asks for none.
    workers = "1" if os.environ.get("nnUNet_n_proc_DA") == "0" else os.environ.get("nnUNet_n_proc_DA")
    planning = environment | ({"nnUNet_n_proc_DA": workers} if workers else {})
    run_steps(steps, layout.preparation, planning, say, echo=False)
    check_architectures(layout)
    ensure_splits(layout)
    for fold in layout.settings.folds:
        link_cases(layout, fold)
    run_steps(prompt_steps(layout), layout.preparation, environment, say, echo=False)


def preprocessing_steps(layout: BenchmarkLayout) -> list[Step]:
    """Plan and preprocess for every plans identifier that is used; plans that exist are never written again."""
    trained = [method for method in layout.settings.methods if method.trained]
    names = dict.fromkeys(each.plans for method in trained for each in (method.origin, method) if each is not None)
    return [_preprocess(layout, name) for name in names]


def _preprocess(layout: BenchmarkLayout, plans: str) -> Step:
    settings = layout.settings
    common = ("-d", str(settings.dataset_id), "-np", str(settings.processes))
    command: tuple[str, ...]
    if (layout.preprocessed / f"{plans}.json").is_file():
        command = ("nnUNetv2_preprocess", *common, "-plans_name", plans, "-c", settings.configuration)
    elif plans == "nnUNetPlans":
        command = ("nnUNetv2_plan_and_preprocess", *common, "-c", settings.configuration)
    elif planner := _planner_of(plans):
        command = ("nnUNetv2_promise_plan_and_preprocess", *common, "-pl", planner)
    else:
        raise UserError(f"{layout.preprocessed} has no plans {plans}; make them, or correct -p or TRAINER:PLANS.")
    already = lambda: is_preprocessed(layout, plans)  # noqa: E731
    return Step(f"preprocess_{plans}", f"Plan and preprocess ({plans})", command, already=already, needs=())


def _planner_of(plans: str) -> str | None:
    """The planner of ours whose plans have this name by default."""
    from nnunetv2_promise.planning.preparation import PLANNERS

    return next((name for name, planner in PLANNERS.items() if planner.default_plans_name == plans), None)


def is_preprocessed(layout: BenchmarkLayout, plans: str) -> bool:
    """Whether the plans exist with the preprocessed data of every case.

    Raises:
        UserError: If the plans lack the configuration.
    """
    file = layout.preprocessed / f"{plans}.json"
    if not file.is_file():
        return False
    configurations = read_json(file)["configurations"]
    if layout.settings.configuration not in configurations:
        raise UserError(f"{file} has no configuration {layout.settings.configuration}; name another one with -c.")
    entry = configurations[layout.settings.configuration]
    folder = layout.preprocessed / entry.get("data_identifier", f"{plans}_{layout.settings.configuration}")
    return all((folder / f"{case}.pkl").is_file() for case in dataset_cases(layout.raw))


def prompt_steps(layout: BenchmarkLayout) -> list[Step]:
    """Click on the held-out cases of every fold in every way."""
    return [_simulate(layout, fold, condition) for fold in layout.settings.folds for condition in conditions(layout)]


def _simulate(layout: BenchmarkLayout, fold: int, condition: Condition) -> Step:
    images, labels, output = layout.images(fold), layout.truths(fold), layout.prompts(fold, condition.name)
    per = layout.settings.per
    distance = () if condition.distance_mm is None else ("--distance_mm", f"{condition.distance_mm:g}")
    options = ("--points", str(condition.points), "--seed", str(condition.seed), "--where", condition.where, *distance)
    options += ("--nested",) if condition.nested else ()
    files = ("-i", str(images), "-l", str(labels), "-o", str(output), "--dataset_json", str(layout.dataset_json))
    return Step(
        f"prompts_fold_{fold}_{condition.name}",
        f"Click ({condition.name}, fold {fold})",
        ("nnUNetv2_promise_prompts", "simulate", *files, "--per", per, *options),
        action=lambda: write_prompts(condition, images, labels, output, per=per, dataset_json=layout.dataset_json),
        needs=(),
        made_from=lambda: {"condition": asdict(condition), "per": per, "truths": digest_of(labels.iterdir())},
    )


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("-device cuda: no CUDA device is available; use -device cpu.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("-device mps: no such device is available; use -device cpu.")
