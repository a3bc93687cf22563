"""What nnInteractive's engine is asked for each object of a prompt file, checked before the engine starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import nearest_voxel
from nnunetv2_promise.images.labels import Labels
from nnunetv2_promise.images.reading import read_geometry
from nnunetv2_promise.inference.case_prompts import SUPPORTED_READERS
from nnunetv2_promise.planning.nninteractive_folder import NNInteractiveFolder
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case
from nnunetv2_promise.prompts.schema import PromptFile, foreground_labels

LARGEST_LABEL = 255


@dataclass(frozen=True)
class ClickedObject:
    """What the engine is asked for.

    Attributes:
        label: Value in the label map.
        located: The object's prompts in the image.
        head: The label's place among the model's own, from 0; None if it has none of that name.
    """

    label: int
    located: LocatedPrompt
    head: int | None = None


def kinds_taken(inference_info: Mapping[str, Any]) -> list[str]:
    """The kinds of prompts that a model takes; keys of ``prompts.kinds.KINDS``. A missing entry counts as true."""
    supported = inference_info.get("supported_interactions", {})
    kinds = ["points", "negative_points"] if supported.get("points", True) else []
    kinds += ["box"] if supported.get("bbox2d", True) or supported.get("bbox3d", False) else []
    kinds += ["scribbles"] if supported.get("scribble", True) else []
    return kinds + (["previous_mask"] if inference_info.get("supports_initial_label", True) else [])


def label_heads(folder: NNInteractiveFolder, labels: Labels) -> dict[int, int]:
    """Value in ``labels`` -> place of the label of the same name among the model's own, from 0.

    A model for any object has no labels of its own, and one of regions no label for each head.

    Args:
        folder: The model.
        labels: ``labels`` of the ``dataset.json`` that values are of.
    """
    own = folder.dataset_json.get("labels", {})
    values = foreground_labels(own)
    if len(values) != len(set(own) - {"background", "ignore"}):
        return {}
    places = {value: place for place, value in enumerate(sorted(values.values()))}
    return {value: places[values[name]] for name, value in foreground_labels(labels).items() if name in values}


def clicked_objects(
    prompt_file: PromptFile,
    case: str,
    files: Sequence[Path],
    folder: NNInteractiveFolder,
    *,
    labels: Labels | None = None,
) -> list[ClickedObject]:
    """The objects of a case, located in its image.

    A label's name is looked up; a number is taken as it is, since the labels of nnInteractive's own models mean
    nothing.

    Args:
        prompt_file: The prompts.
        case: Name of the case.
        files: Its image, one file for each channel.
        folder: The model.
        labels: ``labels`` of a ``dataset.json``; the model's if None.

    Raises:
        UserError: If the case is not listed, a name is unknown, a prompt lies outside of the image, or a box has a
            depth that the model does not take.
    """
    reader = folder.plans["image_reader_writer"]
    if reader not in SUPPORTED_READERS:
        raise UserError(
            f"{folder.path / 'plans.json'}: images are read with {reader}, which changes the order of voxels; models "
            f"need one of {', '.join(SUPPORTED_READERS)}."
        )
    geometry = read_geometry(files[0])
    located = locate_case(prompt_file, case, geometry, labels=None)
    flat_only = not folder.inference_info.get("supported_interactions", {}).get("bbox3d", False)
    names = labels or folder.dataset_json["labels"]
    known, heads = foreground_labels(names), label_heads(folder, names)
    objects = []
    for number, (prompt, place) in enumerate(zip(prompt_file.cases[case], located, strict=True), start=1):
        where = f"Prompt file {prompt_file.path}, case {case!r}, object {number}"
        value = known.get(prompt.label) if isinstance(prompt.label, str) else prompt.label
        if value is None or value > LARGEST_LABEL:
            listed = ", ".join(map(repr, list(known)[:10])) or "none"
            raise UserError(
                f"{where}: label {prompt.label!r} is unknown; use a label of the model ({listed}) or a number from 1 "
                f"to {LARGEST_LABEL}."
            )
        if flat_only and place.box_zyx is not None and np.ptp(nearest_voxel(place.box_zyx, geometry.size_zyx), 0).all():
            raise UserError(
                f"{where}, field 'box': {folder.path} takes boxes in one slice only; give both corners the same x, y "
                "or z."
            )
        objects.append(ClickedObject(value, place, heads.get(value)))
    return objects
