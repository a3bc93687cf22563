"""Masks from Python, on arrays: one call for an image and its clicks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import check_inside
from nnunetv2_promise.inference.case_prompts import VoxelPrompt
from nnunetv2_promise.inference.case_segmentation import segment_objects
from nnunetv2_promise.inference.interactions import order_clicks
from nnunetv2_promise.inference.model_folder import open_model_folder
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.prompts.kinds import KINDS, kinds_of, listed_kinds
from nnunetv2_promise.prompts.schema import Prompt, resolve_label


def load_model(
    folder: Path | str,
    *,
    configuration: str = "3d_fullres",
    folds: Sequence[int | str] = (0,),
    checkpoint: str = "checkpoint_final.pth",
    device: str | None = None,
    use_mirroring: bool = True,
) -> PromptedModel:
    """Load a trained model once, for several calls of ``segment``.

    Args:
        folder: The model folder that training wrote.
        configuration: A configuration of its plans.
        folds: Folds to average.
        checkpoint: File name in each fold's folder.
        device: ``"cpu"``, ``"cuda"``, ...; a GPU where there is one, if None.
        use_mirroring: Whether mirror images vote, as nnU-Net does it.

    Raises:
        UserError: If the folder is not a complete model that takes prompts.
    """
    model = open_model_folder(
        Path(folder), configuration=configuration, folds=[str(fold) for fold in folds], checkpoint=checkpoint
    )
    model.check_checkpoints()
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return PromptedModel.load(model, torch.device(chosen), use_mirroring=use_mirroring)


def segment(
    model: PromptedModel | Path | str,
    image: ArrayLike,
    spacing: Sequence[float],
    clicks: Sequence[Prompt | Sequence[float]],
    *,
    previous_masks: Sequence[NDArray | None] | None = None,
) -> list[NDArray[np.bool_]]:
    """Segment the clicked objects of an image.

    A click in the middle of a window that is needed anyway shares it, so that its patches are encoded only once.

    Args:
        model: What ``load_model`` gave, or a model folder.
        image: (z, y, x), or (channels, z, y, x).
        spacing: Distance between voxels along x, y, z in mm, as ``GetSpacing()`` of SimpleITK gives it.
        clicks: One object each: a voxel (x, y, z), which may be fractional, for a model of one label; else
            ``Prompt(label=..., points=((x, y, z), ...))``, also with ``scribbles``. A model that corrects takes its
            clicks one after the other, ``negative_points`` as well.
        previous_masks: For each object the (z, y, x) mask to correct or None, for a model that corrects.

    Returns:
        (z, y, x) mask of each object, in the order of the clicks; masks may overlap.

    Raises:
        UserError: If image, spacing, a click or a mask is not what the model needs.
    """
    if isinstance(model, (str, Path)):
        model = load_model(model)
    data = _checked_image(image, len(model.dataset_json["channel_names"]))
    spacing_zyx = [float(edge) for edge in spacing][::-1]
    if len(spacing_zyx) != 3 or not all(np.isfinite(edge) and edge > 0 for edge in spacing_zyx):
        raise UserError(f"spacing is {tuple(spacing)}; give three positive numbers, for x, y and z in mm.")
    before = [None] * len(clicks) if previous_masks is None else list(previous_masks)
    if len(before) != len(clicks):
        raise UserError(f"previous_masks has {len(before)} entries and clicks {len(clicks)}; give one for each object.")
    prompts = [
        _located(model, click, mask, number, data.shape[1:])
        for number, (click, mask) in enumerate(zip(clicks, before, strict=True), start=1)
    ]
    masks = []
    for item in segment_objects(model, data, {"spacing": spacing_zyx}, prompts):
        mask = np.zeros(data.shape[1:], bool)
        if item.found is not None:
            mask[item.found.slices_zyx] = item.found.mask
        masks.append(mask)
    return masks


def _checked_image(image: ArrayLike, channels: int) -> NDArray[np.float32]:
    data = np.asarray(image, np.float32)
    data = data[None] if data.ndim == 3 else data
    if data.ndim != 4 or len(data) != channels:
        raise UserError(f"image has shape {np.shape(image)}; the model needs (z, y, x) with {channels} channel(s).")
    if not np.isfinite(data).all():
        raise UserError("image holds NaN or infinite values; replace them with a sensible value.")
    return data


def _located(
    model: PromptedModel,
    click: Prompt | Sequence[float],
    previous_mask: NDArray | None,
    number: int,
    shape: Sequence[int],
) -> VoxelPrompt:
    where = f"click {number}"
    foreground = list(model.plans.get_label_manager(model.dataset_json).foreground_labels)
    prompt = _as_prompt(click, foreground, where)
    _check_kinds(model, prompt, previous_mask, where, shape)
    scribbles = [_index_zyx(scribble, where, shape) for scribble in prompt.scribbles]
    made = _index_zyx([item.point for item in prompt.clicks], where, shape)
    ordered = order_clicks(scribbles, made, np.array([item.positive for item in prompt.clicks], bool))
    label = resolve_label(prompt.label, model.dataset_json["labels"], where=where)
    return VoxelPrompt(
        1 + foreground.index(label),
        ordered.points_zyx,
        name=f"Click {number}",
        positive=ordered.positive,
        at_once=ordered.at_once,
        previous_mask=None if previous_mask is None else np.asarray(previous_mask) != 0,
    )


def _as_prompt(click: Prompt | Sequence[float], foreground: Sequence[int], where: str) -> Prompt:
    if isinstance(click, Prompt):
        return click
    if len(foreground) != 1:
        raise UserError(f"{where}: the model knows several labels; give Prompt(label=..., points=((x, y, z),)).")
    x, y, z = click
    return Prompt(label=foreground[0], points=((x, y, z),))


def _check_kinds(
    model: PromptedModel, prompt: Prompt, previous_mask: NDArray | None, where: str, shape: Sequence[int]
) -> None:
    """Refuse what the model does not take, and a mask that does not fit."""
    if prompt.previous_mask is not None:
        raise UserError(f"{where} names a file as its previous mask; give arrays as previous_masks=[...] instead.")
    taken = ("points", "negative_points", "scribbles") if model.corrects else ("points", "scribbles")
    refused = [KINDS[kind] for kind in kinds_of(prompt) if kind not in taken]
    refused += [KINDS["previous_mask"]] if previous_mask is not None and not model.corrects else []
    if refused:
        raise UserError(
            f"{where} has {' and '.join(refused)}, but this model takes {listed_kinds(taken)} only; remove the rest."
        )
    if previous_mask is not None and np.shape(previous_mask) != tuple(shape):
        raise UserError(
            f"{where}: its previous mask has shape {np.shape(previous_mask)} and the image {tuple(shape)}; they must "
            "share one grid."
        )


def _index_zyx(points: Sequence[Sequence[float]], where: str, shape: Sequence[int]) -> NDArray[np.float64]:
    index_zyx = np.asarray(points, float).reshape(-1, 3)[:, ::-1]
    if check_inside(index_zyx, shape).size:
        size_xyz = tuple(int(length) for length in shape[::-1])
        raise UserError(f"{where} lies outside of the image of {size_xyz} voxels (x, y, z).")
    return index_zyx
