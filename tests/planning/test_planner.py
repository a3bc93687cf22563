"""Plans follow objects, images and the memory target, and stock nnU-Net reads them."""

from __future__ import annotations

import json
import pydoc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.network_architectures import ProMISe
from nnunetv2_promise.planning.architectures import TINY_ARCHITECTURE
from nnunetv2_promise.planning.interactive_planners import ProMISeInteractivePlanner, ProMISeInteractiveTinyPlanner
from nnunetv2_promise.planning.object_sizes import summarize_objects
from nnunetv2_promise.planning.planner import ProMISePlanner
from nnunetv2_promise.planning.sizes import (
    ObjectSizes,
    isotropic_spacing_mm,
    patch_that_holds,
    round_up,
    spacing_for_half_patch_mm,
    window_size,
)
from nnunetv2_promise.planning.tiny_planner import ProMISeTinyPlanner

MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeDataset:
    """Write a dataset.json and a fingerprint as if they came from images of these sizes."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))

    def make(
        *,
        channels: Sequence[str] = ("MRI",),
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        shape: Sequence[int] = (200, 200, 200),
        extents_mm: Sequence[Sequence[float]] = ((20.0, 30.0, 40.0),),
        labels: Mapping[str, Any] | None = None,
    ) -> Path:
        raw = tmp_path / "nnUNet_raw" / "Dataset010_Toy"
        preprocessed = tmp_path / "nnUNet_preprocessed" / "Dataset010_Toy"
        raw.mkdir(parents=True, exist_ok=True)
        preprocessed.mkdir(parents=True, exist_ok=True)
        import SimpleITK as sitk  # noqa: N813

        sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), str(raw / "a.nii.gz"))
        content = {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": labels or {"background": 0, "tumour": 1},
            "numTraining": 2,
            "file_ending": ".nii.gz",
            "dataset": {case: {"images": ["a.nii.gz"] * len(channels), "label": "a.nii.gz"} for case in "ab"},
        }
        (raw / "dataset.json").write_text(json.dumps(content))
        measured = {
            case: {
                "tumour": {
                    "voxels": [int(np.prod(np.divide(extent, spacing_mm))) for extent in extents_mm],
                    "volume_mm3": [float(np.prod(extent)) for extent in extents_mm],
                    "extent_mm": [list(extent) for extent in extents_mm],
                }
            }
            for case in "ab"
        }
        intensity = {key: 1.0 for key in ("mean", "median", "std", "min", "max", "percentile_99_5", "percentile_00_5")}
        fingerprint = {
            "spacings": [list(spacing_mm)] * 2,
            "shapes_after_crop": [list(shape)] * 2,
            "foreground_intensity_properties_per_channel": {str(i): intensity for i in range(len(channels))},
            "median_relative_size_after_cropping": 1.0,
            "objects": {"labels": summarize_objects(measured, {"tumour": (1,)})},
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        return preprocessed

    return make


def planned(planner: type[ProMISePlanner], **options: Any) -> dict[str, Any]:
    return planner(10, **options).plan_experiment()["configurations"]["3d_fullres"]


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), [(1, 8), (8, 8), (8.0000001, 8), (8.1, 16), (127.5, 128)])
def test_round_up_to_multiples_of_8(value: float, expected: int) -> None:
    assert round_up(value) == expected


@pytest.mark.parametrize(
    ("spacings", "small_mm", "expected", "words"),
    [
        ([[1, 1, 1]], 100, 1.0, "keeps the voxel volume"),
        ([[0.9, 0.9, 0.9]], 100, 0.9, "keeps the voxel volume"),
        ([[4, 1, 2]], 100, 2.0, "keeps the voxel volume"),
        ([[4, 1, 2], [4, 1, 2], [8, 8, 8]], 100, 2.0, "keeps the voxel volume"),
        ([[4, 1, 2]], 12, 1.5, "8 voxels across small objects"),
        ([[4, 1, 2]], 2, 1.0, "the finest axis of the data"),
        ([[float(np.float32(0.8))] * 3], 100, 0.8, "keeps the voxel volume"),
        ([[0.05, 0.02, 0.02]], 1e9, 0.0272, "keeps the voxel volume"),
    ],
)
def test_isotropic_spacing(spacings: list[list[float]], small_mm: float, expected: float, words: str) -> None:
    spacing, reason = isotropic_spacing_mm(np.array(spacings, dtype=float), small_mm)
    assert spacing == expected
    assert words in reason


@given(
    st.lists(st.tuples(*[st.floats(0.05, 10)] * 3), min_size=1, max_size=5),
    st.floats(0.5, 200),
)
def test_isotropic_spacing_lies_between_finest_and_coarsest_axis(
    spacings: list[tuple[float, float, float]], small_mm: float
) -> None:
    array = np.array(spacings)
    spacing, _ = isotropic_spacing_mm(array, small_mm)
    assert np.median(array.min(axis=1)) * (1 - 2e-5) <= spacing <= array.max() * 1.01


@pytest.mark.parametrize(
    ("objects", "image", "usual", "maximum", "expected"),
    [
        ([20, 30, 40], [200, 200, 200], 128, None, [128, 128, 128]),
        ([20, 30, 140], [200, 200, 200], 128, None, [128, 128, 144]),
        ([20, 20, 20], [36, 50, 35], 128, None, [40, 56, 40]),
        ([20, 20, 20], [10, 50, 300], 128, None, [32, 56, 128]),
        ([100, 20, 20], [300, 300, 300], 64, 64, [64, 64, 64]),
    ],
)
def test_patch_holds_objects_within_the_image(
    objects: list[int], image: list[int], usual: int, maximum: int | None, expected: list[int]
) -> None:
    assert patch_that_holds(objects, image, usual=usual, maximum=maximum) == expected


def test_window_is_twice_the_objects_within_one_and_two_patches_and_the_image() -> None:
    assert window_size([10, 50, 90], [300, 300, 300], [64, 64, 64]) == [64, 104, 128]
    assert window_size([50, 50, 50], [36, 72, 300], [64, 64, 64]) == [64, 72, 104]


def test_half_patch_spacing_ignores_axes_that_the_patch_holds() -> None:
    # z: image of 60 mm fits 64 voxels of 1 mm whatever the object; y and x: 48 mm objects need 1.5 mm voxels.
    assert spacing_for_half_patch_mm(1.0, [60, 48, 40], [60, 300, 300], 64) == 1.5
    assert spacing_for_half_patch_mm(1.0, [20, 20, 20], [300, 300, 300], 64) == 1.0


def test_object_sizes_take_the_largest_label_and_leave_specks_out() -> None:
    def label(extents: list[list[float]], voxels: list[int]) -> dict[str, Any]:
        return {"cases": {"case": {"extent_mm": extents, "voxels": voxels}}}

    sizes = ObjectSizes(
        {
            "labels": {
                "liver": label([[100, 200, 150], [1, 1, 1]], [9000, 3]),
                "lesion": label([[8, 8, 8]] * 100, [500] * 100),
                "absent": label([], []),
            }
        }
    )
    assert sizes.large_mm(99).tolist() == [100, 200, 150]
    assert sizes.small_mm(10) == pytest.approx(8)


def test_object_sizes_without_objects_is_an_error() -> None:
    with pytest.raises(UserError, match="lists no object"):
        ObjectSizes({"labels": {"a": {"cases": {"case": {"extent_mm": [], "voxels": []}}}}})


# --- memory ----------------------------------------------------------------------------------------------------------


# --- planners --------------------------------------------------------------------------------------------------------


def test_planner_ct_gets_the_papers_spacing_and_patch(make_dataset: MakeDataset) -> None:
    make_dataset(channels=("CT",), spacing_mm=(5.0, 0.7, 0.7), shape=(60, 512, 512))
    plans = planned(ProMISePlanner)
    assert plans["spacing"] == [1.0, 1.0, 1.0]
    assert plans["patch_size"] == [128, 128, 128]
    assert plans["batch_size"] == 1
    assert plans["normalization_schemes"] == ["CTNormalization"]
    assert plans["median_image_size_in_voxels"] == [300, 358, 358]
    assert plans["architecture"]["arch_kwargs"]["activation_checkpointing"] is True
    assert plans["promise"]["sam_checkpoint"] == "vit_b"
    assert plans["promise"]["window_size"] == [128, 128, 128]


def test_planner_ct_with_larger_objects_gets_a_larger_window(make_dataset: MakeDataset) -> None:
    make_dataset(channels=("CT",), shape=(400, 400, 400), extents_mm=[(80, 150, 20)])
    assert planned(ProMISePlanner)["promise"]["window_size"] == [160, 256, 128]


def test_planner_ct_with_room_needs_no_checkpointing(make_dataset: MakeDataset) -> None:
    make_dataset(channels=("ct",))
    plans = planned(ProMISePlanner, gpu_memory_target_in_gb=40)
    assert plans["architecture"]["arch_kwargs"]["activation_checkpointing"] is False


def test_planner_other_data_follows_image_and_objects(make_dataset: MakeDataset) -> None:
    make_dataset(spacing_mm=(1, 1, 1), shape=(36, 50, 35), extents_mm=[(15, 20, 25)])
    plans = planned(ProMISePlanner)
    assert plans["spacing"] == [1, 1, 1]
    assert plans["patch_size"] == [40, 56, 40]
    assert plans["batch_size"] == 2
    assert plans["normalization_schemes"] == ["ZScoreNormalization"]
    assert plans["promise"]["window_size"] == [40, 56, 40]


def test_planner_other_data_with_large_objects_gets_a_larger_patch(make_dataset: MakeDataset) -> None:
    make_dataset(shape=(300, 300, 300), extents_mm=[(40, 50, 150)])
    assert planned(ProMISePlanner, gpu_memory_target_in_gb=24)["patch_size"] == [128, 128, 152]


def test_planner_coarsens_spacing_where_large_objects_do_not_fit_the_memory(make_dataset: MakeDataset) -> None:
    make_dataset(shape=(400, 400, 400), extents_mm=[(200, 200, 200)])
    plans = planned(ProMISePlanner)
    patch = np.array(plans["patch_size"])
    assert plans["spacing"][0] > 1.2
    assert (patch * plans["spacing"] >= 200).all()
    assert "Spacing made coarser" in " ".join(plans["promise"]["reasons"])


def test_planner_small_memory_shrinks_ct_patch_and_says_so(make_dataset: MakeDataset) -> None:
    make_dataset(channels=("CT",))
    plans = planned(ProMISePlanner, gpu_memory_target_in_gb=4)
    assert max(plans["patch_size"]) < 128
    assert plans["spacing"] == [1, 1, 1]
    assert "Patch made smaller than 128 x 128 x 128" in " ".join(plans["promise"]["reasons"])


def test_planner_given_spacing_stays(make_dataset: MakeDataset) -> None:
    make_dataset(spacing_mm=(3.0, 1.0, 1.0), shape=(60, 200, 200))
    plans = planned(ProMISePlanner, overwrite_target_spacing=[3.0, 1.0, 1.0])
    assert plans["spacing"] == [3.0, 1.0, 1.0]
    assert plans["patch_size"][0] == 64
    assert plans["promise"]["placement"] == "centred"
    assert "interactive" not in plans["promise"]


def test_tiny_planner_halves_patches_and_trains_from_scratch(make_dataset: MakeDataset) -> None:
    make_dataset(channels=("CT",), spacing_mm=(3, 0.8, 0.8), shape=(32, 96, 96), extents_mm=[(8, 8, 8), (25, 25, 25)])
    plans = planned(ProMISeTinyPlanner)
    assert plans["promise"]["sam_checkpoint"] is None
    assert plans["promise"]["foreground_share"] == 0.9
    assert plans["promise"]["placement"] == "inside"
    assert plans["promise"]["interactive"] == {"iterations": 2}
    assert max(plans["patch_size"]) <= 64
    assert plans["batch_size"] == 2
    assert len(set(plans["spacing"])) == 1
    assert 25 / plans["spacing"][0] <= 32
    assert plans["spacing"][0] >= 0.8


def test_tiny_planner_large_objects_fill_half_a_patch(make_dataset: MakeDataset) -> None:
    make_dataset(shape=(300, 300, 300), extents_mm=[(96, 40, 40)])
    plans = planned(ProMISeTinyPlanner)
    assert plans["spacing"] == [3.0, 3.0, 3.0]
    assert plans["patch_size"] == [64, 32, 32]
    assert plans["promise"]["window_size"] == [64, 32, 32]


def test_tiny_planner_attention_windows_fit_the_token_grid(make_dataset: MakeDataset) -> None:
    make_dataset(shape=(300, 300, 300), extents_mm=[(24, 20, 16)])
    plans = planned(ProMISeTinyPlanner)
    assert plans["patch_size"] == [48, 40, 32]
    # 12, 10 and 8 tokens; windows of 8 would pad the first two axes to 16.
    assert plans["architecture"]["arch_kwargs"]["encoder"]["window_size"] == [6, 5, 8]
    assert "window_size" not in TINY_ARCHITECTURE["encoder"]


@pytest.mark.parametrize("planner", [ProMISePlanner, ProMISeTinyPlanner])
def test_plans_file_is_what_stock_nnunet_reads(make_dataset: MakeDataset, planner: type[ProMISePlanner]) -> None:
    folder = make_dataset(channels=("T1", "T2"), spacing_mm=(3.0, 1.0, 1.0), shape=(60, 200, 200))
    planner(10).plan_experiment()
    manager = PlansManager(str(folder / f"{planner.default_plans_name}.json"))
    configuration = manager.get_configuration("3d_fullres")
    assert manager.transpose_forward == manager.transpose_backward == [0, 1, 2]
    assert manager.available_configurations == ["3d_fullres"]
    assert configuration.preprocessor_class.__name__ == "DefaultPreprocessor"
    assert configuration.resampling_fn_data is not None
    assert configuration.network_arch_class_name == "nnunetv2_promise.network_architectures.ProMISe"
    assert configuration.network_arch_init_kwargs["patch_size"] == configuration.patch_size
    assert configuration.batch_dice is False
    assert (folder / "dataset.json").is_file()
    assert list(folder.glob(".partial*")) == []


def test_tiny_plans_build_a_network_that_runs(make_dataset: MakeDataset) -> None:
    folder = make_dataset(channels=("T1", "T2"), shape=(36, 36, 36), extents_mm=[(10, 10, 10)])
    ProMISeTinyPlanner(10).plan_experiment()
    manager = PlansManager(str(folder / "ProMISeTinyPlans.json"))
    configuration = manager.get_configuration("3d_fullres")
    network_class = pydoc.locate(configuration.network_arch_class_name)
    network = network_class(**configuration.network_arch_init_kwargs, in_channels=2)
    assert isinstance(network, ProMISe)
    with torch.no_grad():
        logits = network(torch.zeros(1, 2, *configuration.patch_size), torch.full((1, 1, 3), 5.0))
    assert logits.shape == (1, 2, *configuration.patch_size)


def test_planner_keeps_configurations_that_a_user_added(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    plans = ProMISeTinyPlanner(10).plan_experiment()
    plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "batch_size": 4}
    (folder / "ProMISeTinyPlans.json").write_text(json.dumps(plans))
    ProMISeTinyPlanner(10).plan_experiment()
    assert json.loads((folder / "ProMISeTinyPlans.json").read_text())["configurations"]["mine"]["batch_size"] == 4


def test_planner_logs_reasons_in_plain_words(make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    make_dataset(channels=("CT",))
    for reason in planned(ProMISePlanner)["promise"]["reasons"]:
        assert reason in caplog.text
        assert reason.endswith(".")
    assert "as in the paper" in caplog.text


def test_planner_refuses_regions(make_dataset: MakeDataset) -> None:
    make_dataset(labels={"background": 0, "whole": [1, 2], "core": 2})
    with pytest.raises(UserError, match=r"declares regions \(whole\), which overlap"):
        ProMISeTinyPlanner(10)


def test_planner_plans_name_can_be_chosen(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    plans = ProMISePlanner(10, plans_name="Mine").plan_experiment()
    assert (folder / "Mine.json").is_file()
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "Mine_3d_fullres"


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ({"shape": (1, 100, 100)}, {}, "are 2D"),
        ({}, {"gpu_memory_target_in_gb": 0.5}, "memory target of 0.5 GB is too small.*needs about"),
        ({"channels": ("CT",)}, {"gpu_memory_target_in_gb": 1.0}, "use -pl ProMISeTinyPlanner"),
        ({"extents_mm": ()}, {}, "lists no object"),
    ],
)
def test_planner_bad_input_is_one_sentence(
    make_dataset: MakeDataset, dataset: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    folder = make_dataset(**dataset)
    with pytest.raises(UserError, match=message):
        planned(ProMISePlanner, **options)
    assert not (folder / "ProMISePlans.json").exists()


def test_planner_stock_fingerprint_is_an_error(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    content = json.loads((folder / "dataset_fingerprint.json").read_text())
    del content["objects"]
    (folder / "dataset_fingerprint.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="make it with nnUNetv2_promise_plan_and_preprocess"):
        ProMISePlanner(10)


@pytest.mark.parametrize("planner", [ProMISeInteractivePlanner, ProMISeInteractiveTinyPlanner])
def test_interactive_planners_keep_voxels_and_normalise_by_z_score(
    planner: type[ProMISePlanner], make_dataset: MakeDataset
) -> None:
    """An object of 5 x 30 x 30 voxels in slices of 4 mm: patches are counted in the data's own voxels."""
    make_dataset(channels=("CT",), spacing_mm=(4, 0.8, 0.8), shape=(40, 200, 200), extents_mm=[(20, 24, 24)])
    plans = planned(planner)
    assert plans["spacing"] == [4, 0.8, 0.8]
    assert plans["normalization_schemes"] == ["ZScoreNormalization"]
    assert plans["use_mask_for_norm"] == [False]
    architecture = plans["architecture"]
    with torch.device("meta"):
        engine_builds = pydoc.locate(architecture["network_class_name"])(8, 2, False, **architecture["arch_kwargs"])
    assert engine_builds.network.patch_size == tuple(plans["patch_size"])
    kinds = ("data", "seg", "probabilities")
    assert {plans[f"resampling_fn_{kind}"] for kind in kinds} == {"no_resampling_hack"}
    assert all(plans[f"resampling_fn_{kind}_kwargs"] == {} for kind in kinds)
    assert min(plans["patch_size"][1:]) >= 30
    assert "Voxels stay as they are" in " ".join(plans["promise"]["reasons"])
    assert plans["promise"]["placement"] == "centred"


def test_interactive_planners_refuse_a_target_spacing(make_dataset: MakeDataset) -> None:
    make_dataset()
    with pytest.raises(UserError, match="keeps voxels as they are"):
        planned(ProMISeInteractiveTinyPlanner, overwrite_target_spacing=[1.0, 1.0, 1.0])
