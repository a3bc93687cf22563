"""From the units' files to what the report gets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.results import RUN_COLUMNS, TIMING_COLUMNS, BenchmarkResults, PictureFiles
from nnunetv2_promise.benchmark.scoring import prompts_of, stands_in_tables, system_name
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Method
from nnunetv2_promise.benchmark.units import scored_conditions
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.folders import find_images, find_volumes
from nnunetv2_promise.images.labels import read_labels, scored_labels
from nnunetv2_promise.inference.model_folder import read_checkpoint
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.steps import read_stamp
from nnunetv2_promise.trainer_search import find_trainer

NAN = float("nan")


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
    return BenchmarkResults(
        dataset=layout.dataset,
        systems=systems,
        reference=reference_system(settings),
        scores=_scores(layout),
        runs=pd.DataFrame(_runs(layout), columns=list(RUN_COLUMNS)),
        timings=pd.DataFrame(_timings(layout), columns=list(TIMING_COLUMNS)),
        labels=scored_labels(read_labels(layout.dataset_json)),
        tolerance_mm=settings.tolerance_mm,
        budget=settings.budget,
        commands=commands,
        files=_files(layout),
    )


def reference_system(settings: BenchmarkSettings) -> str:
    """The system of the reference trainer: without clicks, or with the fewest if it takes clicks."""
    method = next(method for method in settings.methods if method.trainer == settings.reference)
    return system_name(settings, method, f"clicks_{min(settings.points)}" if method.prompted else "none")


def _scores(layout: BenchmarkLayout) -> pd.DataFrame:
    tables = []
    for fold in layout.settings.folds:
        for method in layout.settings.methods:
            for condition in scored_conditions(layout, method):
                file = layout.scores(method, fold, condition)
                if not file.is_file() or read_stamp(layout.unit(method, fold), f"score_{condition}") is None:
                    raise UserError(
                        f"{file} is missing: {method.trainer}, fold {fold} has not finished; run the benchmark again, "
                        f"its logs are in {layout.unit(method, fold) / 'logs'}."
                    )
                # Names such as "1" stay text.
                tables.append(pd.read_csv(file, dtype={"case": str, "label": str}))
    return pd.concat(tables, ignore_index=True)


def _runs(layout: BenchmarkLayout) -> list[dict[str, Any]]:
    rows = []
    for method in layout.settings.methods:
        parameters, trained = count_parameters(layout, method)
        for fold in layout.settings.folds:
            cost_file = layout.training_cost(method, fold)
            cost = read_json(cost_file) if cost_file.is_file() else {}
            row = {
                "trainer": method.runs,
                "plans": method.plans,
                "fold": fold,
                "parameters": parameters,
                "trained_parameters": trained,
                "train_seconds": training_seconds(layout.model(method) / f"fold_{fold}" / "checkpoint_final.pth"),
                "device": cost.get("device", ""),
                "peak_memory_bytes": cost.get("peak_memory_bytes", NAN),
            }
            rows.append(row)
    return rows


def training_seconds(checkpoint: Path) -> float:
    """The epochs' duration that nnU-Net's log in a checkpoint adds up to; what an interruption lost is not in it."""
    log = read_checkpoint(checkpoint)["logging"]
    pairs = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=False)
    return float(sum(end - start for start, end in pairs))


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
    if method.prompted and PromptSettings.from_configuration(configuration.configuration).sam_checkpoint is not None:
        network.network.freeze_pretrained()
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return sum(parameter.numel() for parameter in network.parameters()), trained


def _timings(layout: BenchmarkLayout) -> list[dict[str, Any]]:
    rows = []
    for method in layout.settings.methods:
        for condition in filter(stands_in_tables, scored_conditions(layout, method)):
            predicted = "none" if condition.startswith("nearest_") else condition
            for fold in layout.settings.folds:
                seconds = seconds_per_case(layout, method, fold, predicted)
                name = system_name(layout.settings, method, condition)
                rows.append({"system": name, "fold": fold, "seconds_per_case": seconds})
    return rows


def seconds_per_case(layout: BenchmarkLayout, method: Method, fold: int, condition: str) -> float:
    """From the first to the last mask of a prediction, by the files' times, for each further case.

    Start-up is left out that way. NaN for a single case, and where the prediction was interrupted.
    """
    stamp = read_stamp(layout.unit(method, fold), f"predict_{condition}")
    masks = find_volumes(layout.predictions(method, fold, condition), what="predictions").values()
    times = [path.stat().st_mtime for path in masks]
    if stamp is None or stamp["resumed"] or len(times) < 2:
        return math.nan
    return (max(times) - min(times)) / (len(times) - 1)


def _files(layout: BenchmarkLayout) -> dict[tuple[str, str], PictureFiles]:
    files = {}
    for fold in layout.settings.folds:
        images, truths = find_images(layout.images(fold)), find_volumes(layout.truths(fold), what="label maps")
        for method in layout.settings.methods:
            for condition in filter(stands_in_tables, scored_conditions(layout, method)):
                masks = find_volumes(layout.predictions(method, fold, condition), what="predictions")
                system = system_name(layout.settings, method, condition)
                prompts = prompts_of(layout, fold, condition)
                for case, image in images.items():
                    files[system, case] = PictureFiles(image, truths[case], masks[case], prompts)
    return files
