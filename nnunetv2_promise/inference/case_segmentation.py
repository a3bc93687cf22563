"""From a scan and its prompts to masks: each object by itself, and all of them as one label map."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from nnunetv2_promise.images.objects import Object, crop_to_object
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.configuration import to_scan
from nnunetv2_promise.inference.correction_window import cut_around_all, cut_around_first
from nnunetv2_promise.inference.object_faults import IN_PADDING, cut_faces, describe, faults, is_cut
from nnunetv2_promise.inference.placement import Window, WindowLayout
from nnunetv2_promise.inference.prompted_model import PromptedModel, WindowAnswer, WindowPrompt
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
        expected_dice: The Dice that a model that corrects expects of the mask; NaN for other models.
    """

    prompt: VoxelPrompt
    found: Object | None
    mean_probability: float
    holds_click: bool
    touches_edge: bool
    expected_dice: float = float("nan")


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


def segment_objects(
    model: PromptedModel, data: np.ndarray, properties: Mapping[str, Any], prompts: Sequence[VoxelPrompt]
) -> list[ObjectMask]:
    """Segment objects whose clicks lie near each other in one window, so that patches are encoded once for all of them.

    Args:
        model: The model.
        data: (C, z, y, x) as the image reader gives it.
        properties: Properties of the image; its ``spacing`` is used.
        prompts: Clicks in continuous (z, y, x) voxels of ``data``.

    Returns:
        One for each prompt, in their order.
    """
    cutter = WindowCutter(data, properties, model.plans, model.configuration)
    found: dict[int, ObjectMask] = {}
    for first, prompt in enumerate(prompts):
        if first in found:
            continue
        sharing = [
            n for n in range(first, len(prompts)) if n not in found and _shares(model, cutter, prompt, prompts[n])
        ]
        if len(sharing) > 1:
            window, answers = _shared_window(model, cutter, prompt, [prompts[n] for n in sharing])
            for number, answer in zip(sharing, answers, strict=True):
                if not cut_faces(window, answer.logit > 0).any():  # what is cut gets a window of its own, which grows
                    found[number] = _object_mask(model, cutter, prompts[number], [(window, answer)])
        for number in sharing or [first]:
            if number not in found:
                found[number] = _segment_object(model, cutter, prompts[number])
    return [found[number] for number in range(len(prompts))]


def _shares(model: PromptedModel, cutter: WindowCutter, first: VoxelPrompt, other: VoxelPrompt) -> bool:
    """Whether the other object's clicks lie in the inner half of the patch around the first one's."""
    if model.corrects and (first.corrects or other.corrects):
        return False  # clicks that correct each other have a window of their own
    if cutter.in_padding(first) or cutter.in_padding(other) or len(cutter.groups(first, model.window_size)) > 1:
        return False
    clicks = cutter.clicks(first)
    middle = (clicks.min(0) + clicks.max(0)) / 2
    return bool((np.abs(cutter.clicks(other) - middle) <= cutter.extent(model.network.patch_size) / 4).all())


def _shared_window(
    model: PromptedModel, cutter: WindowCutter, first: VoxelPrompt, prompts: Sequence[VoxelPrompt]
) -> tuple[Window, list[WindowAnswer]]:
    """The window around the first prompt, and the answer to every prompt in it."""
    (points,) = cutter.groups(first, model.window_size)
    window, image = cutter.cut(points, model.window_size, label_head=first.label_head, name=first.name)
    asked = [WindowPrompt(prompt.label_head, cutter.in_window(prompt, window)) for prompt in prompts]
    return window, model.answer(image, asked)


def _segment_object(
    model: PromptedModel, cutter: WindowCutter, prompt: VoxelPrompt, composed: MaskComposition | None = None
) -> ObjectMask:
    """Segment one object in windows of its own."""
    if cutter.in_padding(prompt):
        logger.warning(describe(prompt.name, [IN_PADDING]))
        return ObjectMask(prompt, None, float("nan"), holds_click=False, touches_edge=False)
    return _object_mask(model, cutter, prompt, list(_windows(model, cutter, prompt)), composed)


def _object_mask(
    model: PromptedModel,
    cutter: WindowCutter,
    prompt: VoxelPrompt,
    windows: Sequence[tuple[Window, WindowAnswer]],
    composed: MaskComposition | None = None,
) -> ObjectMask:
    """What the windows of an object say of it; added to the label map of the scan, if there is one."""
    layout = WindowLayout.around(window for window, _ in windows)
    alone = MaskComposition(tuple(layout), 2)
    for window, answer in windows:
        resample = model.configuration.resampling_fn_probabilities
        crop = to_scan(answer.logit, window, resample, model.configuration.spacing, cutter.spacing_mm.tolist())
        alone.add(1, layout.place(window), crop)
        if composed is not None:
            composed.add(prompt.label_head, tuple(slice(*edges) for edges in window.box), crop)
    mask = alone.labels == 1
    clicks = cutter.clicks(prompt)[prompt.signs]
    holds_click = _holds(mask, clicks - np.array(layout.region)[:, 0])
    cut = any(is_cut(window, answer.logit) for window, answer in windows)
    problems = faults(empty=not mask.any(), holds_click=holds_click, cut=cut)
    if problems:
        logger.warning(describe(prompt.name, problems))
    probability = float(expit(alone.best[mask]).mean()) if mask.any() else float("nan")
    found = _in_array_order(mask, layout, prompt.label_head, model.plans.transpose_backward)
    expected = windows[0][1].expected_dice  # models that expect a Dice have one window for an object
    return ObjectMask(prompt, found, probability, holds_click=holds_click, touches_edge=cut, expected_dice=expected)


def _windows(model: PromptedModel, cutter: WindowCutter, prompt: VoxelPrompt) -> Iterator[tuple[Window, WindowAnswer]]:
    """The windows of an object and their answers; a window whose mask is cut is cut larger and segmented again."""
    if model.corrects and prompt.corrects:
        yield _corrected_window(model, cutter, prompt)
        return
    for points in cutter.groups(prompt, model.window_size):
        size = np.array(model.window_size)
        for attempt in range(MAX_ENLARGEMENTS + 1):
            window, image = cutter.cut(points, size.tolist(), label_head=prompt.label_head, name=prompt.name)
            (answer,) = model.answer(image, [WindowPrompt(prompt.label_head, window.points)])
            cut = cut_faces(window, answer.logit > 0).any(1)
            if not cut.any() or attempt == MAX_ENLARGEMENTS:
                break
            size = cutter.enlarged(size.tolist(), np.asarray(cut))
        yield window, answer


def _corrected_window(model: PromptedModel, cutter: WindowCutter, prompt: VoxelPrompt) -> tuple[Window, WindowAnswer]:
    """The window around the first interaction, as the stock command has it; if that is too small, one around all."""
    asked = cut_around_first(cutter, prompt, model.window_size)
    if asked is not None:
        answer = model.correct(asked.image, prompt.label_head, asked.corrections)
        if not cut_faces(asked.window, answer.logit > 0).any():
            return asked.window, answer
    asked = cut_around_all(cutter, prompt, model.window_size)
    return asked.window, model.correct(asked.image, prompt.label_head, asked.corrections)


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
