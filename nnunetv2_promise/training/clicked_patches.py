"""Objects of a training batch and the clicks on them, in nnInteractive's channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunetv2_promise.network_architectures.interactive.channels import (
    PREVIOUS_MASK,
    click,
    empty_channels,
    zoomed_ball,
)
from nnunetv2_promise.training.error_clicks import Density, ErrorClicks, error_clicks

_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


def choose_objects(segmentation: Tensor, labels: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Choose for each patch one object: a 26-connected component of a label, cut by the patch's border.

    Labels that are present are equally likely; within a label an object is as likely as it is large.

    Args:
        segmentation: (B, 1, D, H, W) integer label maps.
        labels: Foreground label values.
        rng: Source of randomness.

    Returns:
        (B, 1, D, H, W) bool, the objects, empty where a patch has none; (B,) long, indices into ``labels``.
    """
    maps = segmentation[:, 0].cpu().numpy()
    objects, chosen = np.zeros(maps.shape, dtype=bool), []
    for patch, target in zip(maps, objects, strict=True):
        present = [index for index, label in enumerate(labels) if (patch == label).any()]
        index = int(rng.choice(present)) if present else int(rng.integers(len(labels)))
        chosen.append(index)
        if present:
            numbered, _ = ndimage.label(patch == labels[index], structure=_NEIGHBOURS_26)
            target[:] = numbered == rng.choice(numbered[numbered > 0])
    device = segmentation.device
    return torch.from_numpy(objects)[:, None].to(device), torch.tensor(chosen, device=device)


def touching(mask: Tensor, objects: Tensor) -> Tensor:
    """The 26-connected components of a mask that overlap an object: what a user would take for the object's mask.

    Args:
        mask: (B, 1, D, H, W) bool.
        objects: (B, 1, D, H, W) bool.

    Returns:
        (B, 1, D, H, W) bool.
    """
    kept = np.zeros(mask.shape, dtype=bool)
    pairs = zip(mask[:, 0].cpu().numpy(), objects[:, 0].cpu().numpy(), kept[:, 0], strict=True)
    for one, wanted, result in pairs:
        numbered, _ = ndimage.label(one, structure=_NEIGHBOURS_26)
        hit = np.unique(numbered[wanted])
        result[:] = np.isin(numbered, hit[hit > 0])
    return torch.from_numpy(kept).to(mask.device)


class ClickedPatches:
    """One object in each patch of a batch, and the interactions so far.

    Args:
        objects: (B, 1, D, H, W) bool, the truth.
        rng: Source of randomness of the clicks.
        zooms: (B,) by how much each patch was shrunk; clicks are drawn as the engine shrinks them.
        ignored: (B, 1, D, H, W) bool, voxels that are never an error, or None.

    Attributes:
        channels: (B, 7, D, H, W) float32 on the objects' device, what the network sees. They are replaced, not changed
            in place: autograd may still need the old ones.
        mask: (B, 1, D, H, W) bool, the last answer.
    """

    def __init__(
        self, objects: Tensor, rng: np.random.Generator, *, zooms: Tensor | None = None, ignored: Tensor | None = None
    ) -> None:
        self.objects = objects
        self.ignored = ignored
        self._rng = rng
        self._zooms = [1.0] * len(objects) if zooms is None else zooms.tolist()
        self.channels = empty_channels(len(objects), objects.shape[2:], device=objects.device)
        self.mask = torch.zeros_like(objects)

    def set_mask(self, mask: Tensor) -> None:
        """Take an answer (B, 1, D, H, W) bool as the previous mask."""
        self.mask = mask
        self.channels = self.channels.clone()
        self.channels[:, PREVIOUS_MASK] = mask[:, 0].float()

    def add_clicks(self, number: int, density: Density) -> None:
        """Click ``number`` times on errors of the last answer; where it is right, anywhere."""
        self.channels = self.channels.clone()
        for _ in range(number):
            drawn = error_clicks(
                self.objects, self.mask, self._anywhere(), self._rng, density=density, ignored=self.ignored
            )
            for index, zoom in enumerate(self._zooms):
                point = drawn.point_coords[index, 0].tolist()
                positive = bool(drawn.point_labels[index, 0])
                click(self.channels[index], point, positive=positive, ball=zoomed_ball(zoom))

    def _anywhere(self) -> ErrorClicks:
        size = np.array(self.objects.shape[2:])
        points = torch.from_numpy(self._rng.integers(size, size=(len(self.objects), 3)))
        patches = torch.arange(len(points))
        truth = self.objects.cpu()[patches, 0, points[:, 0], points[:, 1], points[:, 2]]
        return ErrorClicks(points[:, None], truth.long()[:, None])
