"""The prompts of one case, in voxels of its image."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.geometry import ImageGeometry, check_spacing
from nnunetv2_promise.images.reading import read_channels_geometry
from nnunetv2_promise.inference.interactions import order_clicks
from nnunetv2_promise.prompts.kinds import require_kinds
from nnunetv2_promise.prompts.locate import locate_case, read_previous_mask
from nnunetv2_promise.prompts.schema import PromptFile, load_prompt_file, prompt_file_for

# Readers whose array axes are the file's axes reversed; others reorient, and voxel clicks would land elsewhere.
SUPPORTED_READERS = ("SimpleITKIO", "NibabelIO")

# Headers hold floats of 32 bits: the same click in voxels and in mm differs in the sixth digit. Rounding makes them
# equal, so that a click between two voxels snaps to the same one.
CLICK_DECIMALS = 3


@dataclass(frozen=True, eq=False)
class VoxelPrompt:
    """The clicks of one object, in the order in which they were made.

    Attributes:
        label_head: Output channel of the object's label.
        points_zyx: (n, 3) float, continuous array indices.
        name: What messages call the object.
        positive: (n,) bool, whether each click is on the object; None if all are.
        at_once: How many clicks each interaction makes, as a scribble makes several; None if each makes one.
        previous_mask: (z, y, x) mask to correct, or its file; None if there is none.
    """

    label_head: int
    points_zyx: np.ndarray
    name: str = ""
    positive: np.ndarray | None = None
    at_once: tuple[int, ...] | None = None
    previous_mask: Path | np.ndarray | None = None

    @property
    def signs(self) -> np.ndarray:
        """(n,) bool, whether each click is on the object."""
        return np.ones(len(self.points_zyx), bool) if self.positive is None else self.positive

    @property
    def counts(self) -> tuple[int, ...]:
        """How many clicks each interaction makes."""
        return (1,) * len(self.points_zyx) if self.at_once is None else self.at_once

    @property
    def corrects(self) -> bool:
        """Whether there is more to answer than one positive click."""
        return len(self.points_zyx) > 1 or not self.signs.all() or self.previous_mask is not None

    def read_previous_mask(self) -> np.ndarray | None:
        """(z, y, x) bool, the mask to correct; None if there is none.

        Raises:
            UserError: If its file cannot be read.
        """
        if isinstance(self.previous_mask, Path):
            return read_previous_mask(self.previous_mask)
        return self.previous_mask


def case_identifier(image_file: Path, file_ending: str) -> str:
    """nnU-Net's name of a case: the file name without channel number and ending."""
    return image_file.name[: -len(file_ending) - len("_0000")]


def prompts_of_image(
    image_files: Sequence[Path],
    dataset_json: Mapping[str, Any],
    plans: PlansManager,
    configuration: ConfigurationManager,
    kinds: Collection[str],
) -> list[VoxelPrompt]:
    """Read the prompts of a case from the prompt file that belongs to its folder.

    Args:
        image_files: One file for each channel.
        dataset_json: Content of ``dataset.json``.
        plans: nnU-Net's plans.
        configuration: The configuration.
        kinds: The kinds of prompts that the model takes; keys of ``prompts.kinds.KINDS``.

    Raises:
        UserError: If the file, the case, a label, a click or the image's grid is wrong; the sentence names it.
    """
    path = prompt_file_for(image_files[0].parent)
    state = path.stat()
    prompt_file = _parsed(path.resolve(), state.st_mtime_ns, state.st_size)
    require_kinds(prompt_file, kinds, model="this model")
    case = case_identifier(image_files[0], dataset_json["file_ending"])
    return voxel_prompts(prompt_file, case, grid_of_case(image_files, plans, configuration), dataset_json, plans)


def grid_of_case(
    image_files: Sequence[Path], plans: PlansManager, configuration: ConfigurationManager
) -> ImageGeometry:
    """The grid that the channels of a case share, from their headers.

    Raises:
        UserError: If a channel is on another grid than the first, or the spacing is absurd for this model.
    """
    geometry = read_channels_geometry(image_files)
    trained_mm = [configuration.spacing[axis] for axis in plans.transpose_backward]
    check_spacing(geometry, trained_mm, name=str(image_files[0]), usual="the model was trained at")
    return geometry


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, time_ns: int, size: int) -> PromptFile:
    """The file, parsed once for all of its cases; parsed again where time or size changed."""
    return load_prompt_file(path)


def voxel_prompts(
    prompt_file: PromptFile, case: str, geometry: ImageGeometry, dataset_json: Mapping[str, Any], plans: PlansManager
) -> list[VoxelPrompt]:
    """Convert the prompts of a case to voxels of its image.

    Raises:
        UserError: If the case is not listed, a label is unknown, a click lies outside of the image, a first click is
            negative though there is no mask, or the image reader reorients.
    """
    reader = plans.plans["image_reader_writer"]
    if reader not in SUPPORTED_READERS:
        raise UserError(
            f"The plans read images with {reader}, which changes the order of voxels; "
            f"plan the dataset with one of {', '.join(SUPPORTED_READERS)}."
        )
    foreground = plans.get_label_manager(dict(dataset_json)).foreground_labels
    located = locate_case(prompt_file, case, geometry, labels=dataset_json["labels"])
    names = {value: name for name, value in dataset_json["labels"].items() if not isinstance(value, list)}
    prompts = []
    for number, prompt in enumerate(located, start=1):
        clicks = order_clicks(prompt.scribbles_zyx, *prompt.clicks_zyx())
        if prompt.previous_mask is None and not clicks.positive[:1].all():
            raise UserError(
                f"Prompt file {prompt_file.path}, case {case!r}, object {number}: the first click is negative and "
                "there is no mask to correct; click on the object first, or give a previous_mask."
            )
        prompts.append(
            VoxelPrompt(
                label_head=1 + foreground.index(prompt.label),
                points_zyx=np.round(clicks.points_zyx, CLICK_DECIMALS),
                name=f"Case {case!r}, object {number} ({names.get(prompt.label, prompt.label)})",
                positive=clicks.positive,
                at_once=clicks.at_once,
                previous_mask=prompt.previous_mask,
            )
        )
    return prompts
