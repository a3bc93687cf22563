"""Objects of cases and of their patches: numbered on the whole case, so that crops cannot split them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy import ndimage

from nnunetv2_promise.training import object_maps
from nnunetv2_promise.training.object_maps import ObjectDataset, map_objects

LABELS = {"background": 0, "lesion": 1, "organ": 2}


def horseshoe() -> np.ndarray:
    """(24, 24, 24) labels: a horseshoe and a box of label 1, a box of label 2 beside."""
    labels = np.zeros((24, 24, 24), np.int16)
    labels[4:21, 10:14, 4:8] = labels[4:21, 10:14, 16:20] = 1
    labels[18:21, 10:14, 4:20] = 1
    labels[4:10, 2:6, 8:12] = 1
    labels[4:10, 6:8, 8:12] = 2  # touches the box, but has another label
    return labels


def test_every_component_of_every_label_is_an_object() -> None:
    labels = horseshoe()
    labels[0, 0, :7] = 1  # a speck
    labels[23] = 5  # ignored
    labels[:, 23] = -1
    objects = map_objects(labels, ignore_label=5)
    assert sorted(objects.labels) == [1, 1, 2]
    for number, label in enumerate(objects.labels, 1):
        mask = objects.numbers_zyx == number
        assert (labels[mask] == label).all()
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
        assert mask[objects.boxes[number - 1]].sum() == mask.sum()
    assert (objects.numbers_zyx > 0).sum() == (horseshoe()[:, :23] > 0).sum()


def test_a_label_of_specks_alone_keeps_the_largest() -> None:
    """The largest of its own, however large the specks of other labels are."""
    labels = np.zeros((6, 6, 6), np.int16)
    labels[0, 0, :2] = 2
    labels[2, 0, :3] = 1
    labels[4, 4, :2] = 1
    labels[5, 0, :5] = 3
    objects = map_objects(labels)
    assert (objects.numbers_zyx > 0).sum() == 2 + 3 + 5
    assert objects.labels.tolist() == [2, 1, 3]


def test_of_too_many_objects_the_smallest_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_maps, "MOST_OBJECTS", 2)
    labels = np.zeros((6, 6, 30), np.int16)
    labels[:3, :3, 0:4] = labels[:3, :3, 10:12] = labels[:3, :3, 20:25] = 1  # 36, 18 and 45 voxels
    objects = map_objects(labels)
    kept = [int((objects.numbers_zyx == number).sum()) for number in (1, 2, 3)]
    assert kept == [36, 45, 0]
    monkeypatch.setattr(object_maps, "MOST_OBJECTS", 3)
    assert len(map_objects(labels).labels) == 3


def test_nothing_labelled_has_no_objects() -> None:
    objects = map_objects(np.full((4, 5, 6), -1, np.int16))
    assert not objects.numbers_zyx.any()
    assert len(objects.labels) == len(objects.boxes) == 0
    assert objects.random_voxel(1) is None


def test_voxels_are_drawn_from_objects_alike_not_from_voxels() -> None:
    labels = np.zeros((20, 20, 20), np.int16)
    labels[:10] = 1
    labels[15:17, 4:6, 4:6] = 1
    objects = map_objects(labels)
    np.random.seed(0)
    voxels = np.array([objects.random_voxel(1) for _ in range(200)])
    assert (labels[tuple(voxels.T)] == 1).all()
    assert 70 < (voxels[:, 0] >= 15).sum() < 130


def test_a_drawn_voxel_is_not_of_another_object_within_its_objects_box() -> None:
    """Between the legs of a horseshoe lie an object of the same label and one of another."""
    labels = np.zeros((12, 3, 13), np.int16)
    labels[1:11, :, 1:3] = labels[1:11, :, 10:12] = labels[9:11, :, 1:12] = 1
    labels[2:8, :, 4:6] = 1
    labels[3:8, :, 7:9] = 2
    objects = map_objects(labels)
    np.random.seed(0)
    for label in (1, 2):
        for _ in range(50):
            assert labels[tuple(objects.random_voxel(label))] == label
    numbers = {int(objects.numbers_zyx[tuple(objects.random_voxel(1))]) for _ in range(50)}
    assert len(numbers) == 2


class OneCase:
    """nnU-Net's dataset with one case."""

    identifiers = ("case",)

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        labels = horseshoe()[None]
        found = {label: np.argwhere(labels == label) for label in (1, 2)}
        return np.zeros(labels.shape, np.float32), labels, None, {"class_locations": found}


def loader(transforms: Any, size: int) -> nnUNetDataLoader:
    dataset = ObjectDataset(OneCase(), ignore_label=None)  # type: ignore[arg-type]
    manager = LabelManager(LABELS, None)
    return nnUNetDataLoader(
        dataset, 1, (size,) * 3, (size,) * 3, manager, oversample_foreground_percent=1.0, transforms=transforms
    )


def test_fragments_of_one_object_in_a_patch_have_one_number() -> None:
    made = loader(None, 24)
    np.random.seed(1)
    made.get_bbox = lambda *_: ([2, 3, 1], [26, 27, 25])  # type: ignore[method-assign]
    labels, numbers = next(made)["target"][0].numpy()
    legs = labels[:14] == 1  # without the part where the legs meet
    assert ndimage.label(legs, np.ones((3, 3, 3)))[1] == 3
    left, right, box = numbers[4, 9, 4], numbers[4, 9, 16], numbers[4, 1, 8]
    assert left == right > 0
    assert box not in (0, left)
    assert labels[23].max() == labels.min() == -1, "no border in the patch"


def test_numbers_stay_with_their_labels_through_nnunets_augmentation() -> None:
    augment = nnUNetTrainer.get_training_transforms(
        (20, 20, 20), (-0.5, 0.5), None, (0, 1, 2), False, use_mask_for_norm=[False], foreground_labels=[1, 2]
    )
    made = loader(augment, 20)
    torch.manual_seed(0)
    np.random.seed(0)
    for _ in range(40):
        labels, numbers = next(made)["target"][0].numpy()
        assert numbers.min() >= 0
        for number in np.unique(numbers[numbers > 0]):
            values, counts = np.unique(labels[numbers == number], return_counts=True)
            assert counts[np.argmax(counts)] > 0.8 * counts.sum()
            assert values[np.argmax(counts)] > 0


def test_foreground_patches_are_centred_on_a_voxel_of_a_random_object() -> None:
    """The key of several labels is where nnU-Net finds what is annotated at all; it stays."""
    case = OneCase()
    data, labels, nothing, properties = case.load_case("case")
    everywhere = np.argwhere(labels >= 0)
    properties["class_locations"][(0, 1, 2)] = everywhere
    case.load_case = lambda _: (data, labels, nothing, properties)  # type: ignore[method-assign]
    np.random.seed(0)
    dataset = ObjectDataset(case, ignore_label=None)  # type: ignore[arg-type]
    drawn = []
    for _ in range(60):
        _, _, numbers, found = dataset.load_case("case")
        assert found["class_locations"][(0, 1, 2)] is everywhere
        for label in (1, 2):
            ((channel, *voxel),) = found["class_locations"][label].tolist()
            assert channel == 0
            assert labels[(0, *voxel)] == label
            drawn.append((label, int(numbers[tuple(voxel)])))
    assert len({number for label, number in drawn if label == 1}) == 2  # the horseshoe and the box
    assert len(properties["class_locations"][1]) > 1  # nnU-Net's own properties are not changed
