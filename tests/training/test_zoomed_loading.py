"""Zoomed patches: more of the scan at the size of a patch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnunetv2_promise.training.zoomed_loading import AUTOZOOM_FACTORS, Shrink, ZoomingDataLoader

SHAPE = (48, 48, 48)


class _Scan:
    """One case: the image holds each voxel's z, the label is a cube in the middle."""

    identifiers = ("case",)

    def __init__(self, voxel: tuple[int, int, int] = (24, 24, 24)) -> None:
        self.voxel = voxel

    def load_case(self, key):
        image = np.broadcast_to(np.arange(48, dtype=np.float32)[None, :, None, None], (1, *SHAPE)).copy()
        labels = np.zeros((1, *SHAPE), dtype=np.int16)
        labels[0, 16:32, 16:32, 16:32] = 1
        return image, labels, None, {"class_locations": {1: np.array([[0, *self.voxel]])}}


def _loader(zoom_share: float, scan: _Scan | None = None, inside_share: float = 0.0) -> ZoomingDataLoader:
    manager = SimpleNamespace(all_labels=[0, 1], has_ignore_label=False)
    np.random.seed(0)
    return ZoomingDataLoader(
        scan or _Scan(),
        8,
        (16, 16, 16),
        (16, 16, 16),
        manager,
        oversample_foreground_percent=1.0,
        probabilistic_oversampling=True,
        transforms=ComposeTransforms([]),
        zoom_share=zoom_share,
        inside_share=inside_share,
    )


def test_no_zoom_gives_plain_patches():
    batch = next(_loader(0.0))
    assert batch["zoom"].tolist() == [1] * 8
    assert batch["data"].shape == (8, 1, 16, 16, 16)
    torch.testing.assert_close(batch["data"][0, 0, :, 0, 0].diff(), torch.ones(15))


def test_a_share_of_the_patches_is_moved_inside_the_scan_unless_they_are_zoomed():
    """Around voxel z = 2 a patch of 16 begins at -6, and at 0 inside; beyond the scan there is nothing."""
    corner = _Scan((2, 24, 24))
    for share, starts in ((0.0, {-6}), (1.0, {0}), (0.5, {-6, 0})):
        batch = next(_loader(0.0, corner, share))
        assert {int(image[0, 8, 0, 0]) - 8 for image in batch["data"]} == starts
    batch = next(_loader(1.0, corner, 1.0))
    for zoom, image in zip(batch["zoom"].tolist(), batch["data"], strict=True):
        assert float(image[0, 8, 8, 8]) == pytest.approx(2 + zoom / 2 - 0.5, abs=0.3)  # a voxel of so many


def test_zoomed_patches_show_more_of_the_scan_around_the_same_middle():
    batch = next(_loader(1.0))
    assert set(batch["zoom"].tolist()) <= set(AUTOZOOM_FACTORS)
    for image, labels, zoom in zip(batch["data"], batch["target"], batch["zoom"].tolist(), strict=True):
        steps = image[0, 6:10, 8, 8].diff()
        torch.testing.assert_close(steps, torch.full((3,), zoom), atol=0.05, rtol=0)
        assert int(labels[0, 8, 8, 8]) == 1
        inside = int((labels == 1).sum()) ** (1 / 3)
        assert inside == pytest.approx(16 / zoom, abs=1)


@pytest.mark.parametrize(
    ("longest", "zooms"),
    [
        (16, {1}),
        (17, {1.5}),
        (24, {1.5}),
        (25, {1.5, 2.25}),
        (36, {1.5, 2.25}),
        (37, {1.5, 2.25, 1.5**3}),
        (42, {1.5, 2.25, 1.5**3}),
        (43, {1.5, 2.25, 1.5**3, 4}),
    ],
)
def test_patches_are_zoomed_by_half_as_much_again_until_they_hold_the_scan(longest, zooms):
    """The patch has 16 voxels; 24 are 1.5 patches, 36 are 2.25; the engine ends at four."""
    loader = _loader(1.0)
    for shape in ((longest, 16, 16), (16, 5, longest)):
        assert {loader._draw_zoom(np.array(shape)) for _ in range(100)} == zooms


def test_shrink_leaves_what_has_the_size_as_it_is():
    image = torch.rand(1, 4, 4, 4)
    assert Shrink((4, 4, 4))(image=image)["image"] is image


def test_zoomed_patches_of_anything_have_their_middles_where_plain_ones_have_them():
    """The final patch's place in the middle lies in the scan; odd zoomed lengths may take half a voxel more."""
    loader, shape = _loader(1.0), np.array([40, 56, 64])
    middles: dict[float, list[np.ndarray]] = {}
    for _ in range(1500):
        lower, upper = loader.get_bbox(shape, False, None)
        middles.setdefault(loader._zooms[-1], []).append((np.array(lower) + upper) / 2)
    assert set(middles) == set(AUTOZOOM_FACTORS)
    for found in middles.values():
        assert np.abs(np.min(found, axis=0) - 8).max() <= 1
        assert np.abs(np.max(found, axis=0) - (shape - 8)).max() <= 1
    assert tuple(loader.patch_size) == (16, 16, 16)
    assert not loader.need_to_pad.any()
