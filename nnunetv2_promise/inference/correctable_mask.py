"""One object's mask, corrected click by click; patches are encoded once and decoded for every click in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.clicked_component import keep_clicked
from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT, grow
from nnunetv2_promise.inference.interactions import Interaction
from nnunetv2_promise.inference.patch_memory import PatchMemory, Start
from nnunetv2_promise.inference.placement import overlap, place_window

# What a previous mask of zeros and ones says in logits.
CERTAIN_LOGIT = 6.0

Voxel = tuple[int, ...]


class _Click(NamedTuple):
    voxel: Voxel
    positive: bool


class _Rating(NamedTuple):
    """How much of the mask a patch holds, and the Dice that the network expects of it."""

    voxels: int
    expected_dice: float


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
        inside: Whether patches are moved inside the image. A window of a scan wants that: what surrounds it is not
            zeros but unknown.

    Attributes:
        logits: (D, H, W) float32, foreground against background; NaN where no patch looked.
        expected_dice: The Dice that the network expects of the newest answer, where several patches gave it of the one
            that holds most of the mask; NaN where it expects nothing.
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
        self._corrects = patches.network.corrects
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
        # Clicks at once have no order; a fixed one gives the same mask wherever they come from.
        new = [_Click(voxel, positive) for voxel in sorted(tuple(int(index) for index in voxel) for voxel in voxels)]
        self._check(new, positive=positive)
        first = not self._clicks and bool(np.isnan(self.logits).all())
        self._changes.append(_Change([], len(self._clicks), len(self._starts), self.expected_dice))
        self._clicks += new
        with torch.inference_mode():
            if first:
                ratings = self._answer_first(np.array([click.voxel for click in new]))
            else:
                middles = {self._patch_for(click.voxel): click.voxel for click in new}
                ratings = [self._correct(start, middle) for start, middle in middles.items()]
        self.expected_dice = max(ratings).expected_dice

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

    def _answer_first(self, voxels: NDArray[np.int64]) -> list[_Rating]:
        """As prediction does: patches in a window around the clicks."""
        origin = place_window(voxels, self.window_size, self._within)
        points = torch.from_numpy(voxels - np.array(origin)).to(self.patches.device)
        ratings = []

        def answer(start: tuple[int, ...], clicks: Tensor) -> Tensor:
            in_image = tuple(a + b for a, b in zip(origin, start, strict=True))
            self._starts.append(in_image)
            signed = [_Click(tuple(voxel), True) for voxel in clicks.tolist()]
            logits, rating = self._answer(in_image, signed, previous=False)
            ratings.append(rating)
            return logits

        logit = grow(answer, points, self.window_size, self.patches.network.patch_size).cpu().numpy()
        self._overwrite(origin, keep_clicked(logit, points.cpu().numpy()) if self.one_component else logit)
        return ratings

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

    def _correct(self, start: Start, middle: Voxel) -> _Rating:
        """Write a patch's answer; one around the click where the change would end at a face of the known patch."""
        logit, rating = self._corrected(start)
        around = place_window(np.array([middle]), self.patches.network.patch_size, self._within)
        if start != around and self._ends_at_a_face(start, logit):
            self._starts.append(around)
            start, (logit, rating) = around, self._corrected(around)
        self._overwrite(start, logit)
        return rating

    def _corrected(self, start: Start) -> tuple[NDArray[np.float32], _Rating]:
        """(D, H, W), the logit of a patch for all of its clicks and the mask so far; and how good it is."""
        logits, rating = self._answer(start, self._clicks_in(start), previous=True)
        return (logits[1] - logits[0]).float().cpu().numpy(), rating

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

    def _answer(self, start: Start, clicks: Sequence[_Click], *, previous: bool) -> tuple[Tensor, _Rating]:
        """(2, D, H, W) logits of a patch, and how good they are."""
        network, device = self.patches.network, self.patches.device
        coords = torch.tensor([[click.voxel for click in clicks]], device=device)  # (1, N, 3)
        prompt: dict[str, Any] = network.label_prompt(self.label_head, device)
        encoded = self.patches.encoded(start)
        if not self._corrects:
            return network.decode(encoded, coords, **prompt)[0], _Rating(0, float("nan"))
        prompt["point_labels"] = torch.tensor([[int(click.positive) for click in clicks]], device=device)
        if previous:
            before = self._before(start)[None, None].to(device)
            logits, expected = network.decode_and_rate(encoded, coords, previous_logits=before, **prompt)
        else:
            logits, expected = network.decode_first(encoded, coords, **prompt)
        return logits[0], _Rating(int((logits[0, 1] > logits[0, 0]).sum()), float(expected[0]))

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


def correct_window(
    network: Any,
    image: NDArray[np.float32],
    interactions: Iterable[Interaction],
    *,
    label_head: int,
    window_size: Sequence[int],
    previous_mask: NDArray[np.bool_] | None = None,
    one_component: bool = False,
) -> CorrectableMask:
    """Segment one object in a window of a scan, interaction by interaction.

    Args:
        network: A ``PromptedNetwork`` in evaluation mode.
        image: (C, D, H, W), preprocessed.
        interactions: In their order, in voxels of the window.
        label_head: Number of the object's label, background counts.
        window_size: (D, H, W) that the first interaction's patches may cover.
        previous_mask: (D, H, W) bool, a mask to correct, or None.
        one_component: As in ``CorrectableMask``.

    Raises:
        UserError: As ``CorrectableMask.click``.
    """
    mask = CorrectableMask(
        PatchMemory(network, image),
        label_head=label_head,
        window_size=window_size,
        previous_mask=previous_mask,
        one_component=one_component,
        inside=True,
    )
    for interaction in interactions:
        mask.click(interaction.voxels, positive=interaction.positive)
    return mask
