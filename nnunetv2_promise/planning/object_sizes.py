"""Measuring the objects of a label map: what prompts will point at.

Spawned workers import this module, so it stays free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

PERCENTILES = (0.5, 5.0, 10.0, 50.0, 90.0, 95.0, 99.0, 99.5)
_TOUCHING_CORNERS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class LabelFile:
    """A label map and nnU-Net's class that reads it."""

    path: str
    reader_writer: type[BaseReaderWriter]


def measure_file(file: LabelFile, values_of_label: Mapping[str, Sequence[int]]) -> dict[str, dict[str, list[Any]]]:
    """``measure_objects`` of a file."""
    label, properties = file.reader_writer().read_seg(file.path)
    return measure_objects(label[0], properties["spacing"], values_of_label)


def measure_objects(
    label_zyx: np.ndarray, spacing_mm: Sequence[float], values_of_label: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, list[Any]]]:
    """Size of every connected component (26 neighbours) of every label.

    Args:
        label_zyx: (D, H, W) label map.
        spacing_mm: Voxel edges in the same axis order (z, y, x).
        values_of_label: Label name to the values that belong to it (several for a region).

    Returns:
        For each label name: ``voxels``, ``volume_mm3`` and ``extent_mm`` (z, y, x; edges of the bounding box), one
        entry per component.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    return {name: _measure(np.isin(label_zyx, values), spacing) for name, values in values_of_label.items()}


def summarize_objects(
    measured: Mapping[str, Mapping[str, Mapping[str, list[Any]]]], values_of_label: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Gather the objects of all cases per label.

    Args:
        measured: Case name to what ``measure_objects`` found.
        values_of_label: Label name to values.

    Returns:
        For each label name its ``values``, ``cases`` (what was measured, with the ``number`` of components),
        ``cases_without`` and ``percentiles`` over all components (of volume, and of extent per axis).
    """
    return {name: _summary(name, values, measured) for name, values in values_of_label.items()}


def _measure(mask: np.ndarray, spacing: np.ndarray) -> dict[str, list[Any]]:
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    # Components are found within the labels' bounding box, which is small against a whole scan.
    labelled, number = ndimage.label(mask[boxes[0]] if boxes else mask, structure=_TOUCHING_CORNERS)
    voxels = np.bincount(labelled.ravel(), minlength=number + 1)[1:]
    extents = [
        [float((axis.stop - axis.start) * edge) for axis, edge in zip(box, spacing, strict=True)]
        for box in ndimage.find_objects(labelled)
    ]
    return {
        "voxels": voxels.tolist(),
        "volume_mm3": (voxels * spacing.prod()).tolist(),
        "extent_mm": extents,
    }


def _summary(
    name: str, values: Sequence[int], measured: Mapping[str, Mapping[str, Mapping[str, list[Any]]]]
) -> dict[str, Any]:
    cases: dict[str, dict[str, Any]] = {
        case: {"number": len(found[name]["voxels"]), **found[name]} for case, found in measured.items()
    }
    volumes = [volume for case in cases.values() for volume in case["volume_mm3"]]
    extents = [extent for case in cases.values() for extent in case["extent_mm"]]
    percentiles = {}
    if volumes:
        percentiles = {
            "volume_mm3": {str(q): float(np.percentile(volumes, q)) for q in PERCENTILES},
            "extent_mm": {str(q): np.percentile(extents, q, axis=0).tolist() for q in PERCENTILES},
        }
    return {
        "values": list(values),
        "number": len(volumes),
        "cases_without": [case for case, found in cases.items() if found["number"] == 0],
        "percentiles": percentiles,
        "cases": cases,
    }
