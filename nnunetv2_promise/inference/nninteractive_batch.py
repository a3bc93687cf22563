"""A prompt file through nnInteractive's stock engine, without a window: for any of its model folders."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.images.folders import find_cases
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry
from nnunetv2_promise.inference.case_prompts import SUPPORTED_READERS
from nnunetv2_promise.inference.predict import PredictionRequest
from nnunetv2_promise.planning.nninteractive_folder import (
    NNInteractiveFolder,
    is_nninteractive_folder,
    read_nninteractive_folder,
)
from nnunetv2_promise.prompts.kinds import require_kinds
from nnunetv2_promise.prompts.locate import LocatedPrompt, locate_case, read_previous_mask
from nnunetv2_promise.prompts.schema import PromptFile, foreground_labels, load_prompt_file, prompt_file_for

if TYPE_CHECKING:
    from nnInteractive.inference.inference_session import nnInteractiveInferenceSession

logger = logging.getLogger(__name__)

LARGEST_LABEL = 255


@dataclass(frozen=True)
class ClickedObject:
    """What the engine is asked for.

    Attributes:
        label: Value in the label map.
        located: The object's prompts in the image.
    """

    label: int
    located: LocatedPrompt


def runs_in_engine(folder: Path | None) -> bool:
    """Whether a model folder is one for nnInteractive's engine: of its form, and not one of ProMISe."""
    if folder is None or not is_nninteractive_folder(folder):
        return False
    plans = folder / "plans.json"
    if not plans.is_file():
        return True  # the engine's checks say what is missing
    return not any("promise" in configuration for configuration in read_json(plans)["configurations"].values())


def predict_in_engine(request: PredictionRequest) -> list[Path]:
    """Segment every case of the image folder: all prompts of an object in order, object by object.

    Args:
        request: With ``model_folder``, of nnInteractive's form.

    Returns:
        The masks, in the order of their cases.

    Raises:
        UserError: If anything of the request is wrong, before anything is written.
    """
    _check_options(request)
    path = request.model_folder or Path()
    folder = read_nninteractive_folder(path, fold=request.folds[0], checkpoint=request.checkpoint)
    images = find_cases(request.images, folder.dataset_json)
    prompt_file = load_prompt_file(request.prompts or prompt_file_for(request.images))
    require_kinds(prompt_file, kinds_taken(folder.inference_info), model=str(folder.path))
    cases = {case: clicked_objects(prompt_file, case, files, folder) for case, files in images.items()}
    _refuse_unknown_cases(prompt_file, images)
    masks = {case: request.output / f"{case}{folder.dataset_json['file_ending']}" for case in cases}
    todo = [case for case in cases if not (request.continue_prediction and masks[case].is_file())]
    if todo:
        _run(request, folder, {masks[case]: (images[case], cases[case]) for case in todo})
    write_json(folder.dataset_json, request.output / "dataset.json")
    write_json(folder.plans, request.output / "plans.json")
    logger.info("%d masks in %s", len(cases), request.output)
    return list(masks.values())


def kinds_taken(inference_info: Mapping[str, Any]) -> list[str]:
    """The kinds of prompts that a model takes; keys of ``prompts.kinds.KINDS``. A missing entry counts as true."""
    supported = inference_info.get("supported_interactions", {})
    kinds = ["points", "negative_points"] if supported.get("points", True) else []
    kinds += ["box"] if supported.get("bbox2d", True) or supported.get("bbox3d", False) else []
    kinds += ["scribbles"] if supported.get("scribble", True) else []
    return kinds + (["previous_mask"] if inference_info.get("supports_initial_label", True) else [])


def clicked_objects(
    prompt_file: PromptFile, case: str, files: Sequence[Path], folder: NNInteractiveFolder
) -> list[ClickedObject]:
    """The objects of a case, located in its image.

    A label's name is looked up in the model's ``dataset.json``; a number is taken as it is, since the labels of
    nnInteractive's own models mean nothing.

    Raises:
        UserError: If the case is not listed, a name is unknown, or a prompt lies outside of the image.
    """
    reader = folder.plans["image_reader_writer"]
    if reader not in SUPPORTED_READERS:
        raise UserError(
            f"{folder.path / 'plans.json'}: images are read with {reader}, which changes the order of voxels; models "
            f"need one of {', '.join(SUPPORTED_READERS)}."
        )
    located = locate_case(prompt_file, case, read_geometry(files[0]), labels=None)
    known = foreground_labels(folder.dataset_json["labels"])
    objects = []
    for number, (prompt, place) in enumerate(zip(prompt_file.cases[case], located, strict=True), start=1):
        value = known.get(prompt.label) if isinstance(prompt.label, str) else prompt.label
        if value is None or value > LARGEST_LABEL:
            listed = ", ".join(map(repr, list(known)[:10])) or "none"
            raise UserError(
                f"Prompt file {prompt_file.path}, case {case!r}, object {number}: label {prompt.label!r} is unknown; "
                f"use a label of the model ({listed}) or a number from 1 to {LARGEST_LABEL}."
            )
        objects.append(ClickedObject(value, place))
    return objects


