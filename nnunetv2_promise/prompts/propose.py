"""Prompts from an nnU-Net's own masks: it proposes objects, and a promptable model refines them."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, read_json
from nnunetv2_promise.images.folders import find_images, find_volumes, require_cases
from nnunetv2_promise.images.geometry import ImageGeometry, geometry_difference
from nnunetv2_promise.images.labels import read_labels, require_dataset_json
from nnunetv2_promise.images.objects import Object, deepest_voxel, find_objects
from nnunetv2_promise.images.reading import read_geometry, read_label_map
from nnunetv2_promise.prompts.schema import Coordinates, Prompt, PromptFile, foreground_labels, save_prompt_file

_logger = logging.getLogger(__name__)
_PREDICT = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as main; main()"
_READERS = ("SimpleITKIO", "NibabelIO")
"""Readers whose arrays have the file's axes reversed; probabilities of others lie in other voxels than the mask's."""

_EQUALLY_CERTAIN = 1e-3
"""Probabilities are stored with three digits; the deepest of the voxels that differ by no more is clicked."""


@dataclass(frozen=True)
class StockModel:
    """An nnU-Net to run: folder, folds, checkpoint and device as for ``nnUNetv2_predict_from_modelfolder``."""

    folder: Path
    folds: Sequence[str]
    checkpoint: str = "checkpoint_final.pth"
    device: str = "cuda"


def propose_from_model(
    model: StockModel,
    images: Path | str,
    output: Path | str,
    *,
    coordinates: Coordinates = "voxel",
    min_volume_mm3: float = 0.0,
) -> PromptFile:
    """Run an nnU-Net on images and write prompts from what it finds; see ``propose_from_masks``.

    Raises:
        UserError: If the model's folder is not one, or nnU-Net's own command fails.
    """
    output = Path(output)
    dataset_json = model.folder / "dataset.json"
    if not dataset_json.is_file():
        raise UserError(
            f"-m {model.folder} has no dataset.json; name the folder of a trained model (with fold_0 in it)."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial_", dir=output.parent) as masks:
        _predict(model, Path(images), Path(masks))
        return propose_from_masks(
            masks, images, output, dataset_json=dataset_json, coordinates=coordinates, min_volume_mm3=min_volume_mm3
        )


def propose_from_masks(
    masks: Path | str,
    images: Path | str,
    output: Path | str,
    *,
    dataset_json: Path | str | None = None,
    coordinates: Coordinates = "voxel",
    min_volume_mm3: float = 0.0,
) -> PromptFile:
    """Write a prompt for each connected component of label maps: a click, and its mask as ``previous_mask``.

    The click is on the voxel of the component in which the label is most probable, if ``CASE.npz`` of nnU-Net's
    ``--save_probabilities`` is beside the label map. Without it, or where several are, the deepest is clicked.

    Args:
        masks: Folder of label maps, ``CASE.nii.gz``.
        images: Folder of the images.
        output: Prompt file to write; masks of objects go to a folder beside it, ``prompts_masks`` for ``prompts.json``.
        dataset_json: Where the labels are named; by default ``dataset.json`` in or above ``masks``, then ``images``.
        coordinates: Coordinates of the prompt file.
        min_volume_mm3: Smaller components are left out.

    Returns:
        What was written; a case in which nothing was found is listed with no prompt.

    Raises:
        UserError: If a label map is missing or on another grid, or labels are regions of several values.
    """
    output = Path(output)
    image_paths, mask_paths = find_images(images), find_volumes(masks, what="masks")
    require_cases(image_paths, mask_paths, folder=masks, what="mask")
    labels_path = require_dataset_json(masks, images, named=dataset_json)
    declared = read_labels(labels_path)
    if any(isinstance(value, tuple) and len(value) > 1 for value in declared.values()):
        raise UserError(f"{labels_path} has regions of several labels; prompts ask for one label each.")
    names = {value: name for name, value in foreground_labels(declared).items()}
    certain = _reader_is_known(Path(masks))
    target = _Target(output, coordinates, min_volume_mm3)
    cases = {}
    for case in tqdm(image_paths, desc="Proposing", unit="case", disable=None):
        archive = Path(masks) / f"{case}.npz"
        cases[case] = _propose_case(
            case, image_paths[case], mask_paths[case], archive if certain and archive.is_file() else None, names, target
        )
    return save_prompt_file(output, cases, coordinates=coordinates)


@dataclass(frozen=True)
class _Target:
    """What is written; the fields are arguments of ``propose_from_masks``."""

    output: Path
    coordinates: Coordinates
    min_volume_mm3: float

    def mask(self, case: str, number: int) -> Path:
        """An object's mask, relative to the prompt file."""
        return Path(f"{self.output.stem}_masks") / f"{case}_object{number}.nii.gz"


