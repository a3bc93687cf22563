"""Corrections of whole validation cases by the field's protocol: Dice after each click."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import distributed

from nnunetv2_promise.files import write_json
from nnunetv2_promise.images.objects import Object, find_objects
from nnunetv2_promise.inference.correctable_mask import CorrectableMask
from nnunetv2_promise.inference.patch_memory import PatchMemory
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.prompts.corrections import next_click
from nnunetv2_promise.training.case_shares import in_step, share_of_process
from nnunetv2_promise.training.patch_corrections import CLICKS
from nnunetv2_promise.training.trainer_protocol import PromptTraining

FILE_NAME = "corrections.json"


def correct_cases(trainer: PromptTraining) -> None:
    """Click every object of this process's validation cases ``CLICKS`` times, and sum up in ``validation``.

    Of each object its Dice is kept, and of each case the Dice of each label, whose mask is that of its objects
    together; the latter compares with networks that take no clicks.
    """
    _, keys = trainer.do_split()
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, share_of_process(trainer, keys))
    objects: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for key in in_step(trainer, keys):
        data, segmentation, _, _ = dataset.load_case(key)
        of_objects, of_labels = correct_case(trainer, np.asarray(data[:], np.float32), np.asarray(segmentation[:])[0])
        objects += [{"case": key, **row} for row in of_objects]
        labels += [{"case": key, **row} for row in of_labels]
    if trainer.is_ddp:
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, (objects, labels))
        objects = [row for part, _ in gathered for row in part]
        labels = [row for _, part in gathered for row in part]
    if trainer.local_rank == 0 and objects:
        _write(trainer, objects, labels)


def correct_case(
    trainer: PromptTraining, image: NDArray[np.float32], label_map: NDArray[np.int64]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Click the objects of one case.

    Args:
        trainer: Holds network and plans.
        image: (C, D, H, W) preprocessed.
        label_map: (D, H, W).

    Returns:
        For each object and for each label ``label`` and ``dice``, one value for each click; objects also have
        ``voxels`` and ``expected_dice``.
    """
    settings = PromptSettings.from_configuration(trainer.configuration_manager.configuration)
    spacing = trainer.configuration_manager.spacing
    foreground = trainer.label_manager.foreground_labels
    patches = PatchMemory(trainer.prompted_network, image)
    objects: list[dict[str, Any]] = []
    unions: dict[int, NDArray[np.bool_]] = {}
    for item in find_objects(label_map, foreground):
        mask = CorrectableMask(
            patches,
            label_head=1 + foreground.index(item.label),
            window_size=settings.window_size,
            one_component=settings.target == "object",
            inside=settings.placement == "inside",
        )
        steps, expected = _correct(mask, item, label_map.shape, spacing)
        truth = item.full_mask(label_map.shape)
        scores = [dice(step, truth) for step in steps]
        row = {"label": int(item.label), "voxels": item.size_voxels, "dice": scores, "expected_dice": expected}
        objects.append(row)
        unions[item.label] = unions.get(item.label, np.zeros((CLICKS, *label_map.shape), bool)) | np.stack(steps)
    labels = [
        {"label": int(label), "dice": [dice(step, label_map == label) for step in union]}
        for label, union in unions.items()
    ]
    return objects, labels


def _correct(
    mask: CorrectableMask, item: Object, shape: Sequence[int], spacing_zyx_mm: Sequence[float]
) -> tuple[list[NDArray[np.bool_]], list[float]]:
    """The mask and its expected Dice after each click; repeated once nothing is wrong any more."""
    truth = item.full_mask(shape)
    steps: list[NDArray[np.bool_]] = []
    expected: list[float] = []
    for _ in range(CLICKS):
        click = next_click(truth, mask.mask, spacing_zyx_mm)
        if click is not None:
            mask.click([click[0]], positive=click[1])
        steps.append(mask.mask)
        expected.append(mask.expected_dice)
    return steps, expected


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks, of which the truth is not empty."""
    return float(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))


def _write(trainer: PromptTraining, objects: list[dict[str, Any]], labels: list[dict[str, Any]]) -> None:
    names = sorted({row["label"] for row in labels})
    by_label = np.array([np.mean([r["dice"] for r in labels if r["label"] == name], axis=0) for name in names])
    means = {
        "objects": np.mean([row["dice"] for row in objects], axis=0).tolist(),
        "labels": by_label.mean(0).tolist(),
    }
    path = Path(trainer.output_folder, "validation", FILE_NAME)
    write_json({"clicks": CLICKS, "mean_dice": means, "objects": objects, "labels": labels}, path)
    for what, values in means.items():
        listed = ", ".join(f"{value:.4f}" for value in values)
        trainer.print_to_log_file(f"Mean Dice of {what} at 1 to {CLICKS} clicks: {listed}")
    for number, value in enumerate(means["labels"], start=1):
        trainer.logger.log_summary(f"final_val/foreground_dice_at_{number}_clicks", value)
