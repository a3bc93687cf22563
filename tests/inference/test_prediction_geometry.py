"""Prompts to masks through nnU-Net's own predictor, with a network whose answer is known: a ball around the clicks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.case_prompts import prompts_of_image
from nnunetv2_promise.inference.case_segmentation import segment_case
from nnunetv2_promise.inference.configuration import follow_prompts
from nnunetv2_promise.inference.preprocessor import PromptPreprocessor
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.prompts.schema import PROMPTS_VARIABLE, Prompt, save_prompt_file

RADIUS_MM = 9.0
PATCH = (24, 28, 32)
SPACING_ZYX_MM = (1.5, 1.25, 1.0)
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "tumour": 1, "cyst": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


class BallNetwork(torch.nn.Module):
    """Foreground within RADIUS_MM of any click, at the plans' spacing."""

    def forward(self, image: torch.Tensor, points: torch.Tensor, **prompt: torch.Tensor) -> torch.Tensor:
        axes = [torch.arange(n) * mm for n, mm in zip(image.shape[2:], SPACING_ZYX_MM, strict=True)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        clicks = points[0] * torch.tensor(SPACING_ZYX_MM)
        distance = (grid[..., None, :] - clicks).norm(dim=-1).amin(-1)
        foreground = (RADIUS_MM - distance)[None, None]
        return torch.cat([torch.zeros_like(foreground), foreground], 1)


def plans(transpose: list[int], normalisation: str = "CTNormalization") -> dict[str, Any]:
    """Plans as a planner writes them, for data that is transposed or not."""
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": False}
    spacing = list(SPACING_ZYX_MM)
    return {
        "dataset_name": "Dataset999_Ball",
        "plans_name": "ProMISePlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": transpose,
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 0.0, "std": 100.0, "percentile_00_5": -900.0, "percentile_99_5": 900.0}
        },
        "configurations": {
            "3d_fullres": {
                "data_identifier": "x",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 1,
                "patch_size": list(PATCH),
                "spacing": spacing,
                "normalization_schemes": [normalisation],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {**resampling, "order": 3},
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": resampling,
                "architecture": {"network_class_name": "x", "arch_kwargs": {}, "_kw_requires_import": []},
            }
        },
    }


def predictor(transpose: list[int]) -> nnUNetPredictor:
    """nnU-Net's predictor, set up as it sets itself up from a model folder."""
    manager = PlansManager(plans(transpose))
    configuration = manager.get_configuration("3d_fullres")
    follow_prompts(manager, configuration)
    made = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    network = PromptedNetwork(BallNetwork(), patch_size=PATCH, heads=3)
    made.manual_initialization(network, manager, configuration, [{}], DATASET, "ProMISeTrainer", None)
    return made


def oblique_image(
    size_xyz: tuple[int, int, int], spacing_xyz_mm: tuple[float, ...], *, left_handed: bool
) -> sitk.Image:
    """Noise on a rotated grid."""
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(0, 300, size_xyz[::-1]).astype(np.int16))
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.4, -0.3, 0.7)
    direction = np.array(rotation.GetMatrix()).reshape(3, 3)
    if left_handed:
        direction[:, 0] *= -1
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(spacing_xyz_mm)
    image.SetOrigin((-100.0, 55.0, 730.0))
    return image


def write_case(
    folder: Path, image: sitk.Image, clicks: list[tuple[str, list[tuple[float, float, float]]]], where: str
) -> None:
    """An image folder with one case and prompts at the given voxels, declared in the given coordinates."""
    folder.mkdir(parents=True)
    sitk.WriteImage(image, str(folder / "case_0000.nii.gz"))
    prompts = []
    for label, voxels in clicks:
        points = []
        for voxel in voxels:
            lps = image.TransformContinuousIndexToPhysicalPoint(voxel)
            points.append({"voxel": voxel, "LPS": lps, "RAS": (-lps[0], -lps[1], lps[2])}[where])
        prompts.append(Prompt(label=label, points=tuple(points)))
    save_prompt_file(folder / "prompts.json", {"case": prompts}, coordinates=where)


