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
from nnunetv2_promise.inference.model_folder import open_model_folder
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.prompts.kinds import KINDS, kinds_of
from nnunetv2_promise.prompts.schema import Prompt, resolve_label


def load_model(
    folder: Path | str,
    *,
    configuration: str = "3d_fullres",
    folds: Sequence[int | str] = (0,),
    checkpoint: str = "checkpoint_final.pth",
    device: str | None = None,
) -> PromptedModel:
    """Load a trained model once, for several calls of ``segment``.

    Args:
        folder: The model folder that training wrote.
        configuration: A configuration of its plans.
        folds: Folds to average.
        checkpoint: File name in each fold's folder.
        device: ``"cpu"``, ``"cuda"``, ...; a GPU where there is one, if None.

    Raises:
        UserError: If the folder is not a complete model that takes prompts.
    """
    model = open_model_folder(
        Path(folder), configuration=configuration, folds=[str(fold) for fold in folds], checkpoint=checkpoint
    )
    model.check_checkpoints()
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return PromptedModel.load(model, torch.device(chosen))


def segment(
    model: PromptedModel | Path | str,
    image: ArrayLike,
    spacing: Sequence[float],
    clicks: Sequence[Prompt | Sequence[float]],
) -> list[NDArray[np.bool_]]:
    """Segment the clicked objects of an image.

    A click in the middle of a window that is needed anyway shares it, so that its patches are encoded only once.

    Args:
        model: What ``load_model`` gave, or a model folder.
        image: (z, y, x), or (channels, z, y, x).
        spacing: Distance between voxels along x, y, z in mm, as ``GetSpacing()`` of SimpleITK gives it.
        clicks: One object each: a voxel (x, y, z), which may be fractional, for a model of one label; else
            ``Prompt(label=..., points=((x, y, z), ...))``. A model that corrects takes its clicks one after the other,
            ``negative_points`` as well.

    Returns:
        (z, y, x) mask of each object, in the order of the clicks; masks may overlap.

    Raises:
        UserError: If image, spacing or a click is not what the model needs.
    """
    if isinstance(model, (str, Path)):
        model = load_model(model)
    data = _checked_image(image, len(model.dataset_json["channel_names"]))
    spacing_zyx = [float(edge) for edge in spacing][::-1]
    if len(spacing_zyx) != 3 or not all(np.isfinite(edge) and edge > 0 for edge in spacing_zyx):
        raise UserError(f"spacing is {tuple(spacing)}; give three positive numbers, for x, y and z in mm.")
    prompts = [_located(model, click, number, data.shape[1:]) for number, click in enumerate(clicks, start=1)]
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


def _located(model: PromptedModel, click: Prompt | Sequence[float], number: int, shape: Sequence[int]) -> VoxelPrompt:
    where = f"click {number}"
    labels = model.dataset_json["labels"]
    foreground = list(model.plans.get_label_manager(model.dataset_json).foreground_labels)
    if isinstance(click, Prompt):
        prompt = click
    elif len(foreground) == 1:
        x, y, z = click
        prompt = Prompt(label=foreground[0], points=((x, y, z),))
    else:
        raise UserError(f"{where}: the model knows several labels; give Prompt(label=..., points=((x, y, z),)).")
    taken = ("points", "negative_points") if model.corrects else ("points",)
    refused = [KINDS[kind] for kind in kinds_of(prompt) if kind not in taken]
    if refused:
        listed = " and ".join(KINDS[kind] for kind in taken)
        raise UserError(f"{where} has {' and '.join(refused)}, but this model takes {listed} only; remove the rest.")
    index_zyx = np.asarray([made.point for made in prompt.clicks], float).reshape(-1, 3)[:, ::-1]
    if check_inside(index_zyx, shape).size:
        size_xyz = tuple(int(length) for length in shape[::-1])
        raise UserError(f"{where} lies outside of the image of {size_xyz} voxels (x, y, z).")
    label = resolve_label(prompt.label, labels, where=where)
    signs = np.array([made.positive for made in prompt.clicks])
    return VoxelPrompt(1 + foreground.index(label), index_zyx, name=f"Click {number}", positive=signs)
