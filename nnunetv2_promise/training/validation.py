"""Validation with clicks from the ground truth, online on patches and at the end on whole cases."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from torch import Tensor, distributed

from nnunetv2_promise.images.objects import find_objects, sample_points, seed_of_case
from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT
from nnunetv2_promise.inference.placement import overlap, place_window
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file
from nnunetv2_promise.training.prompt_sampling import PromptedTarget
from nnunetv2_promise.training.trainer_protocol import PromptTraining


def click_scores(
    logits: Tensor, prompted: PromptedTarget, number_of_labels: int, ignored: Tensor | None
) -> dict[str, np.ndarray]:
    """True and false voxels of prompted patches, summed by label.

    Args:
        logits: (B, 2, D, H, W).
        prompted: Targets and labels of the patches.
        number_of_labels: Length of the results.
        ignored: (B, 1, D, H, W) bool, voxels that do not count, or None.

    Returns:
        ``tp_hard``, ``fp_hard`` and ``fn_hard``, (number_of_labels,) float64 each.
    """
    predicted = logits[:, 1:] > logits[:, :1]
    truth = prompted.target.bool()
    counted = torch.ones_like(truth) if ignored is None else ~ignored
    scores = {}
    for name, voxels in (("tp", predicted & truth), ("fp", predicted & ~truth), ("fn", ~predicted & truth)):
        per_patch = (voxels & counted).flatten(1).sum(1).double()
        total = per_patch.new_zeros(number_of_labels).index_add_(0, prompted.label_index, per_patch)
        scores[f"{name}_hard"] = total.cpu().numpy()
    return scores


def predict_validation_cases(trainer: PromptTraining, *, save_probabilities: bool) -> None:
    """Predict this process's share of the validation cases and write nnU-Net's ``validation`` folder.

    Each connected component of each label is clicked once, at a voxel drawn with a seed made of the case's name.
    The clicks are kept in ``validation/clicks``, one prompt file for each case.
    """
    _, keys = trainer.do_split()
    if trainer.is_ddp:
        keys = keys[trainer.local_rank :: distributed.get_world_size()]
    folder = Path(trainer.output_folder, "validation")
    (folder / "clicks").mkdir(parents=True, exist_ok=True)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, keys)
    workers = max(1, min(default_num_processes, len(keys), os.cpu_count() or 1))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        exports = []
        for number, key in enumerate(keys, 1):
            data, segmentation, _, properties = dataset.load_case(key)
            image, labels = np.asarray(data[:]), np.asarray(segmentation[:])[0]
            clicks = click_objects(labels, trainer.label_manager.foreground_labels, key, trainer.seed)
            trainer.print_to_log_file(f"predicting {key} ({number} of {len(keys)}): {len(clicks)} objects")
            _save_clicks(clicks, folder / "clicks" / f"{key}.json", labels.shape, properties, trainer)
            logits = predict_case(trainer, image, clicks)
            configuration, plans = trainer.configuration_manager, trainer.plans_manager
            arguments = (properties, configuration, plans, trainer.dataset_json, str(folder / key), save_probabilities)
            exports.append(pool.apply_async(export_prediction_from_logits, (logits, *arguments)))
            if len(exports) > 2 * workers:  # keep few volumes in flight
                exports.pop(0).get()
        for export in exports:
            export.get()


def click_objects(
    labels_zyx: np.ndarray, foreground_labels: list[int], case: str, seed: int
) -> list[tuple[int, np.ndarray]]:
    """One click on each connected component of each label.

    Args:
        labels_zyx: (D, H, W) label map.
        foreground_labels: Label values.
        case: Name that the clicks' seed depends on.
        seed: The run's seed.

    Returns:
        Label value and (1, 3) int voxel of each object.
    """
    rng = np.random.default_rng(seed_of_case(case, seed))
    return [(o.label, sample_points(o, 1, rng)) for o in find_objects(labels_zyx, foreground_labels)]


@torch.inference_mode()
def predict_case(trainer: PromptTraining, image: np.ndarray, clicks: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Logits of a preprocessed case, composed from one window for each click.

    Args:
        trainer: Holds network, device and configuration.
        image: (C, D, H, W) preprocessed.
        clicks: Label value and (n, 3) voxels of each object.

    Returns:
        (heads, D, H, W) float16, background 0.
    """
    shape = image.shape[1:]
    heads = trainer.label_manager.num_segmentation_heads
    logits = np.full((heads, *shape), BACKGROUND_LOGIT, np.float16)
    logits[0] = 0
    size = PromptSettings.from_configuration(trainer.configuration_manager.configuration).window_size
    for label, points in clicks:
        start = place_window(points, size)
        box = [[begin, begin + length] for begin, length in zip(start, size, strict=True)]
        window = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float().to(trainer.device)
        inside = torch.from_numpy(points - np.array(start)).to(trainer.device)
        index = trainer.label_manager.foreground_labels.index(label)
        logit = trainer.prompted_network.segment_window(window, inside, index).cpu().numpy()
        in_window, in_case = overlap(start, size, shape)
        place = (1 + index, *in_case)
        logits[place] = np.maximum(logits[place], logit[in_window])
    return logits


def _save_clicks(
    clicks: list[tuple[int, np.ndarray]],
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
    for label, points in clicks:
        original = (points + 0.5) * length / np.array(shape) - 0.5 + edges[:, 0]
        xyz = original[:, backward][:, ::-1].round(3).tolist()
        prompts.append(Prompt(label=int(label), points=tuple(tuple(point) for point in xyz)))
    save_prompt_file(path, {path.stem: prompts}, coordinates="voxel")


def summarise_validation(trainer: PromptTraining) -> None:
    """Score the ``validation`` folder as nnU-Net does and write its ``summary.json``."""
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
    trainer.print_to_log_file("Validation complete")
    trainer.print_to_log_file("Mean Validation Dice: ", metrics["foreground_mean"]["Dice"])