def distance_mm(image: sitk.Image, voxels: list[tuple[float, float, float]]) -> np.ndarray:
    """(z, y, x) distance of each voxel from the nearest of the given voxels, through world coordinates."""
    index = np.indices(image.GetSize()[::-1])[::-1].reshape(3, -1)
    matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    world = matrix @ index
    distances = [np.linalg.norm(world - (matrix @ np.array(voxel))[:, None], axis=0) for voxel in voxels]
    return np.min(distances, axis=0).reshape(image.GetSize()[::-1])


def run(made: nnUNetPredictor, folder: Path, output: Path, step: float = 0.5) -> sitk.Image:
    made.tile_step_size = step
    made.predict_from_files(
        str(folder), str(output), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )
    return sitk.ReadImage(str(output / "case.nii.gz"))


GRIDS = [
    pytest.param((60, 47, 21), (0.8, 1.1, 2.7), [0, 1, 2], False, id="anisotropic"),
    pytest.param((39, 52, 66), (1.9, 0.7, 1.0), [1, 0, 2], True, id="transposed-left-handed"),
    pytest.param((25, 70, 33), (2.0, 1.0, 1.4), [2, 0, 1], False, id="transposed-cyclic"),
]


@pytest.mark.parametrize(("size", "spacing", "transpose", "left_handed"), GRIDS)
def test_ball_lies_around_the_click_in_world_coordinates(
    tmp_path: Path, size: tuple[int, int, int], spacing: tuple[float, ...], transpose: list[int], left_handed: bool
) -> None:
    image = oblique_image(size, spacing, left_handed=left_handed)
    voxel = (size[0] * 0.62, size[1] * 0.37, size[2] * 0.55)
    manager = PlansManager(plans(transpose))
    cut = []
    for where in ("voxel", "LPS", "RAS"):
        write_case(tmp_path / where, image, [("tumour", [voxel])], where)
        file = [str(tmp_path / where / "case_0000.nii.gz")]
        configuration = manager.get_configuration("3d_fullres")
        cut.append(PromptPreprocessor(verbose=False).run_case(file, None, manager, configuration, DATASET))
    for window, _, properties in cut[1:]:  # the same window, so the same mask
        assert np.array_equal(window, cut[0][0])
        layout, first = (p["shape_after_cropping_and_before_resampling"] for p in (properties, cut[0][2]))
        assert (layout.region, layout.windows) == (first.region, first.windows)
    mask = run(predictor(transpose), tmp_path / "RAS", tmp_path / "out")
    assert mask.GetSize() == image.GetSize()
    assert mask.GetSpacing() == pytest.approx(image.GetSpacing())
    assert mask.GetOrigin() == pytest.approx(image.GetOrigin())
    assert mask.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-6)
    array = sitk.GetArrayFromImage(mask)
    distance = distance_mm(image, [voxel])
    # The click snaps to a voxel of the network's grid: at most half a voxel diagonal, about 1.1 mm.
    assert array[distance < RADIUS_MM - 1.8].all()
    assert not array[distance > RADIUS_MM + 1.8].any()
    assert (array > 0).sum() * np.prod(spacing) == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.1)


@pytest.mark.parametrize("step", [0.5, 1.0, 0.25])
def test_several_objects_far_apart_and_at_the_border(tmp_path: Path, step: float) -> None:
    image = oblique_image((90, 50, 40), (1.3, 1.0, 1.8), left_handed=False)
    clicks = [
        ("tumour", [(12.0, 9.0, 5.0)]),
        ("cyst", [(80.0, 40.0, 33.0), (76.0, 38.0, 30.0)]),
        ("tumour", [(0, 49, 0)]),
    ]
    write_case(tmp_path / "in", image, clicks, "LPS")
    mask = sitk.GetArrayFromImage(run(predictor([0, 1, 2]), tmp_path / "in", tmp_path / "out", step))
    for value, voxels in ((1, [clicks[0][1][0], clicks[2][1][0]]), (2, clicks[1][1])):
        distance = distance_mm(image, voxels)
        assert (mask[distance < RADIUS_MM - 1.8] == value).all()
        assert not (mask[distance > RADIUS_MM + 1.8] == value).any()


