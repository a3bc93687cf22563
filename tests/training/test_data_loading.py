"""Patches on foreground are centred as at prediction."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from nnunetv2_promise.inference.placement import place_window
from nnunetv2_promise.training.data_loading import CentredDataLoader

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
    for larger in (PATCH, (14, 11, 12)):
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
