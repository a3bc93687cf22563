"""Objects of a label map, and clicks on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Per = Literal["component", "case"]
Inside = Literal["random", "centre"]
_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Object:
    """One connected component of a label, or all voxels of a label in a case.

    Attributes:
        label: Value in the label map.
        start_zyx: First voxel of the bounding box.
        mask: (D, H, W) bool, the object within its bounding box.
    """

    label: int
    start_zyx: tuple[int, int, int]
    mask: NDArray[np.bool_]

    @property
    def bbox_zyx(self) -> tuple[tuple[int, int], ...]:
        """Half-open bounding box, one (start, stop) for each array axis."""
        return tuple((start, start + n) for start, n in zip(self.start_zyx, self.mask.shape, strict=True))

    @property
    def slices_zyx(self) -> tuple[slice, ...]:
        """The bounding box as an index into the label map."""
        return tuple(slice(start, stop) for start, stop in self.bbox_zyx)

    @property
    def size_voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    @property
    def voxels_zyx(self) -> NDArray[np.int64]:
        """(n, 3) int64, indices into the label map in raster order."""
        return np.argwhere(self.mask) + np.asarray(self.start_zyx)

    @property
    def first_voxel_zyx(self) -> tuple[int, int, int]:
        """The first of ``voxels_zyx``."""
        z, y, x = np.unravel_index(np.argmax(self.mask), self.mask.shape)
        return self.start_zyx[0] + int(z), self.start_zyx[1] + int(y), self.start_zyx[2] + int(x)

    def full_mask(self, shape_zyx: Sequence[int]) -> NDArray[np.bool_]:
        """(D, H, W) bool mask of the object on the grid of the label map."""
        full = np.zeros(tuple(shape_zyx), dtype=bool)
        full[self.slices_zyx] = self.mask
        return full


def find_objects(label_array_zyx: NDArray, labels: Sequence[int], *, per: Per = "component") -> list[Object]:
    """The objects of a label map.

    Args:
        label_array_zyx: (D, H, W) integer label map.
        labels: Values to look for; a value that is absent gives no object.
        per: ``"component"`` (26-connected components of each label) or ``"case"`` (each label is one object).

    Returns:
        Objects sorted by label, then by size from large to small, then by their first voxel in raster order.

    Raises:
        ValueError: If the array is not 3D or ``per`` is unknown.
    """
    if label_array_zyx.ndim != 3:
        raise ValueError(f"The label map has {label_array_zyx.ndim} dimensions; 3 are needed.")
    if per not in ("component", "case"):
        raise ValueError(f"per is {per!r}; it must be 'component' or 'case'.")
    objects: list[Object] = []
    for label in sorted(set(labels)):
        whole = crop_to_object(label_array_zyx == label, label=label)
        if whole is not None:
            found = [whole] if per == "case" else list(_components(whole))
            objects += sorted(found, key=lambda item: (-item.size_voxels, item.first_voxel_zyx))
    return objects


def crop_to_object(mask_zyx: NDArray[np.bool_], *, label: int) -> Object | None:
    """A whole (D, H, W) bool mask as one object; None if it is empty."""
    box = ndimage.find_objects(mask_zyx.view(np.uint8))
    if not box:
        return None
    return Object(label=label, start_zyx=_starts(box[0]), mask=mask_zyx[box[0]].copy())  # the rest may go


def _components(whole: Object) -> Iterator[Object]:
    numbered, _ = ndimage.label(whole.mask, structure=_NEIGHBOURS_26)
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        z, y, x = (a + b for a, b in zip(whole.start_zyx, _starts(box), strict=True))
        yield Object(label=whole.label, start_zyx=(z, y, x), mask=numbered[box] == number)


def _starts(box: tuple[slice, ...]) -> tuple[int, int, int]:
    z, y, x = (int(part.start) for part in box)
    return z, y, x


def sample_points(
    target: Object | NDArray[np.bool_],
    n: int,
    rng: np.random.Generator,
    *,
    where: Inside = "random",
    spacing_zyx_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> NDArray[np.int64]:
    """Clicks on an object, at voxel centres.

    Args:
        target: The object, or a (D, H, W) bool mask.
        n: Number of clicks; distinct voxels as long as the object has as many.
        rng: Source of randomness.
        where: ``"random"``: uniform over the voxels. ``"centre"``: the first click on the voxel deepest inside
            (see ``deepest_voxel``), further ones uniform over the voxels.
        spacing_zyx_mm: Needed for ``"centre"``.

    Returns:
        (n, 3) int64 in (z, y, x) order.

    Raises:
        ValueError: If the mask is empty, ``n`` is below 1 or ``where`` is unknown.
    """
    if n < 1 or where not in ("random", "centre"):
        raise ValueError(f"n is {n} and where is {where!r}; n must be 1 or more and where 'random' or 'centre'.")
    mask, start_zyx = (target.mask, target.start_zyx) if isinstance(target, Object) else (target, (0, 0, 0))
    flat = np.flatnonzero(mask)
    if not len(flat):
        raise ValueError("The mask is empty; there is nothing to click on.")
    drawn = flat[rng.choice(len(flat), size=n, replace=n > len(flat))]
    chosen = np.stack(np.unravel_index(drawn, mask.shape), axis=1) + np.asarray(start_zyx)
    if where == "centre":
        deepest = deepest_voxel(target, spacing_zyx_mm=spacing_zyx_mm)
        already = np.flatnonzero((chosen == deepest).all(axis=1))
        chosen[already[0] if already.size else 0] = chosen[0]
        chosen[0] = deepest
    return chosen


def deepest_voxel(
    target: Object | NDArray[np.bool_], *, spacing_zyx_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> NDArray[np.int64]:
    """The voxel farthest (mm) from all voxels outside; beyond the mask's box everything is outside.

    Of several such voxels the one nearest to the centre of mass is taken, then the first in raster order.

    Args:
        target: The object, or a (D, H, W) bool mask that is not empty.
        spacing_zyx_mm: Spacing in array axis order.

    Returns:
        (3,) int64 in (z, y, x) order.
    """
    item = target if isinstance(target, Object) else crop_to_object(target, label=1)
    if item is None:
        raise ValueError("The mask is empty; it has no deepest voxel.")
    depth_mm = ndimage.distance_transform_edt(np.pad(item.mask, 1), sampling=spacing_zyx_mm)[1:-1, 1:-1, 1:-1]
    candidates = np.argwhere(depth_mm >= depth_mm.max() * (1 - 1e-9))
    centre = np.argwhere(item.mask).mean(axis=0)
    distance_mm = np.linalg.norm((candidates - centre) * np.asarray(spacing_zyx_mm), axis=1)
    return candidates[np.argmin(np.round(distance_mm, 9))] + np.asarray(item.start_zyx)


def seed_of_case(case_id: str, seed: int) -> int:
    """A seed that depends on a case's name, not on the order of cases, the process or the machine.

    Returns:
        Integer in [0, 2**32), fit for numpy and torch.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{case_id}".encode()).digest()[:4], "big")