def segment_objects(
    session: nnInteractiveInferenceSession, image: NDArray[np.float32], objects: Sequence[ClickedObject]
) -> list[NDArray[np.bool_]]:
    """Masks of the objects, from all prompts of each in order: mask, box, scribbles, clicks.

    Args:
        session: The engine, with a model.
        image: (C, D, H, W).
        objects: The objects.

    Returns:
        (D, H, W) for each object.
    """
    session.set_image(image)
    answer = np.zeros(image.shape[1:], np.uint8)
    session.set_target_buffer(answer)
    masks = []
    for item in objects:
        session.reset_interactions()
        _show(session, item.located, answer.shape)
        masks.append(answer > 0)
    return masks


def _show(session: nnInteractiveInferenceSession, prompt: LocatedPrompt, shape: Sequence[int]) -> None:
    if prompt.previous_mask is not None:
        session.add_initial_seg_interaction(read_previous_mask(prompt.previous_mask).astype(np.uint8))
    if prompt.box_zyx is not None:
        low, high = np.round(prompt.box_zyx).astype(int).tolist()
        session.add_bbox_interaction([[a, b + 1] for a, b in zip(low, high, strict=True)], True)
    for scribble in prompt.scribbles_zyx:
        session.add_scribble_interaction(draw_scribble(scribble, shape), True)
    clicks, positive = prompt.clicks_zyx()
    for point, sign in zip(np.round(clicks).astype(int).tolist(), positive.tolist(), strict=True):
        session.add_point_interaction(tuple(point), sign)


def draw_scribble(points_zyx: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.uint8]:
    """A line through points, three voxels wide, as viewers draw it for the engine (D, H, W)."""
    canvas = np.zeros(shape, np.uint8)
    for start, stop in pairwise(points_zyx):
        steps = int(np.ceil(2 * np.abs(stop - start).max())) + 1
        for point in np.round(np.linspace(start, stop, steps)).astype(int):
            canvas[tuple(slice(max(place - 1, 0), place + 2) for place in point)] = 1
    if len(points_zyx) == 1:
        canvas[tuple(np.round(points_zyx[0]).astype(int))] = 1
    return canvas


def _check_options(request: PredictionRequest) -> None:
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("-device cuda: no CUDA device is available; use -device cpu.")
    if request.output.exists() and not request.output.is_dir():
        raise UserError(f"-o {request.output} is a file; name a folder.")
    if len(request.folds) != 1:
        raise UserError(f"-f {' '.join(request.folds)}: nnInteractive's engine runs one fold; name one.")
    if request.save_probabilities:
        raise UserError("--save_probabilities: nnInteractive's engine gives masks only; leave the option out.")


def _refuse_unknown_cases(prompt_file: PromptFile, images: Mapping[str, Sequence[Path]]) -> None:
    unknown = [case for case in prompt_file.cases if case not in images]
    if unknown:
        raise UserError(
            f"{prompt_file.path} has prompts for case '{unknown[0]}', which has no image in the input folder; "
            "remove the case or correct its name."
        )


def open_engine(folder: NNInteractiveFolder, device: str) -> nnInteractiveInferenceSession:
    """The engine with a model, whose checkpoint has been read safely before.

    Raises:
        UserError: If nnInteractive is not installed.
    """
    try:
        from nnInteractive.inference.inference_session import nnInteractiveInferenceSession
    except ImportError as error:
        raise UserError(
            f"{folder.path} is for nnInteractive's engine, which is not installed; run "
            "pip install 'nnunetv2-promise[interactive]'."
        ) from error
    session = nnInteractiveInferenceSession(
        device=torch.device(device), torch_n_threads=os.cpu_count() or 1, enable_undo=False
    )
    session.initialize_from_trained_model_folder(
        str(folder.path), folder.checkpoint.parent.name.removeprefix("fold_"), folder.checkpoint.name
    )
    return session


def _run(
    request: PredictionRequest,
    folder: NNInteractiveFolder,
    cases: Mapping[Path, tuple[Sequence[Path], list[ClickedObject]]],
) -> None:
    """Segment cases and write their masks, each when it is complete."""
    reader_writer = PlansManager(folder.plans).image_reader_writer_class()
    with contextlib.redirect_stdout(io.StringIO()):  # the engine prints a page for each click
        session = open_engine(folder, request.device)
    for target, (files, objects) in tqdm(cases.items(), desc="Predicting", unit="case"):
        for file in files:
            check_stored_voxels(file)
        image, properties = reader_writer.read_images([str(file) for file in files])
        if not image.any():
            raise UserError(f"{files[0]}: every voxel is 0, so there is nothing to segment; restore the image.")
        with contextlib.redirect_stdout(io.StringIO()):
            masks = segment_objects(session, image, objects)
        with atomic_path(target) as temporary:
            reader_writer.write_seg(label_map(masks, objects, image.shape[1:]), str(temporary), properties)
            check_stored_voxels(temporary)  # ITK says nothing when a full disk cuts a mask off


def label_map(
    masks: Sequence[NDArray[np.bool_]], objects: Sequence[ClickedObject], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """One label map (D, H, W); a voxel of several objects belongs to the first."""
    labels = np.zeros(shape, np.uint8)
    for mask, item in zip(masks, objects, strict=True):
        labels[mask & (labels == 0)] = item.label
    return labels
