"""Scores of clicks by hand; a validation whose export was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunetv2_promise.images.objects import find_objects
from nnunetv2_promise.training import validation
from nnunetv2_promise.training.click_scores import click_scores, on_another_object
from nnunetv2_promise.training.object_scores import (
    ObjectScore,
    number_objects,
    save_case_scores,
    score_object,
    summarise_objects,
)
from nnunetv2_promise.training.prompt_sampling import PromptedTarget


def two_bars() -> np.ndarray:
    labels = np.zeros((4, 4, 12), np.uint8)
    labels[1, 1, 0:4] = 1
    labels[1, 1, 6:12] = 1
    return labels


@pytest.mark.parametrize(
    ("mask", "dice", "on_another"),
    [((0, 4), 1.0, False), ((0, 8), 2 * 4 / (8 + 4), False), ((3, 12), 2 * 1 / (9 + 4), True), ((0, 0), 0.0, False)],
)
def test_mask_is_scored_against_the_clicked_object(mask: tuple[int, int], dice: float, on_another: bool) -> None:
    labels = two_bars()
    objects = find_objects(labels, [1])
    numbers = number_objects(objects, labels.shape)
    clicked = int(numbers[1, 1, 0])
    predicted = np.zeros(labels.shape, bool)
    predicted[1, 1, mask[0] : mask[1]] = True
    score = score_object(predicted, numbers, clicked, objects[clicked - 1])
    assert score == ObjectScore(label=1, voxels=4, dice=pytest.approx(dice), on_another=on_another)


def test_background_is_not_another_object() -> None:
    """One voxel of the clicked bar, six of background, none of the other bar."""
    labels = two_bars()
    objects = find_objects(labels, [1])
    numbers = number_objects(objects, labels.shape)
    clicked = int(numbers[1, 1, 0])
    predicted = np.zeros(labels.shape, bool)
    predicted[1, 1, 0] = predicted[2, 2, :6] = True
    assert not score_object(predicted, numbers, clicked, objects[clicked - 1]).on_another


def test_an_empty_mask_is_on_no_object_whatever_its_number() -> None:
    labels = two_bars()
    objects = find_objects(labels, [1])
    numbers = number_objects(objects, labels.shape)
    for number, item in enumerate(objects, 1):
        score = score_object(np.zeros(labels.shape, bool), numbers, number, item)
        assert score == ObjectScore(label=1, voxels=item.size_voxels, dice=0.0, on_another=False)


def test_summary_gathers_all_cases(tmp_path: Path) -> None:
    validation_folder = tmp_path / "fold_0" / "validation"
    save_case_scores([ObjectScore(1, 5, 0.5, True), ObjectScore(1, 5, 1.0, False)], validation_folder, "a")
    save_case_scores([ObjectScore(2, 5, 0.9, False)], validation_folder, "b")
    summary = summarise_objects(validation_folder, ["b", "a"])
    assert summary == {"clicks": 3, "mean_dice": pytest.approx(0.8), "share_on_another_object": pytest.approx(1 / 3)}


def test_online_counts_by_label_and_masks_on_another_object() -> None:
    labels = torch.from_numpy(two_bars())[None].repeat(2, 1, 1, 1)
    numbers = labels.clone()
    numbers[..., 6:][numbers[..., 6:] > 0] = 2
    segmentation = torch.stack([labels, numbers], dim=1)
    target = (numbers == 1)[:, None].to(torch.uint8)
    prompted = PromptedTarget(
        target, torch.tensor([0, 1]), torch.zeros(2, 1, 3), target[:, :0], torch.zeros(2, 0, dtype=torch.long)
    )
    mask = torch.zeros(2, 4, 4, 12)
    mask[0, 1, 1, 0:3] = 1  # three voxels of the clicked bar
    mask[1, 1, 1, 3:9] = 1  # one of it, three of the other
    logits = torch.stack([1 - mask, mask], dim=1)
    assert on_another_object(logits, prompted, segmentation).tolist() == [2, 1]
    swapped = torch.stack([labels, torch.where(numbers > 0, 3 - numbers, 0)], dim=1)  # the other bar is number 1
    assert on_another_object(logits, prompted, swapped).tolist() == [2, 1]
    scores = click_scores(logits, prompted, 2, None)
    assert scores["tp_hard"].tolist() == [3, 1]
    assert scores["fp_hard"].tolist() == [0, 5]
    assert scores["fn_hard"].tolist() == [1, 3]
    ignored = torch.zeros(2, 1, 4, 4, 12, dtype=torch.bool)
    ignored[..., 2:4] = ignored[..., 8:] = True  # the far half of the clicked bar, and what lies far to the right
    scores = click_scores(logits, prompted, 2, ignored)
    assert scores["tp_hard"].tolist() == [2, 0]
    assert scores["fp_hard"].tolist() == [0, 4]
    assert scores["fn_hard"].tolist() == [0, 2]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_export_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result would never come, and the validation would wait for ever."""
    monkeypatch.setattr(validation, "export_prediction_from_logits", _die)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        export = validation._Export(pool, waiting=1)
        export()
        with pytest.raises(RuntimeError, match="no longer alive"):
            export.finish()


def test_online_background_is_not_another_object() -> None:
    """One voxel of the clicked bar and six of background."""
    labels = torch.from_numpy(two_bars())[None]
    numbers = torch.where(labels > 0, 1, 0).to(labels.dtype)
    numbers[..., 6:] *= 2
    target = (numbers == 1)[:, None].to(torch.uint8)
    prompted = PromptedTarget(
        target, torch.tensor([0]), torch.zeros(1, 1, 3), target[:, :0], torch.zeros(1, 0, dtype=torch.long)
    )
    mask = torch.zeros(1, 4, 4, 12)
    mask[0, 1, 1, 0] = mask[0, 2, 2, :6] = 1
    logits = torch.stack([1 - mask, mask], dim=1)
    assert on_another_object(logits, prompted, torch.stack([labels, numbers], dim=1)).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        ([0, 1, 2, 4, 5, 8, 9], [1, 0]),  # three of the clicked object, two of each other one
        ([2, 3, 4, 5], [1, 0]),  # two of the clicked object and two of another
        ([3, 4, 5], [1, 1]),
        ([], [1, 0]),
    ],
)
def test_online_mask_is_compared_with_each_other_object_by_itself(voxels: list[int], expected: list[int]) -> None:
    """Three objects of one label in a row, of which the first was clicked, and a patch in which none was."""
    numbers = torch.arange(12).div(4, rounding_mode="floor").add(1).view(1, 1, 1, 1, 12).repeat(2, 1, 1, 1, 1)
    target = (numbers == 1).to(torch.uint8)
    target[1] = 0
    prompted = PromptedTarget(
        target, torch.tensor([0, 0]), torch.zeros(2, 1, 3), target[:, :0], torch.zeros(2, 0, dtype=torch.long)
    )
    mask = torch.zeros(2, 1, 1, 12)
    mask[:, 0, 0, voxels] = 1
    logits = torch.stack([1 - mask, mask], dim=1)
    segmentation = torch.cat([torch.ones_like(numbers), numbers], dim=1)
    assert on_another_object(logits, prompted, segmentation).tolist() == expected
