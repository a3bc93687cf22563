"""Which object each voxel of a case belongs to, so that patches know theirs after cropping and augmentation.

Objects are the connected components of the whole case. A patch that labelled its own voxels would take two fragments of
one object for two objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from numpy.typing import NDArray
from scipy import ndimage

SPECK_VOXELS = 8
"""A smaller component is a speck of the annotation, unless its label has nothing larger in the case."""
MOST_OBJECTS = int(np.iinfo(np.int16).max)
"""nnU-Net's loader keeps segmentations in 16 bits; the smallest objects beyond are left out."""


@dataclass(frozen=True)
class ObjectMap:
    """The objects of a case.

    Attributes:
        numbers_zyx: (D, H, W) int16, 0 where there is none and on specks, else the object's number from 1.
        labels: Label value of each object, ``labels[0]`` of number 1.
        boxes: Bounding box of each object.
    """

    numbers_zyx: NDArray[np.int16]
    labels: NDArray[np.int64]
    boxes: list[tuple[slice, ...]]

    def random_voxel(self, label: int) -> NDArray[np.int64] | None:
        """(3,) voxel of a random object of a label, each object and each of its voxels alike; None if it has none.

        Draws from numpy's global state, as nnU-Net's loader does.
        """
        of_label = np.flatnonzero(self.labels == label)
        if not len(of_label):
            return None
        index = np.random.choice(of_label)
        box = self.boxes[index]
        voxels = np.argwhere(self.numbers_zyx[box] == index + 1)
        return voxels[np.random.choice(len(voxels))] + [part.start for part in box]


def map_objects(labels_zyx: np.ndarray, ignore_label: int | None = None) -> ObjectMap:
    """Number the connected components (26 neighbours) of every label of a case.

    Args:
        labels_zyx: (D, H, W) integer label map; negative values are outside of nnU-Net's non-zero mask.
        ignore_label: Value that is not an object, or None.
    """
    foreground = labels_zyx > 0
    if ignore_label is not None:
        foreground &= labels_zyx != ignore_label
    numbers = np.zeros(labels_zyx.shape, np.int16)
    found = ndimage.find_objects(foreground.view(np.uint8))
    if not found:
        return ObjectMap(numbers, np.zeros(0, np.int64), [])
    box = found[0]
    inside = np.where(foreground[box], labels_zyx[box], 0)
    components = cc3d.connected_components(np.ascontiguousarray(inside), connectivity=26)
    sizes = np.bincount(components.ravel())
    labels = np.zeros(len(sizes), np.int64)
    labels[components.ravel()] = inside.ravel()
    kept = _without_specks(sizes, labels)
    renumber = np.zeros(len(sizes), np.int16)
    renumber[kept] = np.arange(1, len(kept) + 1)
    numbers[box] = renumber[components]
    return ObjectMap(numbers, labels[kept], ndimage.find_objects(numbers))


def _without_specks(sizes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Numbers of the components that count, in their order; number 0 is the background."""
    counts = np.zeros(len(sizes), bool)
    for label in np.unique(labels[1:]):
        of_label = labels == label
        limit = min(SPECK_VOXELS, int(sizes[of_label].max()))
        counts |= of_label & (sizes >= limit)
    kept = np.flatnonzero(counts)
    if len(kept) > MOST_OBJECTS:
        kept = np.sort(kept[np.argsort(-sizes[kept], kind="stable")[:MOST_OBJECTS]])
    return kept


class ObjectDataset:
    """nnU-Net's dataset whose cases also hold their objects.

    The map takes the place of a previous stage's segmentation, so that nnU-Net's loader crops it, and its augmentation
    deforms it, with the labels; a patch's segmentation then has two channels. The voxel on which the loader centres a
    foreground patch is drawn from a random object, so that small objects get as many patches as large ones.

    Args:
        dataset: nnU-Net's.
        ignore_label: Value that is not an object, or None.
    """

    def __init__(self, dataset: nnUNetBaseDataset, *, ignore_label: int | None) -> None:
        self.dataset = dataset
        self.identifiers = dataset.identifiers
        self.ignore_label = ignore_label

    def load_case(self, identifier: str) -> tuple[Any, np.ndarray, np.ndarray, dict[str, Any]]:
        """Data, labels (1, D, H, W), object numbers (D, H, W), and properties with one voxel to centre on per label."""
        data, segmentation, _, properties = self.dataset.load_case(identifier)
        labels = np.asarray(segmentation[:])
        objects = map_objects(labels[0], self.ignore_label)
        locations = dict(properties["class_locations"])
        for label in locations:
            voxel = None if isinstance(label, tuple) else objects.random_voxel(label)
            if voxel is not None:
                locations[label] = np.array([[0, *voxel]])
        return data, labels, objects.numbers_zyx, {**properties, "class_locations": locations}
