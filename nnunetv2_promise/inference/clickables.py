"""Trained models as ``evaluation.correction_curves`` clicks on them: one object of one image, click by click."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from nnunetv2_promise.evaluation.correction_curves import Clickable
from nnunetv2_promise.images.labels import Labels
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.case_segmentation import segment_objects
from nnunetv2_promise.inference.engine_prompts import label_heads
from nnunetv2_promise.inference.model_folder import open_model_folder
from nnunetv2_promise.inference.nninteractive_batch import ask_for, open_engine
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.inference.session import InteractiveSession
from nnunetv2_promise.planning.nninteractive_folder import read_nninteractive_folder

if TYPE_CHECKING:
    from nnInteractive.inference.inference_session import nnInteractiveInferenceSession

StartObject = Callable[[int], Clickable]
"""From an object's label to what is clicked on."""
OpenCase = Callable[[Sequence[Path]], StartObject]
"""From the files of an image, one for each channel, to its objects."""


def open_promise(folder: Path, *, configuration: str, fold: str, device: str, use_mirroring: bool = True) -> OpenCase:
    """A model of ProMISe: one that corrects is clicked on in a session, another gets all positive clicks so far.

    Args:
        folder: Model folder.
        configuration: nnU-Net's configuration.
        fold: Whose weights are used.
        device: ``"cpu"``, ``"cuda"``, ...
        use_mirroring: Whether mirror images vote where each answer is a new one; a session never mirrors.

    Raises:
        UserError: If the folder is not a complete model.
    """
    found = open_model_folder(folder, configuration=configuration, folds=[fold], checkpoint="checkpoint_final.pth")
    found.check_checkpoints()
    reader_writer = PlansManager(found.plans).image_reader_writer_class()
    if "negative_points" in found.prompt_kinds():
        session = InteractiveSession(folder, configuration=configuration, fold=fold, device=device)
        return lambda files: _session_case(session, *_read(reader_writer, files))
    model = PromptedModel.load(found, torch.device(device), use_mirroring=use_mirroring)
    return lambda files: _one_shot_case(model, *_read(reader_writer, files))


def open_in_engine(folder: Path, *, labels: Labels, fold: str, device: str) -> OpenCase:
    """A model folder of nnInteractive's form, in its stock engine.

    Args:
        folder: Model folder.
        labels: ``labels`` of the ``dataset.json`` that the objects' labels are of.
        fold: Whose weights are used.
        device: ``"cpu"``, ``"cuda"``, ...

    Raises:
        UserError: If the folder is damaged, or nnInteractive is not installed.
    """
    found = read_nninteractive_folder(folder, fold=fold)
    heads = label_heads(found, labels)
    reader_writer = PlansManager(found.plans).image_reader_writer_class()
    with contextlib.redirect_stdout(io.StringIO()):  # the engine prints a page for each click
        session = open_engine(found, device)

    def open_case(files: Sequence[Path]) -> StartObject:
        image, _ = _read(reader_writer, files)
        with contextlib.redirect_stdout(io.StringIO()):
            session.set_image(image)
            answer = np.zeros(image.shape[1:], np.uint8)
            session.set_target_buffer(answer)
        return lambda label: _InEngine(session, answer, heads.get(label))

    return open_case


def _read(reader_writer: Any, files: Sequence[Path]) -> tuple[NDArray[np.float32], Mapping[str, Any]]:
    """(C, D, H, W) and nnU-Net's properties of an image."""
    return reader_writer.read_images([str(file) for file in files])


def _session_case(
    session: InteractiveSession, image: NDArray[np.float32], properties: Mapping[str, Any]
) -> StartObject:
    spacing_xyz = list(properties["spacing"])[::-1]
    fresh = True

    def start(label: int) -> Clickable:
        nonlocal fresh
        if fresh:
            session.set_image(image, spacing_xyz, label=label)
            fresh = False
        else:
            session.reset(label=label)
        return _InSession(session)

    return start


def _one_shot_case(model: PromptedModel, image: NDArray[np.float32], properties: Mapping[str, Any]) -> StartObject:
    foreground = model.plans.get_label_manager(model.dataset_json).foreground_labels
    return lambda label: _OneShot(model, image, properties, 1 + foreground.index(label))


class _OneShot:
    """Each click is added to those before it, and the object is segmented again."""

    accepts_negative = False

    def __init__(
        self, model: PromptedModel, image: NDArray[np.float32], properties: Mapping[str, Any], label_head: int
    ) -> None:
        self._model, self._image, self._properties = model, image, properties
        self._label_head = label_head
        self._points: list[NDArray[np.float64]] = []

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        """(D, H, W) mask from all clicks so far."""
        self._points.append(index_zyx)
        prompt = VoxelPrompt(self._label_head, np.stack(self._points))
        (item,) = segment_objects(self._model, self._image, self._properties, [prompt])
        mask = np.zeros(self._image.shape[1:], dtype=bool)
        if item.found is not None:
            mask[item.found.slices_zyx] = item.found.mask
        return mask


class _InSession:
    """Each click corrects the mask so far."""

    accepts_negative = True

    def __init__(self, session: InteractiveSession) -> None:
        self._session = session

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        """(D, H, W) corrected mask; a click that missed the image's content changes nothing."""
        point = index_zyx[::-1].tolist()
        if not self._session.holds(point):
            return self._session.mask
        return self._session.add_point(point, positive=positive)


class _InEngine:
    """Each click corrects the mask so far, by nnInteractive's engine."""

    accepts_negative = True

    def __init__(self, session: nnInteractiveInferenceSession, answer: NDArray[np.uint8], head: int | None) -> None:
        self._session, self._answer = session, answer
        ask_for(session, head)
        with contextlib.redirect_stdout(io.StringIO()):
            session.reset_interactions()

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        """(D, H, W) corrected mask."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._session.add_point_interaction(tuple(np.round(index_zyx).astype(int).tolist()), positive)
        return self._answer > 0
