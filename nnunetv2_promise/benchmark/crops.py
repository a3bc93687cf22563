"""Networks that take no clicks, run on the crop around each click: what nnU-Net makes of being told where to look.

``python -m nnunetv2_promise.benchmark.crops FOLD IMAGES PROMPTS OUTPUT DEVICE [--disable_tta] [--resume]`` does it for
a fold's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_promise.benchmark.measure import end_with_parent
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path
from nnunetv2_promise.images.folders import find_cases
from nnunetv2_promise.images.geometry import nearest_voxel
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry
from nnunetv2_promise.inference.image_grids import PreprocessedGrid
from nnunetv2_promise.inference.placement import overlap, place_window
from nnunetv2_promise.prompts.locate import locate_case
from nnunetv2_promise.prompts.schema import load_prompt_file

BACKGROUND = 100.0
"""Logit of the background where no crop looked."""


def predict_crops(
    fold: Path, images: Path, prompts: Path, output: Path, *, device: str, use_mirroring: bool, resume: bool
) -> None:
    """Write a label map of each case, predicted in the patches around its clicks and background elsewhere.

    The image is preprocessed as a whole, as nnU-Net does; then one patch centred on each click is predicted.
    Where patches overlap their logits are averaged.

    Args:
        fold: Folder of a fold with ``checkpoint_final.pth``, in its model folder.
        images: Folder of images.
        prompts: Prompt file.
        output: Folder to write to.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        use_mirroring: Whether mirror images vote, as usual.
        resume: Whether masks that are there stay.

    Raises:
        UserError: If a prompt does not fit its image, or a mask could not be written.
    """
    predictor = nnUNetPredictor(
        use_mirroring=use_mirroring,
        perform_everything_on_device=device == "cuda",
        device=torch.device(device),
        allow_tqdm=False,
    )
    number = fold.name.removeprefix("fold_")
    predictor.initialize_from_trained_model_folder(str(fold.parent), (number,), "checkpoint_final.pth")
    prompt_file, dataset_json = load_prompt_file(prompts), predictor.dataset_json
    reader_writer = predictor.plans_manager.image_reader_writer_class()
    for case, files in tqdm(find_cases(images, dataset_json).items(), desc="Predicting crops", unit="case"):
        target = output / f"{case}{dataset_json['file_ending']}"
        if resume and target.is_file():
            continue
        located = locate_case(prompt_file, case, read_geometry(files[0]), labels=dataset_json["labels"])
        points = np.concatenate([np.empty((0, 3)), *(prompt.index_zyx for prompt in located)])
        segmentation, properties = _predict_case(predictor, files, points)
        with atomic_path(target) as temporary:
            reader_writer.write_seg(segmentation, str(temporary), properties)
            check_stored_voxels(temporary)  # ITK says nothing when a full disk cuts a mask off


def _predict_case(
    predictor: nnUNetPredictor, files: Sequence[Path], points_zyx: NDArray[np.float64]
) -> tuple[NDArray[np.integer], dict]:
    """The label map of a case on its image's grid, and nnU-Net's properties of the image."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case(
        [str(file) for file in files], None, plans, configuration, predictor.dataset_json
    )
    shape = data.shape[1:]
    grid = PreprocessedGrid(properties, shape, plans.transpose_forward, plans.transpose_backward)
    whole = [properties["shape_before_cropping"][axis] for axis in plans.transpose_backward]
    voxels = nearest_voxel(points_zyx, whole)
    inside = [grid.to_preprocessed(voxel[None])[0] for voxel in voxels if grid.holds(voxel[None])]
    logits = crop_logits(predictor, data, inside)
    segmentation = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, predictor.label_manager, properties
    )
    return np.asarray(segmentation), properties


def crop_logits(
    predictor: nnUNetPredictor, data: NDArray[np.float32], voxels: Sequence[NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Logits of a preprocessed case, from one patch around each voxel.

    Args:
        predictor: With a model.
        data: (C, D, H, W), preprocessed.
        voxels: (3,) each.

    Returns:
        (heads, D, H, W) float32; certain background where no patch looked.
    """
    size = tuple(predictor.configuration_manager.patch_size)
    heads, shape = predictor.label_manager.num_segmentation_heads, data.shape[1:]
    logits = np.zeros((heads, *shape), np.float32)
    seen = np.zeros(shape, np.uint16)
    for voxel in voxels:
        start = place_window(voxel[None].astype(float), size)
        box = [[low, low + length] for low, length in zip(start, size, strict=True)]
        patch = torch.from_numpy(crop_and_pad_nd(data, box, 0)).float()
        answer = predictor.predict_logits_from_preprocessed_data(patch).float().numpy()
        in_patch, in_case = overlap(start, size, shape)
        logits[(slice(None), *in_case)] += answer[(slice(None), *in_patch)]
        seen[in_case] += 1
    logits /= np.maximum(seen, 1)
    logits[:, seen == 0] = -BACKGROUND
    if not predictor.label_manager.has_regions:
        logits[0, seen == 0] = BACKGROUND
    return logits


def main(arguments: Sequence[str]) -> None:
    """Call ``predict_crops`` with the arguments of a command line."""
    fold, images, prompts, output = map(Path, arguments[:4])
    use_mirroring, resume = "--disable_tta" not in arguments[5:], "--resume" in arguments[5:]
    predict_crops(fold, images, prompts, output, device=arguments[4], use_mirroring=use_mirroring, resume=resume)


if __name__ == "__main__":
    end_with_parent()
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"Error: {error}")
