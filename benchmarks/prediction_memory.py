"""Peak memory of predicting one large case with many clicks: a small network with random weights on a generated scan.

    python benchmarks/prediction_memory.py --size 512 512 1000 --clicks 30

Needs the installed package. The command runs in a process of its own; its peak comes from the operating system
(``ru_maxrss``; of nnU-Net's several processes the largest one). The network finds nothing, so that each click costs one
patch; ``--window`` makes windows as large as those that grow where a mask is cut (to 2.25 times the planned edge).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from network import machine
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise.planning.architectures import NETWORK_CLASS, TINY_ARCHITECTURE
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file
from nnunetv2_promise.trainer_search import trainer_search_path
from nnunetv2_promise.trainers import ProMISeTrainer

GIB = 2**30
SPACING_MM = (0.7, 0.7, 0.8)  # x, y, z; the model's is 1 mm
DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "organ": 1, "tumour": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


def main() -> int:
    """Make a scan and a model, predict, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", type=int, nargs=3, default=[512, 512, 1000], metavar=("X", "Y", "Z"), help="voxels")
    add("--clicks", type=int, default=30, help="objects, one click each (default: %(default)s)")
    add("--patch", type=int, default=64, help="edge in voxels (default: %(default)s)")
    add("--window", type=int, default=192, help="edge in voxels (default: %(default)s)")
    add("--command", choices=("own", "stock"), default="own", help="nnUNetv2_promise_predict, or nnU-Net's own")
    add("--normalisation", default="CTNormalization", help="nnU-Net's scheme (default: %(default)s)")
    add("--options", nargs=argparse.REMAINDER, default=[], help="further options of the command")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_scan(Path(folder, "scans"), arguments.size, arguments.clicks)
        write_model(Path(folder, "model"), arguments.patch, arguments.window, arguments.normalisation)
        seconds, gib = predict(Path(folder), arguments.command, arguments.options)
    image_gib = np.prod(arguments.size) * 4 / GIB
    print(machine("cpu"))
    print()
    print("| command | voxels | clicks | seconds | peak GiB | of it the image in float32 |")
    print("| --- | --- | --- | --- | --- | --- |")
    size = " x ".join(map(str, arguments.size))
    name = ", ".join([arguments.command, *arguments.options, arguments.normalisation])
    print(f"| {name} | {size} | {arguments.clicks} | {seconds:.0f} | {gib:.2f} | {image_gib:.2f} |")
    return 0


def write_scan(folder: Path, size_xyz: list[int], clicks: int) -> None:
    """A ramp with coarse texture, and clicks anywhere in it, with a seed."""
    rng = np.random.default_rng(0)
    x, y, z = size_xyz
    scan = np.empty((z, y, x), np.int16)
    texture = rng.integers(-80, 80, (y // 4 + 1, x // 4 + 1)).repeat(4, 0).repeat(4, 1)[:y, :x]
    for number, plane in enumerate(scan):
        plane[:] = texture + number % 50
    image = sitk.GetImageFromArray(scan)
    image.SetSpacing(SPACING_MM)
    folder.mkdir()
    sitk.WriteImage(image, str(folder / "large_0000.nii.gz"), True)
    points = rng.integers(0, size_xyz, (clicks, 3))
    prompts = [Prompt(label=1 + n % 2, points=(tuple(map(float, point)),)) for n, point in enumerate(points)]
    save_prompt_file(folder / "prompts.json", {"large": prompts}, coordinates="voxel")


def write_model(folder: Path, patch: int, window: int, normalisation: str) -> None:
    """A model folder as training writes it."""
    torch.manual_seed(0)
    content = plans(patch, window, normalisation)
    manager = PlansManager(content)
    network = ProMISeTrainer.build_network_architecture(manager, manager.get_configuration("3d_fullres"), 1, 3)
    with torch.no_grad():
        pairs = network.network.mask_decoder.head[3].weight.abs_().unflatten(0, (-1, 2))  # labels, (background, object)
        pairs[:, 1].neg_()
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    checkpoint = {
        "network_weights": network.state_dict(),
        "init_args": {"plans": content, "configuration": "3d_fullres", "fold": 0, "dataset_json": DATASET},
        "trainer_name": "ProMISeTrainer",
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def plans(patch: int, window: int, normalisation: str) -> dict[str, Any]:
    """Plans of a small network, as ``ProMISeTinyPlanner`` writes them."""
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "none",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch] * 3,
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": [normalisation],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": NETWORK_CLASS,
            "arch_kwargs": {**TINY_ARCHITECTURE, "patch_size": [patch] * 3, "labels": 2},
            "_kw_requires_import": [],
        },
        "promise": {"window_size": [window] * 3, "target": "object", "sam_checkpoint": None},
    }
    return {
        "dataset_name": "Dataset001_Large",
        "plans_name": "ProMISeTinyPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 0.0, "std": 50.0, "percentile_00_5": -100.0, "percentile_99_5": 150.0}
        },
        "configurations": {"3d_fullres": configuration},
    }


def predict(folder: Path, command: str, options: list[str]) -> tuple[float, float]:
    """Wall time in seconds and peak memory in GiB of the command."""
    program = {"own": "nnUNetv2_promise_predict", "stock": "nnUNetv2_predict_from_modelfolder"}[command]
    few = {"own": ["-np", "1"], "stock": ["-npp", "1", "-nps", "1"]}[command]
    began = time.monotonic()
    subprocess.run(
        [
            str(Path(sys.executable).with_name(program)), "-i", str(folder / "scans"), "-o", str(folder / "masks"),
            "-m", str(folder / "model"), "-f", "0", "-device", "cpu", *few, *options,
        ],
        env={**os.environ, "nnUNet_extTrainer": trainer_search_path()},
        check=True,
    )  # fmt: skip
    return time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GIB


if __name__ == "__main__":
    sys.exit(main())
