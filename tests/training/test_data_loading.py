"""Patches on foreground are centred as at prediction."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunetv2_promise.inference.placement import place_window
from nnunetv2_promise.training import data_loading
from nnunetv2_promise.training.case_order import CaseOrder
from nnunetv2_promise.training.data_loading import CentredDataLoader, make_dataloaders

PATCH = (8, 10, 12)


def loader(kind: type[nnUNetDataLoader]) -> nnUNetDataLoader:
    labels = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    return kind(SimpleNamespace(identifiers=["a"]), 1, PATCH, PATCH, labels)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (6, 14, 8), (15, 19, 23), (0, 19, 11)])
def test_foreground_voxel_is_in_the_middle_even_at_the_border(voxel: tuple[int, ...]) -> None:
    locations = {1: np.array([[0, *voxel]])}
    starts, stops = loader(CentredDataLoader).get_bbox(np.array([16, 20, 24]), True, locations)
    assert tuple(starts) == place_window(np.array([voxel]), PATCH)
    assert [b - a for a, b in zip(starts, stops, strict=True)] == list(PATCH)


@pytest.mark.parametrize(
    ("shape", "voxel", "start"),
    [
        ((16, 20, 24), (8, 10, 12), (4, 5, 6)),
        ((16, 20, 24), (0, 19, 1), (0, 10, 0)),
        ((5, 20, 24), (4, 0, 23), (-2, 0, 12)),  # smaller than the patch: padded on both sides
    ],
)
def test_patches_are_moved_inside_the_scan(
    shape: tuple[int, ...], voxel: tuple[int, ...], start: tuple[int, ...]
) -> None:
    """Of a larger patch that augmentation cuts, the part that is left lies inside."""
    for larger in (PATCH, (14, 11, 12), (9, 12, 17)):
        made = loader(CentredDataLoader)
        made.patch_size, made.inside = larger, True
        starts, stops = made.get_bbox(np.array(shape), True, {1: np.array([[0, *voxel]])})
        margin = [(a - b) // 2 for a, b in zip(larger, PATCH, strict=True)]
        assert tuple(a + b for a, b in zip(starts, margin, strict=True)) == start
        assert place_window(np.array([voxel]), PATCH, shape) == start
        assert [b - a for a, b in zip(starts, stops, strict=True)] == list(larger)


def test_other_patches_are_nnunets() -> None:
    shape = np.array([16, 20, 24])
    for force_fg, locations in ((False, {1: np.array([[0, 0, 0, 0]])}), (True, {1: []})):
        boxes = []
        for kind in (nnUNetDataLoader, CentredDataLoader):
            np.random.seed(3)
            made = loader(kind)
            boxes.append([made.get_bbox(shape, force_fg, locations) for _ in range(5)])
        assert boxes[0] == boxes[1]


def test_padding_is_restored() -> None:
    made = loader(CentredDataLoader)
    before = made.need_to_pad.copy()
    made.get_bbox(np.array([16, 20, 24]), True, {1: np.array([[0, 1, 1, 1]])})
    assert (made.need_to_pad == before).all()


def test_cases_come_in_the_given_order_or_as_nnunet_draws_them() -> None:
    made = loader(CentredDataLoader)
    assert list(made.get_indices()) == ["a"]
    orders = [CaseOrder("abcdef", batch_size=2, seed=(7,)) for _ in range(2)]
    made.order, made.thread_id, made.workers = orders[0], 1, 3
    assert [made.get_indices() for _ in range(4)] == [orders[1].next_batch(1, 3) for _ in range(4)]


class _Loader:
    """Keeps what it was made with; its only batch is itself."""

    def __init__(self, dataset: Any, *sizes: Any, **options: Any) -> None:
        self.dataset, self.sizes, self.options = dataset, sizes, options

    def __next__(self) -> _Loader:
        return self


def _trainer() -> SimpleNamespace:
    labels = SimpleNamespace(foreground_labels=[1], ignore_label=None)
    return SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=[4, 5, 6], use_mask_for_norm=[False]),
        configure_rotation_dummyDA_mirroring_and_inital_patch_size=lambda: ("rotation", True, [7, 8, 9], (0, 1)),
        label_manager=labels,
        _get_deep_supervision_scales=lambda: None,
        get_training_transforms=lambda *args, **kwargs: ("augment", args, kwargs),
        get_validation_transforms=lambda *args, **kwargs: ("plain", args, kwargs),
        get_tr_and_val_datasets=lambda: (SimpleNamespace(identifiers=["a"]), SimpleNamespace(identifiers=["b"])),
        batch_size=3,
        oversample_foreground_percent=0.6,
        probabilistic_oversampling=True,
        device=SimpleNamespace(type="cpu"),
    )


def test_training_is_augmented_from_larger_patches_and_validation_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer = _trainer()
    found = [made.data_loader for made in make_dataloaders(trainer, _Loader, order_of=tuple, inside=True)]
    assert [made.dataset.identifiers for made in found] == [["a"], ["b"]]
    assert [made.sizes for made in found] == [
        (3, [7, 8, 9], [4, 5, 6], trainer.label_manager),
        (3, [4, 5, 6], [4, 5, 6], trainer.label_manager),
    ]
    assert [made.options["transforms"][0] for made in found] == ["augment", "plain"]
    assert found[0].options["transforms"][1] == ([4, 5, 6], "rotation", None, (0, 1), True)
    assert all(made.options["oversample_foreground_percent"] == 0.6 for made in found)
    assert [made.order for made in found] == [("a",), ("b",)]
    assert all(made.inside and made.workers == 1 for made in found)


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_validation_takes_half_of_the_workers(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only batches that go to a GPU are pinned."""
    monkeypatch.setattr(data_loading, "get_allowed_n_proc_DA", lambda: 5)
    made: list[dict[str, Any]] = []

    def augmenter(**options: Any) -> Any:
        made.append(options)
        return iter([None])

    monkeypatch.setattr(data_loading, "NonDetMultiThreadedAugmenter", augmenter)
    trainer = _trainer()
    trainer.device.type = device
    make_dataloaders(trainer, _Loader)
    assert [options["num_processes"] for options in made] == [5, 2]
    assert [options["num_cached"] for options in made] == [5, 3]
    assert [options["data_loader"].workers for options in made] == [5, 2]
    assert all(options["pin_memory"] == (device == "cuda") for options in made)
    assert all(options["data_loader"].order is None and not options["data_loader"].inside for options in made)
