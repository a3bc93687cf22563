"""Scores of clicks: Dice with the clicked object, and whether the mask lies more on another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.images.objects import Object

FOLDER, SUMMARY = "objects", "objects.json"


@dataclass(frozen=True)
class ObjectScore:
    """One click and its mask, on the network's grid.

    Attributes:
        label: Value of the clicked object's label.
        voxels: Size of the object.
        dice: Dice of mask and object.
        on_another: Whether the mask overlaps some other object more than the clicked one.
    """

    label: int
    voxels: int
    dice: float
    on_another: bool


def number_objects(objects: Sequence[Object], shape: Sequence[int]) -> np.ndarray:
    """(D, H, W) int32: each object's place in the list, counted from 1; 0 elsewhere."""
    numbers = np.zeros(tuple(shape), np.int32)
    for number, item in enumerate(objects, 1):
        numbers[item.slices_zyx][item.mask] = number
    return numbers


def score_object(mask: np.ndarray, numbers: np.ndarray, clicked: int, item: Object) -> ObjectScore:
    """Score one mask.

    Args:
        mask: (d, h, w) bool, the mask in the part of the case that was looked at.
        numbers: (d, h, w) numbers of objects in the same part.
        clicked: The clicked object's number.
        item: The clicked object.
    """
    overlaps = np.bincount(numbers[mask], minlength=clicked + 1)
    others = np.delete(overlaps, [0, clicked])
    dice = 2 * overlaps[clicked] / (np.count_nonzero(mask) + item.size_voxels)
    on_another = bool(others.max(initial=0) > overlaps[clicked])
    return ObjectScore(label=int(item.label), voxels=item.size_voxels, dice=float(dice), on_another=on_another)


def save_case_scores(scores: Sequence[ObjectScore], validation: Path, case: str) -> None:
    """Write ``objects/CASE.json`` in nnU-Net's validation folder."""
    (validation / FOLDER).mkdir(parents=True, exist_ok=True)
    write_json([asdict(score) for score in scores], validation / FOLDER / f"{case}.json")


def summarise_objects(validation: Path, cases: Sequence[str]) -> dict[str, float | int]:
    """Write ``objects.json`` from the files of all cases.

    Returns:
        ``clicks``, ``mean_dice`` and ``share_on_another_object``; the last two are NaN without a click.
    """
    by_case = {case: read_json(validation / FOLDER / f"{case}.json") for case in sorted(cases)}
    scores = [score for case in by_case.values() for score in case]
    summary: dict[str, float | int] = {
        "clicks": len(scores),
        "mean_dice": float(np.mean([score["dice"] for score in scores])) if scores else float("nan"),
        "share_on_another_object": float(np.mean([s["on_another"] for s in scores])) if scores else float("nan"),
    }
    write_json({**summary, "cases": by_case}, validation / SUMMARY)
    return summary
