"""From the units' files to what the report gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_promise.benchmark.inputs import conditions, held_out_part
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.results import (
    CORRECTION_COLUMNS,
    OBJECT_COLUMNS,
    RUN_COLUMNS,
    TIMING_COLUMNS,
    BenchmarkResults,
    PictureFiles,
)
from nnunetv2_promise.benchmark.scoring import prompts_of, read_scores, stands_in_tables, system_name
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training
from nnunetv2_promise.benchmark.units import scored_conditions, units
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.folders import find_images, find_volumes
from nnunetv2_promise.images.labels import read_labels, scored_labels
from nnunetv2_promise.inference.model_folder import read_checkpoint
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.prompts.skipped import skipped_cases
from nnunetv2_promise.steps import read_stamp
from nnunetv2_promise.trainer_search import find_trainer
from nnunetv2_promise.training.records import TRAINING_RECORD

NAN = float("nan")
NNUNET_STEPS = 250
"""Steps of an epoch of nnU-Net's own trainers."""


def collect(layout: BenchmarkLayout, commands: list[str]) -> BenchmarkResults:
    """Read the scores and costs of every unit.

    Args:
        layout: The benchmark.
        commands: The commands that made the results, for the report.

    Raises:
        UserError: If a unit has not finished; the sentence names it.
    """
    settings = layout.settings
    systems = [
        system_name(settings, method, condition)
        for method in settings.methods
        for condition in scored_conditions(layout, method)
        if stands_in_tables(condition)
    ]
    scores = [read_scores(file) for file in _score_files(layout)]
    objects = [read_scores(file) for file in _object_files(layout)]
    return BenchmarkResults(
        dataset=layout.dataset,
        systems=systems,
        reference=reference_system(settings),
        scores=pd.concat(scores, ignore_index=True),
        objects=pd.concat(objects, ignore_index=True) if objects else pd.DataFrame(columns=list(OBJECT_COLUMNS)),
        runs=pd.DataFrame(_runs(layout), columns=list(RUN_COLUMNS)),
        timings=pd.DataFrame(_timings(layout), columns=list(TIMING_COLUMNS)),
        labels=scored_labels(read_labels(layout.dataset_json)),
        tolerance_mm=settings.tolerance_mm,
        budget=settings.budget,
        parts={fold: held_out_part(layout, fold) for fold in settings.folds},
        skipped=_skipped(layout),
        jobs=settings.jobs,
        disable_tta=settings.disable_tta,
        commands=commands,
        files=_files(layout),
        label_tolerances_mm=settings.label_tolerances_mm,
        corrections=_corrections(layout),
        jitter_mm=settings.jitter_mm,
    )


def reference_system(settings: BenchmarkSettings) -> str:
    """The system of the reference trainer: without clicks, or with the fewest if it takes clicks."""
    method = next(method for method in settings.methods if method.trainer == settings.reference)
    return system_name(settings, method, f"clicks_{min(settings.points)}" if method.prompted else "none")


def _units(layout: BenchmarkLayout) -> Iterator[tuple[Method, Training]]:
    for key, training in units(layout.settings):
        yield layout.settings.method(key), Training.parse(training)


def _score_files(layout: BenchmarkLayout) -> Iterator[Path]:
    for method, training in _units(layout):
        for condition in scored_conditions(layout, method):
            file, unit = layout.scores(method, training, condition), layout.unit(method, training)
            if not file.is_file() or read_stamp(unit, f"score_{condition}") is None:
                raise UserError(
                    f"{file} is missing: {method.trainer}, fold {training} has not finished; run the benchmark again, "
                    f"its logs are in {unit / 'logs'}."
                )
            yield file


def _object_files(layout: BenchmarkLayout) -> Iterator[Path]:
    for method, training in _units(layout):
        for condition in filter(stands_in_tables, scored_conditions(layout, method)):
            file = layout.object_scores(method, training, condition)
            if file.is_file():
                yield file


def _corrections(layout: BenchmarkLayout) -> pd.DataFrame:
    tables = [pd.DataFrame(columns=list(CORRECTION_COLUMNS))]
    for method, training in _units(layout) if layout.settings.corrections else ():
        if read_stamp(layout.unit(method, training), "corrections") is None:
            raise UserError(
                f"Corrections of {method.trainer}, fold {training} have not finished; run the benchmark again."
            )
        tables += [read_scores(file) for file in sorted(layout.corrections(method, training).glob("*.csv"))]
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def _skipped(layout: BenchmarkLayout) -> dict[tuple[str, int], dict[str, str]]:
    found = {}
    for fold in layout.settings.folds:
        for condition in conditions(layout):
            if cases := skipped_cases(layout.prompts(fold, condition.name)):
                found[condition.name, fold] = cases
    return found