def test_step_size_that_misses_windows_is_refused(tmp_path: Path) -> None:
    image = oblique_image((60, 40, 40), (1.0, 1.0, 1.0), left_handed=False)
    write_case(tmp_path / "in", image, [("tumour", [(x, 20.0, 20.0)]) for x in (10.0, 30.0, 50.0)], "voxel")
    with pytest.raises(UserError, match="step_size"):
        run(predictor([0, 1, 2]), tmp_path / "in", tmp_path / "out", 0.3)


def test_no_objects_give_an_empty_mask_and_a_missing_case_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = oblique_image((30, 31, 32), (1.0, 1.0, 1.0), left_handed=False)
    write_case(tmp_path / "in", image, [], "voxel")
    assert not sitk.GetArrayFromImage(run(predictor([0, 1, 2]), tmp_path / "in", tmp_path / "out")).any()
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"version": 1, "coordinates": "voxel", "cases": {"somebody": []}}))
    (tmp_path / "in" / "prompts.json").unlink()
    monkeypatch.setenv(PROMPTS_VARIABLE, str(other))
    manager = PlansManager(plans([0, 1, 2]))
    with pytest.raises(UserError, match="does not list case 'case'"):
        PromptPreprocessor(verbose=False).run_case(
            [str(tmp_path / "in" / "case_0000.nii.gz")], None, manager, manager.get_configuration("3d_fullres"), DATASET
        )


