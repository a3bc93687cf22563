"""A prompt file through nnInteractive's stock engine, without a window: for any of its model folders."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.images.folders import find_cases
from nnunetv2_promise.images.geometry import nearest_voxel
from nnunetv2_promise.images.labels import Labels, find_dataset_json, read_labels
from nnunetv2_promise.images.objects import crop_to_object
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.inference.case_output import CaseWriter, OutputFolder
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.case_segmentation import CaseMasks, ObjectMask
from nnunetv2_promise.inference.engine_placement import move_patches_inside
from nnunetv2_promise.inference.engine_prompts import ClickedObject, clicked_objects, kinds_taken
from nnunetv2_promise.inference.object_faults import describe, faults, holds
from nnunetv2_promise.inference.predict import PredictionRequest
from nnunetv2_promise.network_architectures import InteractiveUNet
from nnunetv2_promise.planning.nninteractive_folder import (
    NNInteractiveFolder,
    is_nninteractive_folder,
    read_nninteractive_folder,
)
from nnunetv2_promise.planning.unet_settings import engine_placement
from nnunetv2_promise.prompts.kinds import require_kinds
from nnunetv2_promise.prompts.locate import LocatedPrompt, read_previous_mask
from nnunetv2_promise.prompts.schema import PromptFile, load_prompt_file, prompt_file_for

if TYPE_CHECKING:
    from nnInteractive.inference.inference_session import nnInteractiveInferenceSession

logger = logging.getLogger(__name__)


def runs_in_engine(folder: Path) -> bool:
    """Whether a model folder is one for nnInteractive's engine: of its form, and not one of ProMISe."""
    if not is_nninteractive_folder(folder):
        return False
    plans = folder / "plans.json"
    if not plans.is_file():
        return True  # the engine's checks say what is missing
    return not any("promise" in configuration for configuration in read_json(plans)["configurations"].values())


def predict_in_engine(request: PredictionRequest) -> list[Path]:
    """Segment every case of the image folder: all prompts of an object in order, object by object.

    Args:
        request: Of a model folder of nnInteractive's form.

    Returns:
        The masks, in the order of their cases.

    Raises:
        UserError: If anything of the request is wrong, before anything is written.
    """
    _check_options(request)
    folder = read_nninteractive_folder(request.model_path, fold=request.folds[0], checkpoint=request.checkpoint)
    images = find_cases(request.images, folder.dataset_json)
    prompt_file = load_prompt_file(request.prompts or prompt_file_for(request.images))
    require_kinds(prompt_file, kinds_taken(folder.inference_info), model=str(folder.path))
    labels = _labels(request.images, folder)
    cases = {case: clicked_objects(prompt_file, case, files, folder, labels=labels) for case, files in images.items()}
    _refuse_unknown_cases(prompt_file, images)
    output = OutputFolder(request.output, folder.dataset_json["file_ending"], instances=request.instances)
    todo = [case for case in cases if not (request.continue_prediction and output.is_complete(case))]
    if todo:
        _run(request, folder, output, {case: (images[case], cases[case]) for case in todo}, labels)
    if output.instances:
        output.write_table(list(cases))
    write_json(folder.dataset_json, request.output / "dataset.json")
    write_json(folder.plans, request.output / "plans.json")
    logger.info("%d masks in %s", len(cases), request.output)
    return [output.mask(case) for case in cases]


def _labels(images: Path, folder: NNInteractiveFolder) -> Labels:
    """The labels that prompts name: those of the images' dataset, since a model for any object has none of its own."""
    named = find_dataset_json(images)
    return folder.dataset_json["labels"] if named is None else read_labels(named)


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
        ask_for(session, item.head)
        _show(session, item.located, answer.shape)
        masks.append(answer > 0)
    return masks


