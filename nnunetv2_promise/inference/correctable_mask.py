"""One object's mask, corrected click by click; patches are encoded once and decoded for every click in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.clicked_component import keep_clicked
from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT, grow
from nnunetv2_promise.inference.placement import overlap, place_window
from nnunetv2_promise.inference.prompted_network import PromptedNetwork

# Encoded patches that are kept; one of ViT-B at 128^3 has 170 MB.
KEPT_PATCHES = 8
# What a previous mask of zeros and ones says in logits.
CERTAIN_LOGIT = 6.0

Start = tuple[int, ...]
Voxel = tuple[int, ...]


class PatchMemory:
    """The patches of one image, encoded when they are first needed; the most recent ones are kept.

    Args:
        network: On its device, in evaluation mode.
        image: (C, D, H, W) float32, preprocessed.
        kept: How many encoded patches are kept.

    Attributes:
        encodings: How often a patch was encoded.
    """

    def __init__(self, network: PromptedNetwork, image: NDArray[np.float32], *, kept: int = KEPT_PATCHES) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self.shape: tuple[int, ...] = image.shape[1:]
        self.encodings = 0
        self._image = image
        self._limit = kept
        self._kept: dict[Start, Any] = {}

    def encoded(self, start: Start) -> Any:
        """The patch that starts at a voxel, which may lie outside of the image; zeros are there, as in training."""
        known = self._kept.pop(start, None)
        if known is None:
            box = [[low, low + length] for low, length in zip(start, self.network.patch_size, strict=True)]
            patch = torch.from_numpy(crop_and_pad_nd(self._image, box, 0)).float().to(self.device)
            known = self.network.encode(patch[None])
            self.encodings += 1
        self._kept[start] = known  # the newest comes last
        if len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
        return known


class _Click(NamedTuple):
    voxel: Voxel
    positive: bool


class _Change(NamedTuple):
    """What a click overwrote, and how good the mask was expected to be before it."""

    boxes: list[tuple[tuple[slice, ...], NDArray[np.float32]]]
    clicks: int
    patches: int
    expected_dice: float


class CorrectableMask:
    """The mask of one object in a preprocessed image.

    The first click is answered as prediction answers it, patch by patch where the object is larger than one. A later
    click is answered by the patch that holds it most centrally, or by a new one around it, also where the change would
    end at a face of the known one; the network gets all clicks in that patch, and what the mask was there. The newest
    answer counts.

    Args:
        patches: The image's patches.
        label_head: Number of the object's label, background counts.
        window_size: (D, H, W) that the first click's patches may cover.
        previous_mask: (D, H, W) bool, a mask to correct, or None.
        one_component: Whether the first answer is the component that was clicked; later ones leave that to the user.
        inside: Whether patches are moved inside the image.

    Attributes:
        logits: (D, H, W) float32, foreground against background; NaN where no patch looked.
        expected_dice: The Dice that the network expects of the newest answer; NaN where it expects nothing.
    """

    def __init__(
        self,
        patches: PatchMemory,
        *,
        label_head: int,
        window_size: Sequence[int],
        previous_mask: NDArray[np.bool_] | None = None,
        one_component: bool = False,
        inside: bool = False,
    ) -> None:
        self.patches = patches
        self.label_head = label_head
        self.window_size = tuple(window_size)
        self.one_component = one_component
        self._within = patches.shape if inside else None
        self.logits = np.full(patches.shape, np.nan, np.float32)
        self.expected_dice = float("nan")
        self._clicks: list[_Click] = []
        self._starts: list[Start] = []
        self._changes: list[_Change] = []
        self._corrects = getattr(patches.network.network, "corrections", None) is not None
        if previous_mask is not None:
            if not self._corrects:
                raise UserError("This model corrects no mask; train one with ProMISeInteractiveTrainer.")
            self.logits[:] = np.where(previous_mask, CERTAIN_LOGIT, -CERTAIN_LOGIT)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(D, H, W) bool."""
        return self.logits > 0  # NaN is not

    def click(self, voxels: Sequence[Sequence[int]], *, positive: bool) -> None:
        """Answer one interaction: a click, or several of one sign at once.

        Args:
            voxels: (n, 3) voxels of the image, in its axis order.
            positive: Whether the object is there.

        Raises:
            UserError: If a click lies outside of the image, or a negative one comes first or meets a model that cannot
                correct.
        """
        new = [_Click(tuple(int(index) for index in voxel), positive) for voxel in voxels]
        self._check(new, positive=positive)
        first = not self._clicks and bool(np.isnan(self.logits).all())
        self._changes.append(_Change([], len(self._clicks), len(self._starts), self.expected_dice))
        self._clicks += new
        with torch.inference_mode():
            if first:
                self._answer_first(np.array([click.voxel for click in new]))
            else:
                for start, middle in {self._patch_for(click.voxel): click.voxel for click in new}.items():
                    self._correct(start, middle)

    def undo(self) -> bool:
        """Take the newest interaction back; False if there is none."""
        if not self._changes:
            return False
        change = self._changes.pop()
        for box, before in reversed(change.boxes):
            self.logits[box] = before
        del self._clicks[change.clicks :], self._starts[change.patches :]
        self.expected_dice = change.expected_dice
        return True

    def _check(self, clicks: Sequence[_Click], *, positive: bool) -> None:
        for click in clicks:
            if any(not 0 <= index < size for index, size in zip(click.voxel, self.patches.shape, strict=True)):
                raise UserError(
                    f"A click on voxel {click.voxel} lies outside of the image of {self.patches.shape} voxels."
                )
        if positive:
            return
        if not self._corrects:
            raise UserError("This model takes no negative click; train one with ProMISeInteractiveTrainer.")
        if not self._clicks and bool(np.isnan(self.logits).all()):
            raise UserError("The first click is negative and there is no mask to correct; click on the object first.")

    def _answer_first(self, voxels: NDArray[np.int64]) -> None:
        """As prediction does: patches in a window around the clicks."""
        origin = place_window(voxels, self.window_size, self._within)
        points = torch.from_numpy(voxels - np.array(origin)).to(self.patches.device)

        def answer(start: tuple[int, ...], clicks: Tensor) -> Tensor:
            in_image = tuple(a + b for a, b in zip(origin, start, strict=True))
            self._starts.append(in_image)
            signed = [_Click(tuple(voxel), True) for voxel in clicks.tolist()]
            return self._answer(in_image, signed, previous=False)

        logit = grow(answer, points, self.window_size, self.patches.network.patch_size).cpu().numpy()
        self._overwrite(origin, keep_clicked(logit, points.cpu().numpy()) if self.one_component else logit)

    def _patch_for(self, voxel: Voxel) -> Start:
        """The known patch that holds a voxel most centrally, or a new one around it."""
        size = self.patches.network.patch_size
        depths = {
            start: min(min(v - s, s + n - 1 - v) for v, s, n in zip(voxel, start, size, strict=True))
            for start in self._starts
        }
        best = max(depths, key=lambda start: depths[start], default=None)
        if best is not None and depths[best] >= 0:
            return best
        self._starts.append(place_window(np.array([voxel]), size, self._within))
        return self._starts[-1]

    def _correct(self, start: Start, middle: Voxel) -> None:
        """Write a patch's answer; one around the click where the change would end at a face of the known patch."""
        logit = self._corrected(start)
        centred = place_window(np.array([middle]), self.patches.network.patch_size, self._within)
        if start != centred and self._ends_at_a_face(start, logit):
            self._starts.append(centred)
            start, logit = centred, self._corrected(centred)
        self._overwrite(start, logit)

    def _corrected(self, start: Start) -> NDArray[np.float32]:
        """(D, H, W), the logit of a patch for all of its clicks and the mask so far."""
        logits = self._answer(start, self._clicks_in(start), previous=True)
        return (logits[1] - logits[0]).float().cpu().numpy()

    def _ends_at_a_face(self, start: Start, logit: NDArray[np.float32]) -> bool:
        """Whether the mask changes at a face of a patch behind which the image continues."""
        changed = (logit > 0) != (self._before(start).numpy() > 0)
        lower = [low > 0 and changed.take(0, axis).any() for axis, low in enumerate(start)]
        ends = zip(start, logit.shape, self.patches.shape, strict=True)
        upper = [low + n < end and changed.take(-1, axis).any() for axis, (low, n, end) in enumerate(ends)]
        return any(lower) or any(upper)

    def _clicks_in(self, start: Start) -> list[_Click]:
        """The clicks in a patch, in its voxels."""
        size = self.patches.network.patch_size
        moved = [
            _Click(tuple(v - s for v, s in zip(click.voxel, start, strict=True)), click.positive)
            for click in self._clicks
        ]
        return [c for c in moved if all(0 <= v < n for v, n in zip(c.voxel, size, strict=True))]

    def _answer(self, start: Start, clicks: Sequence[_Click], *, previous: bool) -> Tensor:
        """(2, D, H, W) logits of a patch."""
        network, device = self.patches.network, self.patches.device
        coords = torch.tensor([[click.voxel for click in clicks]], device=device)  # (1, N, 3)
        prompt: dict[str, Any] = network.label_prompt(self.label_head, device)
        encoded = self.patches.encoded(start)
        if not self._corrects:
            return network.decode(encoded, coords, **prompt)[0]
        prompt["point_labels"] = torch.tensor([[int(click.positive) for click in clicks]], device=device)
        if previous:
            prompt["previous_logits"] = self._before(start)[None, None].to(device)
        logits, expected = network.decode_and_rate(encoded, coords, **prompt)
        self.expected_dice = float(expected[0])
        return logits[0]

    def _before(self, start: Start) -> Tensor:
        """(D, H, W) logits of a patch before the click; background where no patch looked."""
        size = self.patches.network.patch_size
        known = np.full(size, BACKGROUND_LOGIT, np.float32)
        in_patch, in_image = overlap(start, size, self.patches.shape)
        known[in_patch] = np.nan_to_num(self.logits[in_image], nan=BACKGROUND_LOGIT)
        return torch.from_numpy(known)

    def _overwrite(self, start: Start, logit: NDArray[np.float32]) -> None:
        """Put what was seen into the image."""
        in_patch, in_image = overlap(start, logit.shape, self.patches.shape)
        before = self.logits[in_image].copy()
        self._changes[-1].boxes.append((in_image, before))
        seen = logit[in_patch]
        self.logits[in_image] = np.where(np.isnan(seen), before, seen)
