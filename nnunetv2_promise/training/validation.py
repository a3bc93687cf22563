"""Validation with clicks from the ground truth, online on patches and at the end on whole cases."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.utilities.file_path_utilities import check_workers_alive_and_busy

from nnunetv2_promise.images.objects import Object, find_objects, sample_points, seed_of_case
from nnunetv2_promise.inference.clicked_component import keep_clicked
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.placement import overlap, place_window
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file
from nnunetv2_promise.training.case_shares import in_step, share_of_process
from nnunetv2_promise.training.object_scores import (
    ObjectScore,
    number_objects,
    save_case_scores,
    score_object,
    summarise_objects,
)
from nnunetv2_promise.training.trainer_protocol import PromptTraining

SECONDS_BETWEEN_LOOKS = 0.1


def predict_validation_cases(trainer: PromptTraining, *, save_probabilities: bool) -> None:
    """Predict this process's share of the validation cases and write nnU-Net's ``validation`` folder.

    Each connected component of each label is clicked once, at a voxel drawn with a seed made of the case's name. The
    clicks are kept in ``validation/clicks``, one prompt file for each case, and what became of them in
    ``validation/objects``.

    Raises:
        RuntimeError: If a process that exports masks was killed.
    """
    _, all_keys = trainer.do_split()
    keys = share_of_process(trainer, all_keys)
    folder = Path(trainer.output_folder, "validation")
    (folder / "clicks").mkdir(parents=True, exist_ok=True)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, keys)
    workers = max(1, min(default_num_processes, len(keys), os.cpu_count() or 1))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        export = _Export(pool, waiting=workers)
        for number, key in enumerate(in_step(trainer, all_keys), 1):
            data, segmentation, _, properties = dataset.load_case(key)
            image, labels = np.asarray(data[:]), np.asarray(segmentation[:])[0]
            objects = find_objects(labels, trainer.label_manager.foreground_labels)
            clicks = click_objects(objects, key, trainer.seed)
            trainer.print_to_log_file(f"predicting {key} ({number} of {len(keys)}): {len(clicks)} objects")
            _save_clicks(objects, clicks, folder / "clicks" / f"{key}.json", labels.shape, properties, trainer)
            logits, scores = predict_case(trainer, image, objects, clicks)
            save_case_scores(scores, folder, key)
            configuration, plans = trainer.configuration_manager, trainer.plans_manager
            export(
                logits, properties, configuration, plans, trainer.dataset_json, str(folder / key), save_probabilities
            )
        export.finish()


class _Export:
    """nnU-Net's export in a pool of processes; keeps few volumes in flight, and notices when a process was killed.

    Args:
        pool: Its processes.
        waiting: How many volumes may wait for a process.
    """

    def __init__(self, pool: Any, *, waiting: int) -> None:
        self.pool = pool
        self.processes = list(pool._pool)
        self.waiting = waiting
        self.results: list[Any] = []

    def __call__(self, *arguments: Any) -> None:
        self._wait_while_more_than(len(self.processes) + self.waiting - 1)
        self.results.append(self.pool.apply_async(export_prediction_from_logits, arguments))

    def finish(self) -> None:
        self._wait_while_more_than(0)
        for result in self.results:
            result.get()

    def _wait_while_more_than(self, number: int) -> None:
        while True:
            # Raises if a process is gone: its result would never come.
            check_workers_alive_and_busy(self.pool, self.processes, self.results)
            if sum(not result.ready() for result in self.results) <= number:
                return
            sleep(SECONDS_BETWEEN_LOOKS)


def click_objects(objects: Sequence[Object], case: str, seed: int) -> list[np.ndarray]:
    """One click on each object.

    Args:
        objects: Of a case.
        case: Name that the clicks' seed depends on.
        seed: The run's seed.

    Returns:
        (1, 3) int voxel of each object.
    """
    rng = np.random.default_rng(seed_of_case(case, seed))
    return [sample_points(item, 1, rng) for item in objects]


@torch.inference_mode()
def predict_case(
    trainer: PromptTraining,
    image: np.ndarray,
    objects: Sequence[Object],
    clicks: Sequence[np.ndarray],
) -> tuple[np.ndarray, list[ObjectScore]]:
    """Logits of a preprocessed case, composed from one window for each click.

    Args:
        trainer: Holds network, device and configuration.
        image: (C, D, H, W) preprocessed.
        objects: The clicked objects.
        clicks: (n, 3) voxels of each of them.

    Returns:
        (heads, D, H, W) float16, background 0; and what each click's own mask is worth.
    """
    shape = image.shape[1:]
    heads = trainer.label_manager.num_segmentation_heads
    composed = MaskComposition(shape, heads, keep_logits=True, dtype=np.float16)
    numbers = number_objects(objects, shape)
    scores = []
    settings = PromptSettings.from_configuration(trainer.configuration_manager.configuration)
    size = settings.window_size
    for number, (item, points) in enumerate(zip(objects, clicks, strict=True), 1):
        start = place_window(points, size, shape if settings.placement == "inside" else None)
        box = [[begin, begin + length] for begin, length in zip(start, size, strict=True)]
        window = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float().to(trainer.device)
        inside = torch.from_numpy(points - np.array(start)).to(trainer.device)
        label_head = 1 + trainer.label_manager.foreground_labels.index(item.label)
        axes = trainer.inference_allowed_mirroring_axes or ()
        logit = trainer.prompted_network.segment_window(window, inside, label_head, mirror_axes=axes).cpu().numpy()
        if settings.target == "object":
            logit = keep_clicked(logit, inside.cpu().numpy())
        in_window, in_case = overlap(start, size, shape)
        scores.append(score_object(logit[in_window] > 0, numbers[in_case], number, item))
        composed.add(label_head, in_case, logit[in_window])
    return composed.require_logits(), scores


def _save_clicks(
    objects: Sequence[Object],
    clicks: Sequence[np.ndarray],
    path: Path,
    shape: tuple[int, ...],
    properties: Mapping[str, Any],
    trainer: PromptTraining,
) -> None:
    """Keep the clicks as a prompt file in voxels of the original image, so that they can be used again."""
    edges = np.array(properties["bbox_used_for_cropping"])
    length = np.array(properties["shape_after_cropping_and_before_resampling"])
    backward = list(trainer.plans_manager.transpose_backward)
    prompts = []
    for item, points in zip(objects, clicks, strict=True):
        original = (points + 0.5) * length / np.array(shape) - 0.5 + edges[:, 0]
        xyz = original[:, backward][:, ::-1].round(3).tolist()
        prompts.append(Prompt(label=int(item.label), points=tuple(tuple(point) for point in xyz)))
    save_prompt_file(path, {path.stem: prompts}, coordinates="voxel")


def summarise_validation(trainer: PromptTraining) -> None:
    """Score the ``validation`` folder: label maps as nnU-Net does in ``summary.json``, clicks in ``objects.json``."""
    folder = os.path.join(trainer.output_folder, "validation")
    metrics = compute_metrics_on_folder(
        os.path.join(trainer.preprocessed_dataset_folder_base, "gt_segmentations"),
        folder,
        os.path.join(folder, "summary.json"),
        trainer.plans_manager.image_reader_writer_class(),
        trainer.dataset_json["file_ending"],
        trainer.label_manager.foreground_labels,
        trainer.label_manager.ignore_label,
        chill=True,
        num_processes=min(default_num_processes, os.cpu_count() or 1),
    )
    for label, values in metrics["mean"].items():
        trainer.logger.log_summary(f"final_val/class_{label}_dice", values["Dice"])
    trainer.logger.log_summary("final_val/foreground_dice", metrics["foreground_mean"]["Dice"])
    objects = summarise_objects(Path(folder), trainer.do_split()[1])
    for name, value in objects.items():
        trainer.logger.log_summary(f"final_val/objects_{name}", value)
    trainer.print_to_log_file("Validation complete")
    trainer.print_to_log_file("Mean Validation Dice: ", metrics["foreground_mean"]["Dice"])
    trainer.print_to_log_file(
        f"{objects['clicks']} clicked objects: mean Dice {objects['mean_dice']:.4f}; "
        f"{objects['share_on_another_object']:.1%} of the masks lie more on another object."
    )