def ask_for(session: nnInteractiveInferenceSession, head: int | None) -> None:
    """Tell a clickable U-Net of ours which label is meant, as its training does; the engine has no word for it.

    Args:
        session: The engine, with a model.
        head: See ``ClickedObject``.
    """
    if isinstance(session.network, InteractiveUNet):
        session.network.ask_for(head)


def _show(session: nnInteractiveInferenceSession, prompt: LocatedPrompt, shape: Sequence[int]) -> None:
    if prompt.previous_mask is not None:
        session.add_initial_seg_interaction(read_previous_mask(prompt.previous_mask).astype(np.uint8))
    if prompt.box_zyx is not None:
        low, high = nearest_voxel(prompt.box_zyx, shape).tolist()
        session.add_bbox_interaction([[a, b + 1] for a, b in zip(low, high, strict=True)], True)
    for scribble in prompt.scribbles_zyx:
        session.add_scribble_interaction(draw_scribble(scribble, shape), True)
    clicks, positive = prompt.clicks_zyx()
    for point, sign in zip(nearest_voxel(clicks, shape).tolist(), positive.tolist(), strict=True):
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
    """The engine with a model, whose checkpoint has been read safely before; its patches lie as the plans say.

    Raises:
        UserError: If nnInteractive is not installed, or the plans name an unknown place for patches.
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
    if engine_placement(folder.configuration.configuration) == "inside":
        move_patches_inside(session)
    return session


def _run(
    request: PredictionRequest,
    folder: NNInteractiveFolder,
    output: OutputFolder,
    cases: Mapping[str, tuple[Sequence[Path], list[ClickedObject]]],
    labels: Labels,
) -> None:
    """Segment cases and write their masks, each when it is complete."""
    reader_writer = PlansManager(folder.plans).image_reader_writer_class()
    with contextlib.redirect_stdout(io.StringIO()):  # the engine prints a page for each click
        session = open_engine(folder, request.device)
    with CaseWriter(output, reader_writer) as writer:
        for case, (files, objects) in tqdm(cases.items(), desc="Predicting", unit="case"):
            for file in files:
                check_stored_voxels(file)
            image, properties = reader_writer.read_images([str(file) for file in files])
            if not image.any():
                raise UserError(f"{files[0]}: every voxel is 0, so there is nothing to segment; restore the image.")
            with contextlib.redirect_stdout(io.StringIO()):
                masks = segment_objects(session, image, objects)
            writer.write(case, case_masks(case, masks, objects, image.shape[1:]), properties, labels)


def case_masks(
    case: str, masks: Sequence[NDArray[np.bool_]], objects: Sequence[ClickedObject], shape: Sequence[int]
) -> CaseMasks:
    """The masks of a case as our own models give them; says which of them look wrong.

    The engine gives masks only, so that there are no probabilities.

    Args:
        case: Its name.
        masks: (D, H, W) for each object.
        objects: The objects.
        shape: (D, H, W) of the image.
    """
    found = []
    for number, (mask, item) in enumerate(zip(masks, objects, strict=True), start=1):
        clicks, positive = item.located.clicks_zyx()
        name = f"Case {case!r}, object {number} ({item.label})"
        prompt = VoxelPrompt(item.label, clicks, name=name, positive=positive)
        holds_click = holds(mask, nearest_voxel(clicks[positive], shape))
        problems = faults(empty=not mask.any(), holds_click=holds_click, cut=False)
        if problems:
            logger.warning(describe(name, problems))
        place = crop_to_object(mask, label=item.label)
        found.append(ObjectMask(prompt, place, float("nan"), holds_click=holds_click, touches_edge=False))
    return CaseMasks(label_map(masks, objects, shape), None, found)


def label_map(
    masks: Sequence[NDArray[np.bool_]], objects: Sequence[ClickedObject], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """One label map (D, H, W); a voxel of several objects belongs to the first."""
    labels = np.zeros(tuple(shape), np.uint8)
    for mask, item in zip(masks, objects, strict=True):
        labels[mask & (labels == 0)] = item.label
    return labels