@pytest.mark.parametrize("scheme", ["CTNormalization", "ZScoreNormalization", "RescaleTo01Normalization"])
def test_window_equals_the_same_place_of_the_whole_preprocessed_scan(tmp_path: Path, scheme: str) -> None:
    """Cropping first changes nothing: the window is what nnU-Net's preprocessing of the whole scan has there."""
    image = oblique_image((64, 56, 48), (1.0, 1.25, 1.5), left_handed=False)
    array = sitk.GetArrayFromImage(image)
    array[:5], array[:, -6:] = 0, 0  # a border that nnU-Net crops
    bordered = sitk.GetImageFromArray(array)
    bordered.CopyInformation(image)
    write_case(tmp_path / "in", bordered, [("tumour", [(50.0, 45.0, 8.0)])], "voxel")
    manager = PlansManager(plans([0, 1, 2], scheme))
    configuration = manager.get_configuration("3d_fullres")
    file = [str(tmp_path / "in" / "case_0000.nii.gz")]
    window, _, _ = PromptPreprocessor(verbose=False).run_case(file, None, manager, configuration, DATASET)
    whole, _, _ = configuration.preprocessor_class(verbose=False).run_case(file, None, manager, configuration, DATASET)
    expected = np.zeros(PATCH, np.float32)
    start = (8 - 5 - PATCH[0] // 2, 45 - PATCH[1] // 2, 50 - PATCH[2] // 2)
    source = tuple(
        slice(max(s, 0), min(s + n, limit)) for s, n, limit in zip(start, PATCH, whole.shape[1:], strict=True)
    )
    target = tuple(slice(a.start - s, a.stop - s) for a, s in zip(source, start, strict=True))
    expected[target] = whole[(0, *source)]
    np.testing.assert_allclose(window[0], expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_nan_image_is_one_sentence(tmp_path: Path) -> None:
    image = sitk.Cast(oblique_image((20, 20, 20), (1.0, 1.0, 1.0), left_handed=False), sitk.sitkFloat32)
    image[3, 4, 5] = float("nan")
    write_case(tmp_path / "in", image, [("tumour", [(5.0, 5.0, 5.0)])], "voxel")
    manager = PlansManager(plans([0, 1, 2]))
    with pytest.raises(UserError, match=r"case_0000.nii.gz has NaN"):
        PromptPreprocessor(verbose=False).run_case(
            [str(tmp_path / "in" / "case_0000.nii.gz")], None, manager, manager.get_configuration("3d_fullres"), DATASET
        )


def test_nnunets_functions_for_arrays_name_the_right_call() -> None:
    made = predictor([0, 1, 2])
    with pytest.raises(UserError, match=r"nnunetv2_promise\.segment"):
        made.predict_single_npy_array(np.zeros((1, *PATCH), np.float32), {"spacing": list(SPACING_ZYX_MM)})


class CorrectingBalls(BallNetwork):
    """A ball around each positive click is added to the mask so far, one around each negative click taken away."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.corrections = object()

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def decode_and_rate(
        self, image: torch.Tensor, coords: torch.Tensor, *, point_labels: torch.Tensor, **prompt: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logit = prompt.get("previous_logits", torch.full((1, 1, *image.shape[2:]), -30.0))[0, 0]
        for coord, positive in zip(coords[0], point_labels[0], strict=True):
            near = self(image, coord[None, None])[0, 1]
            logit = torch.maximum(logit, near) if positive else torch.minimum(logit, -near)
        return torch.stack([torch.zeros_like(logit), logit])[None], torch.ones(1)


@pytest.mark.parametrize("mirror_axes", [None, (0, 1, 2)])
def test_stock_prediction_corrects_as_ours_does(tmp_path: Path, mirror_axes: tuple[int, ...] | None) -> None:
    """Clicks of both signs, a scribble, and a previous mask; beside an object with one click."""
    image = oblique_image((58, 50, 44), (1.3, 1.0, 1.8), left_handed=False)
    before = np.zeros(image.GetSize()[::-1], np.uint8)
    before[12:20, 30:40, 38:46] = 1
    mask = sitk.GetImageFromArray(before)
    mask.CopyInformation(image)
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, str(tmp_path / "in" / "case_0000.nii.gz"))
    sitk.WriteImage(mask, str(tmp_path / "before.nii.gz"))
    prompts = [
        Prompt("tumour", ((12, 12, 12), (16, 16, 14)), negative_points=((15, 12, 12),), order="+-+"),
        Prompt("cyst", scribbles=(((38, 10, 30), (43, 12, 30)),), negative_points=((46, 12, 31),)),
        Prompt("tumour", negative_points=((40, 36, 15),), previous_mask="../before.nii.gz"),
        Prompt("tumour", ((15, 40, 35),)),
    ]
    save_prompt_file(tmp_path / "in" / "prompts.json", {"case": prompts}, coordinates="voxel")
    kinds = ("points", "negative_points", "scribbles", "previous_mask")
    manager = PlansManager(plans([2, 0, 1]))
    configuration = manager.get_configuration("3d_fullres")
    network = PromptedNetwork(CorrectingBalls(), patch_size=PATCH, heads=3, one_component=True)
    own = PromptedModel(network, [], manager, configuration, DATASET, mirror_axes or ())
    files = [tmp_path / "in" / "case_0000.nii.gz"]
    located = prompts_of_image(files, DATASET, manager, configuration, kinds)
    array = sitk.GetArrayFromImage(image)[None].astype(np.float32)
    expected = segment_case(own, array, {"spacing": image.GetSpacing()[::-1]}, located).labels
    follow_prompts(manager, configuration, kinds)
    stock = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=mirror_axes is not None)
    stock.manual_initialization(own.network, manager, configuration, [{}], DATASET, "x", mirror_axes)
    stock.list_of_parameters = [own.network.state_dict()]
    found = sitk.GetArrayFromImage(run(stock, tmp_path / "in", tmp_path / "out"))
    assert set(np.unique(expected)) == {0, 1, 2}
    assert expected[before > 0].any()
    assert (found != expected).mean() < 1e-3  # sums in float16: only logits next to zero may flip


def test_stock_prediction_names_our_command_where_corrections_need_more_than_a_window(tmp_path: Path) -> None:
    image = oblique_image((90, 50, 40), (1.3, 1.0, 1.8), left_handed=False)
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, str(tmp_path / "in" / "case_0000.nii.gz"))
    far = [Prompt("tumour", ((10, 12, 12), (70, 16, 14)))]
    save_prompt_file(tmp_path / "in" / "prompts.json", {"case": far}, coordinates="voxel")
    manager = PlansManager(plans([0, 1, 2]))
    configuration = manager.get_configuration("3d_fullres")
    follow_prompts(manager, configuration, ("points", "negative_points"))
    with pytest.raises(UserError, match=r"Case 'case', object 1 .* use nnUNetv2_promise_predict"):
        PromptPreprocessor(verbose=False).run_case(
            [str(tmp_path / "in" / "case_0000.nii.gz")], None, manager, configuration, DATASET
        )
