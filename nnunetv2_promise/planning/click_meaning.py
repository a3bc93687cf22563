"""What a click means in training: the clicked object, or its whole label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2_promise.planning.prompt_settings import Target
from nnunetv2_promise.planning.sizes import MIN_OBJECT_VOXELS

# Fewer are slips of the annotation: then an object is its label, specks included.
SHARE_WITH_SEVERAL_OBJECTS = 0.05


def meaning_of_clicks(objects: Mapping[str, Any]) -> tuple[Target, list[str]]:
    """Choose by how often a label has several objects in a case.

    Args:
        objects: The key ``objects`` of the fingerprint.

    Returns:
        The plans' ``promise.target``, and sentences that say why and how several labels are told apart.
    """
    share = share_of_cases_with_several(objects)
    several = share >= SHARE_WITH_SEVERAL_OBJECTS
    reasons = [
        f"A click means the clicked object: in {share:.0%} of the cases a label has several objects."
        if several
        else f"A click means its whole label, as in the paper: in {1 - share:.0%} of the cases a label has one object."
    ]
    if len(objects["labels"]) > 1:
        reasons.append(
            f"Logits for each of the {len(objects['labels'])} labels; the label that a prompt names chooses."
        )
    return ("object" if several else "label"), reasons


def share_of_cases_with_several(objects: Mapping[str, Any]) -> float:
    """Of all pairs of a case and a label that it has, the share in which the label has more than one object.

    Args:
        objects: The key ``objects`` of the fingerprint. Specks do not count as objects.
    """
    numbers = [
        sum(count >= MIN_OBJECT_VOXELS for count in case["voxels"])
        for label in objects["labels"].values()
        for case in label["cases"].values()
        if case["voxels"]
    ]
    return sum(number > 1 for number in numbers) / max(len(numbers), 1)