def _runs(layout: BenchmarkLayout) -> list[dict[str, Any]]:
    counted = {m.key: count_parameters(layout, m) for m in layout.settings.methods if m.trained}
    rows = []
    for method, training in _units(layout):
        if not method.trained:
            continue
        folder = layout.model_fold(method, training)
        files = [layout.training_cost(method, training), layout.start_cost(method, training)]
        costs = [read_json(file) for file in files if file.is_file()]
        identity = {"trainer": method.runs, "plans": method.plans, "fold": training.fold, "seed": training.seed}
        parameters = dict(zip(("parameters", "trained_parameters"), counted[method.key], strict=True))
        trained = _training(folder, layout.settings.configuration)
        if method.origin is not None:
            start = _training(layout.start_fold(method, training), layout.settings.configuration)
            trained = _with_start(trained, start, method.origin)
        measured = {
            "device": costs[0]["device"] if costs else "",
            "peak_memory_bytes": max((cost["peak_memory_bytes"] for cost in costs), default=NAN),
        }
        rows.append(identity | parameters | trained | measured)
    return rows


def _training(fold_folder: Path, configuration: str) -> dict[str, Any]:
    """Epochs, steps, patches, start weights and seconds of a training.

    Seconds are the epochs' by nnU-Net's log in the checkpoint; what an interruption lost is not in them. nnU-Net's own
    trainers take 250 steps in each epoch and keep no record of them.
    """
    log = read_checkpoint(fold_folder / "checkpoint_final.pth")["logging"]
    starts, ends = log["epoch_start_timestamps"], log["epoch_end_timestamps"]
    found = {
        "epochs": len(ends),
        "train_seconds": float(sum(end - start for start, end in zip(starts, ends, strict=False))),
    }
    record = fold_folder / TRAINING_RECORD
    if record.is_file():
        noted = read_json(record)
        steps = sum(noted["steps"])
        return found | {"steps": steps, "patches": steps * noted["batch_size"], "start": noted["start"]}
    batch_size = read_json(fold_folder.parent / "plans.json")["configurations"][configuration].get("batch_size", NAN)
    steps = NNUNET_STEPS * len(ends)
    return found | {"steps": steps, "patches": steps * batch_size, "start": "random weights"}


def _with_start(trained: dict[str, Any], start: dict[str, Any], origin: Method) -> dict[str, Any]:
    """What ``_training`` says of a training and of the model that it started from, together."""
    summed = {name: trained[name] + start[name] for name in ("epochs", "train_seconds", "steps", "patches")}
    return trained | summed | {"start": f"{origin.trainer} ({origin.plans}), half of the budget"}


def count_parameters(layout: BenchmarkLayout, method: Method) -> tuple[int, int]:
    """Parameters of a method's network, all and trained."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = layout.model(method)
    plans, dataset = PlansManager(read_json(folder / "plans.json")), read_json(folder / "dataset.json")
    configuration = plans.get_configuration(layout.settings.configuration)
    channels = determine_num_input_channels(plans, configuration, dataset)
    heads = plans.get_label_manager(dataset).num_segmentation_heads
    trainer = find_trainer(method.runs)
    if trainer is None:
        raise UserError(f"The trainer {method.runs} is not found any more; restore it, or nnUNet_extTrainer.")
    # PyTorch's meta device would save the memory, but MONAI's networks compute with numbers while they are built.
    network: Any = trainer.build_network_architecture(plans, configuration, channels, heads, True)
    if (
        method.prompted
        and not method.engine
        and PromptSettings.from_configuration(configuration.configuration).sam_checkpoint is not None
    ):
        network.network.freeze_pretrained()
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return sum(parameter.numel() for parameter in network.parameters()), trained


def _timings(layout: BenchmarkLayout) -> list[dict[str, Any]]:
    rows = []
    for method, training in _units(layout):
        if method.masks is not None:
            continue
        for condition in filter(stands_in_tables, scored_conditions(layout, method)):
            predicted = "none" if condition.startswith("nearest_") else condition
            seconds = seconds_per_case(layout, method, training, predicted)
            name = system_name(layout.settings, method, condition)
            rows.append({"system": name, "fold": training.fold, "seed": training.seed, "seconds_per_case": seconds})
    return rows


def seconds_per_case(layout: BenchmarkLayout, method: Method, training: Training, condition: str) -> float:
    """Measured seconds of the prediction command for each mask, its start included; NaN if they were not measured."""
    folder = layout.predictions(method, training, condition)
    cost = folder.with_name(f"{condition}_cost.json")
    masks = find_volumes(folder, what="predictions")
    return read_json(cost)["seconds"] / len(masks) if cost.is_file() and masks else NAN


def _files(layout: BenchmarkLayout) -> dict[tuple[str, str], PictureFiles]:
    files = {}
    for fold in layout.settings.folds:
        images, truths = find_images(layout.images(fold)), find_volumes(layout.truths(fold), what="label maps")
        for method in layout.settings.methods:
            for condition in filter(stands_in_tables, scored_conditions(layout, method)):
                masks = find_volumes(layout.predictions(method, Training(fold), condition), what="predictions")
                system = system_name(layout.settings, method, condition)
                prompts = prompts_of(layout, fold, condition)
                for case, image in images.items():
                    files[system, case] = PictureFiles(image, truths[case], masks[case], prompts)
    return files