def _propose_case(
    case: str, image: Path, mask: Path, archive: Path | None, names: Mapping[int, str], target: _Target
) -> list[Prompt]:
    geometry = read_geometry(image)
    array, own_geometry = read_label_map(mask)
    difference = geometry_difference(geometry, own_geometry)
    if difference is not None:
        raise UserError(f"{mask} and its image differ in {difference}; predict the image again.")
    probabilities = None if archive is None else _read_probabilities(archive, max(names), array.shape)
    prompts: list[Prompt] = []
    for item in find_objects(array, list(names)):
        if item.size_voxels * geometry.voxel_volume_mm3 < target.min_volume_mm3:
            continue
        certain = item if probabilities is None else _most_certain(item, probabilities)
        voxel_zyx = deepest_voxel(certain, spacing_zyx_mm=geometry.spacing_zyx_mm)
        x, y, z = geometry.index_zyx_to_points([voxel_zyx], target.coordinates)[0].tolist()
        previous = target.mask(case, len(prompts) + 1)
        _write_mask(item.full_mask(array.shape), geometry, target.output.parent / previous)
        prompts.append(Prompt(names[item.label], ((x, y, z),), previous_mask=previous.as_posix()))
    return prompts


def _predict(model: StockModel, images: Path, masks: Path) -> None:
    """Run nnU-Net's own command, wherever its script lies: not beside Python after ``pip install --user``."""
    command = [sys.executable, "-c", _PREDICT, "-i", str(images), "-o", str(masks), "-m", str(model.folder)]
    command += ["-f", *model.folds]
    command += ["-chk", model.checkpoint, "-device", model.device, "--save_probabilities", "--disable_progress_bar"]
    _logger.info("Running %s", " ".join(command))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        reason = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "no message")
        raise UserError(
            f"nnU-Net could not predict with -m {model.folder} ({reason.strip()}); run "
            "nnUNetv2_predict_from_modelfolder itself."
        )


def _reader_is_known(masks: Path) -> bool:
    """Whether probabilities beside the masks lie in the masks' voxels."""
    plans = masks / "plans.json"
    return plans.is_file() and read_json(plans).get("image_reader_writer") in _READERS


def _read_probabilities(archive: Path, highest_label: int, shape_zyx: Sequence[int]) -> NDArray[np.floating]:
    """(C, D, H, W), channel = label value."""
    try:
        with np.load(archive, allow_pickle=False) as content:
            probabilities = content["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{archive} does not hold nnU-Net's probabilities ({error}); predict the case again."
        ) from error
    if probabilities.shape[1:] != tuple(shape_zyx) or len(probabilities) <= highest_label:
        raise UserError(
            f"{archive} holds an array of {probabilities.shape}, which does not fit its mask; predict again."
        )
    return probabilities


def _most_certain(item: Object, probabilities: NDArray[np.floating]) -> Object:
    """The part of a component where its label is most probable."""
    within = probabilities[item.label][item.slices_zyx].astype(np.float32)
    chosen = item.mask & (within >= within[item.mask].max() - _EQUALLY_CERTAIN)
    return Object(label=item.label, start_zyx=item.start_zyx, mask=chosen)


def _write_mask(mask_zyx: NDArray[np.bool_], geometry: ImageGeometry, path: Path) -> None:
    image = sitk.GetImageFromArray(mask_zyx.astype(np.uint8))
    geometry.apply_to(image)
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
