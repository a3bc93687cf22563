"""The ways to click that a benchmark compares: numbers of clicks, and clicks that vary or miss.

All clicks are simulated from the truth. Prompts are varied as follow-up work on promptable segmentation does: the seed
of the click, clicks at the border of the object, a few mm outside of it, and far away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.images.objects import Per
from nnunetv2_promise.prompts.misplaced import Where
from nnunetv2_promise.prompts.simulate import simulate_prompts


@dataclass(frozen=True)
class Condition:
    """One way to click on every object of every case.

    Attributes:
        name: Unique; fit for a file or folder.
        points: Clicks on each object.
        seed: With a case's name it fixes the clicks on that case.
        where: Where clicks lie; see ``nnunetv2_promise.prompts.misplaced.ClickPlaces``.
        distance_mm: Of clicks ``"outside"`` and ``"wrong"``; None takes the default of that place.
        nested: Whether the first clicks are those of a condition with fewer.
    """

    name: str
    points: int = 1
    seed: int = 0
    where: Where = "random"
    distance_mm: float | None = None
    nested: bool = False


def click_conditions(points: Sequence[int], seed: int) -> list[Condition]:
    """Numbers of clicks: ``clicks_1``, ``clicks_10``, ..., on random voxels of each object.

    All have the same seed and nest: the click of ``clicks_1`` is the first of those of ``clicks_10``.

    Args:
        points: Clicks on each object, one number for each condition.
        seed: Of all conditions.

    Raises:
        ValueError: If a number is below 1 or stands twice.
    """
    if len(set(points)) != len(points) or any(number < 1 for number in points):
        raise ValueError(f"points is {list(points)}; give different numbers, each 1 or more.")
    return [Condition(name=f"clicks_{number}", points=number, seed=seed, nested=number > 1) for number in points]


def robustness_conditions(seed: int, repeats: int = 4) -> list[Condition]:
    """One click on each object, drawn again or misplaced.

    Args:
        seed: That of the undisturbed ``clicks_1``; misplaced clicks have it too.
        repeats: ``seed1``, ``seed2``, ... click at random with the seeds ``seed + 1``, ``seed + 2``, ...

    Returns:
        The repeats, then ``border``, ``outside_2mm``, ``outside_5mm`` and ``wrong`` (background, 20 mm away).
    """
    again = [Condition(name=f"seed{number}", seed=seed + number) for number in range(1, repeats + 1)]
    return [
        *again,
        Condition(name="border", seed=seed, where="border"),
        Condition(name="outside_2mm", seed=seed, where="outside", distance_mm=2.0),
        Condition(name="outside_5mm", seed=seed, where="outside", distance_mm=5.0),
        Condition(name="wrong", seed=seed, where="wrong", distance_mm=20.0),
    ]


def write_prompts(
    condition: Condition, images: Path, labels: Path, output: Path, *, per: Per, dataset_json: Path
) -> None:
    """Write the prompt file of a condition, in voxel coordinates.

    A case in which the condition cannot be had for one of its objects, such as a click 20 mm away in a small image, is
    not clicked elsewhere. It is listed with no prompt, so that prediction runs, and named with the reason in
    ``prompts.skipped.json`` beside ``prompts.json`` and in the log. Scores leave these cases out.

    Args:
        condition: How to click.
        images: Folder of the images to prompt.
        labels: Folder of their true label maps.
        output: Prompt file to write.
        per: One object for each connected component of a label, or for each label of a case.
        dataset_json: Where the labels are named.

    Raises:
        UserError: As ``simulate_prompts``.
    """
    simulate_prompts(
        images,
        labels,
        output,
        points=condition.points,
        seed=condition.seed,
        per=per,
        where=condition.where,
        distance_mm=condition.distance_mm,
        dataset_json=dataset_json,
        skip_impossible=True,
        nested=condition.nested,
    )
