"""Dice at 0 to 5 corrective clicks on the validation cases, answered as nnInteractive's engine answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from numpy.typing import NDArray
from torch import Tensor, distributed

from nnunetv2_promise.files import write_json
from nnunetv2_promise.images.objects import find_objects
from nnunetv2_promise.inference.placement import overlap, place_window
from nnunetv2_promise.network_architectures.interactive.channels import PREVIOUS_MASK, click, empty_channels
from nnunetv2_promise.planning.unet_settings import engine_placement
from nnunetv2_promise.prompts.corrections import next_click
from nnunetv2_promise.training.case_shares import in_step, share_of_process
from nnunetv2_promise.training.clicked_patches import touching

CLICKS = 5
FILE_NAME = "clicks.json"


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks (D, H, W), of which the truth is not empty."""
    return float(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))


def correct_object(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    *,
    patch_size: Sequence[int],
    spacing_zyx_mm: Sequence[float],
    inside: bool = False,
) -> list[float]:
    """Click where the field's protocol would click next, ``CLICKS`` times.

    As in nnInteractive's engine, the patch lies around the newest click and the answer replaces the mask there; nothing
    is zoomed.

    Args:
        network: From (1, C + 7, D, H, W), image and interactions, to (1, 2, D, H, W) logits.
        image: (C, D, H, W) float32 on the network's device.
        truth: (D, H, W), the object.
        mask: (D, H, W), the mask to correct; empty if there is none.
        patch_size: Of the network.
        spacing_zyx_mm: Of the image.
        inside: Whether the patch is moved inside the scan, or else centred on the click.

    Returns:
        Dice before the first click and after each; the last one is repeated once nothing is wrong any more.
    """
    channels = empty_channels(1, truth.shape)[0]
    channels[PREVIOUS_MASK] = torch.from_numpy(mask)
    scores = [dice(mask, truth)]
    while len(scores) <= CLICKS:
        found = next_click(truth, mask, spacing_zyx_mm)
        if found is None:
            return scores + scores[-1:] * (CLICKS + 1 - len(scores))
        point, positive = found
        click(channels, point, positive=positive)
        start = place_window(np.array([point]), patch_size, truth.shape if inside else None)
        box = [[low, low + length] for low, length in zip(start, patch_size, strict=True)]
        patch = torch.cat([crop_and_pad_nd(image, box, 0), crop_and_pad_nd(channels, box, 0).to(image)])
        answer = network(patch[None])[0].argmax(0).cpu()
        in_patch, in_scan = overlap(start, patch_size, truth.shape)
        channels[PREVIOUS_MASK][in_scan] = answer[in_patch].float()
        mask = channels[PREVIOUS_MASK].numpy() > 0
        scores.append(dice(mask, truth))
    return scores


@torch.inference_mode()
def validate_clicks(trainer: nnUNetTrainer, network: Callable[[Tensor], Tensor], *, automatic: bool) -> None:
    """Correct each object of each validation case, and write ``validation/clicks.json`` and a line of the log.

    Args:
        trainer: Holds data, plans and folders.
        network: See ``correct_object``.
        automatic: Whether the trainer's network segments without a click; what nnU-Net's validation has written is
            then corrected, else there is nothing before the first click.
    """
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    _, keys = trainer.do_split()
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, share_of_process(trainer, keys))
    rows: list[dict[str, Any]] = []
    for key in in_step(trainer, keys):
        data, segmentation, _, properties = dataset.load_case(key)
        image = torch.from_numpy(np.asarray(data[:], dtype=np.float32)).to(trainer.device)
        labels = np.asarray(segmentation[:])[0]
        start = automatic_labels(trainer, key, properties) if automatic else np.zeros_like(labels)
        for item in find_objects(labels, trainer.label_manager.foreground_labels):
            truth = item.full_mask(labels.shape)
            whole, one = torch.from_numpy(start == item.label), torch.from_numpy(truth)
            scores = correct_object(
                network,
                image,
                truth,
                touching(whole[None, None], one[None, None])[0, 0].numpy(),
                patch_size=trainer.configuration_manager.patch_size,
                spacing_zyx_mm=properties["spacing"],
                inside=engine_placement(trainer.configuration_manager.configuration) == "inside",
            )
            rows.append({"case": key, "label": int(item.label), "voxels": item.size_voxels, "dice": scores})
    _write(trainer, rows)


def automatic_labels(trainer: nnUNetTrainer, key: str, properties: dict[str, Any]) -> NDArray[np.int64]:
    """The label map that nnU-Net's validation wrote for a case, (D, H, W) as preprocessed.

    Args:
        trainer: Its plans keep voxels as they are.
        key: The case.
        properties: What nnU-Net's preprocessor noted of it.
    """
    file = Path(trainer.output_folder, "validation", key + trainer.dataset_json["file_ending"])
    labels = trainer.plans_manager.image_reader_writer_class().read_seg(str(file))[0][0]
    box = tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])
    return labels.transpose(trainer.plans_manager.transpose_forward)[box].astype(np.int64)


def _write(trainer: nnUNetTrainer, rows: list[dict[str, Any]]) -> None:
    if trainer.is_ddp:
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, rows)
        rows = [row for part in gathered for row in part]
    if trainer.local_rank != 0 or not rows:
        return
    mean = np.mean([row["dice"] for row in rows], axis=0).tolist()
    write_json({"mean_dice": mean, "objects": rows}, Path(trainer.output_folder, "validation", FILE_NAME))
    listed = ", ".join(f"{value:.4f}" for value in mean)
    trainer.print_to_log_file(f"Mean Dice at 0 to {CLICKS} corrective clicks: {listed}")
