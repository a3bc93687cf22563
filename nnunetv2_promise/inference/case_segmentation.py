"""From a scan and its prompts to masks: each object by itself, and all of them as one label map."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunetv2_promise.images.objects import Object, crop_to_object
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.configuration import to_scan
from nnunetv2_promise.inference.object_faults import IN_PADDING, cut_faces, describe, faults, is_cut
from nnunetv2_promise.inference.placement import Window, WindowLayout
from nnunetv2_promise.inference.prompted_model import PromptedModel, WindowPrompt
from nnunetv2_promise.inference.window_cutting import WindowCutter

logger = logging.getLogger(__name__)

# How often a window grows by half where its mask is cut, before the mask is left cut.
MAX_ENLARGEMENTS = 2


@dataclass(frozen=True)
class ObjectMask:
    """The mask of one prompt.

    Attributes:
        prompt: The prompt.
        found: The mask, in array order (z, y, x); None if it is empty.
        mean_probability: Mean foreground probability of the mask's voxels; NaN if it is empty.
        holds_click: Whether the mask holds every click.
        touches_edge: Whether the mask ends where its window ends.
    """

    prompt: VoxelPrompt
    found: Object | None
    mean_probability: float
    holds_click: bool
    touches_edge: bool


@dataclass(frozen=True)
class CaseMasks:
    """The masks of a case.

    Attributes:
        labels: (z, y, x) label map.
        probabilities: (heads, z, y, x) float32, or None if they were not wanted.
        objects: One for each prompt.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    objects: list[ObjectMask]


def segment_case(
    model: PromptedModel,
    data: np.ndarray,
    properties: Mapping[str, Any],
    prompts: Sequence[VoxelPrompt],
    *,
    keep_probabilities: bool = False,
) -> CaseMasks:
    """Segment every prompted object of a scan, window by window, and say which masks look wrong.

    Args:
        model: The model.
        data: (C, z, y, x) as the image reader gives it.
        properties: Properties of the image; its ``spacing`` is used.
        prompts: Clicks in continuous (z, y, x) voxels of ``data``.
        keep_probabilities: Whether the probabilities of every label are wanted.
    """
    cutter = WindowCutter(data, properties, model.plans, model.configuration)
    composed = MaskComposition(cutter.shape, model.heads, keep_logits=keep_probabilities)
    objects = [_segment_object(model, cutter, prompt, composed) for prompt in prompts]
    backward = list(model.plans.transpose_backward)
    probabilities = None
    if keep_probabilities:
        probabilities = composed.probabilities().transpose([0, *(axis + 1 for axis in backward)])
    return CaseMasks(composed.labels.transpose(backward), probabilities, objects)


def _segment_object(
    model: PromptedModel, cutter: WindowCutter, prompt: VoxelPrompt, composed: MaskComposition
) -> ObjectMask:
    if cutter.in_padding(prompt):
        logger.warning(describe(prompt.name, [IN_PADDING]))
        return ObjectMask(prompt, None, float("nan"), holds_click=False, touches_edge=False)
    crops, cut = [], False
    for window, logit in _windows(model, cutter, prompt):
        cut = cut or is_cut(window, logit)
        resample = model.configuration.resampling_fn_probabilities
        crops.append((window, to_scan(logit, window, resample, model.configuration.spacing, cutter.spacing_mm)))
    for window, crop in crops:
        composed.add(window.label_head, tuple(slice(*edges) for edges in window.box), crop)
    layout = WindowLayout.around(window for window, _ in crops)
    alone = MaskComposition(tuple(layout), 2, keep_logits=False)
    for window, crop in crops:
        alone.add(1, layout.place(window), crop)
    mask = alone.labels == 1
    clicks = cutter.clicks(prompt) - np.array(layout.region)[:, 0]
    holds_click = _holds(mask, clicks)
    problems = faults(empty=not mask.any(), holds_click=holds_click, cut=cut)
    if problems:
        logger.warning(describe(prompt.name, problems))
    probability = float(_sigmoid(alone.best[mask]).mean()) if mask.any() else float("nan")
    found = _in_array_order(mask, layout, prompt.label_head, model.plans.transpose_backward)
    return ObjectMask(prompt, found, probability, holds_click=holds_click, touches_edge=cut)


def _windows(model: PromptedModel, cutter: WindowCutter, prompt: VoxelPrompt) -> Iterator[tuple[Window, np.ndarray]]:
    """The windows of an object and their logits; a window whose mask is cut is cut larger and segmented again."""
    for points in cutter.groups(prompt, model.window_size):
        size = np.array(model.window_size)
        for attempt in range(MAX_ENLARGEMENTS + 1):
            window, image = cutter.cut(points, size, label_head=prompt.label_head, name=prompt.name)
            (logit,) = model.answer(image, [WindowPrompt(prompt.label_head, window.points)])
            cut = cut_faces(window, logit > 0).any(1)
            if not cut.any() or attempt == MAX_ENLARGEMENTS:
                break
            size = np.where(cut, size * 3 // 2, size)
        yield window, logit


def _holds(mask: np.ndarray, voxels: np.ndarray) -> bool:
    """Whether a mask holds every voxel; those outside of its array are not held."""
    inside = ((voxels >= 0) & (voxels < mask.shape)).all(1)
    return bool(inside.all()) and bool(mask[tuple(voxels.T)].all())


def _in_array_order(
    mask: np.ndarray, layout: WindowLayout, label: int, transpose_backward: Sequence[int]
) -> Object | None:
    """The mask of a region as an object of the scan."""
    found = crop_to_object(mask, label=label)
    if found is None:
        return None
    start = np.array(found.start_zyx) + np.array(layout.region)[:, 0]
    z, y, x = (int(start[axis]) for axis in transpose_backward)
    return Object(label=label, start_zyx=(z, y, x), mask=found.mask.transpose(list(transpose_backward)))


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))
