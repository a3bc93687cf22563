"""One mask of a case from the logits of its windows: the only place where windows and labels compete."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT


class MaskComposition:
    """Composes the foreground logits of windows on one grid.

    Where windows of one label overlap, the larger logit counts. Labels compete by their logits against background,
    whose logit is 0, so that the most probable one wins; of equally probable ones the first. Memory does not grow with
    the number of labels unless their probabilities are wanted.

    Args:
        shape: (D, H, W) of the grid.
        heads: Background and every foreground label.
        keep_logits: Keep the logits of every label, for probabilities.
        dtype: Of those logits.

    Attributes:
        labels: (D, H, W) uint8 or uint16, the label in each voxel.
        best: (D, H, W) float32, its foreground logit; 0 where it is background.
        logits: (heads, D, H, W), background 0; None unless kept.
    """

    def __init__(
        self, shape: Sequence[int], heads: int, *, keep_logits: bool = False, dtype: type[np.floating] = np.float32
    ) -> None:
        # Zeros are pages that the system provides when they are first written: what no window covers costs nothing.
        self.labels = np.zeros(tuple(shape), np.uint8 if heads <= 256 else np.uint16)
        self.best = np.zeros(tuple(shape), np.float32)
        self.logits: np.ndarray | None = None
        if keep_logits:
            self.logits = np.full((heads, *shape), BACKGROUND_LOGIT, dtype)
            self.logits[0] = 0

    def add(self, label_head: int, place: tuple[slice, ...], logit: np.ndarray) -> None:
        """Add what one window says.

        Args:
            label_head: Number of the window's label.
            place: Where the window lies on the grid.
            logit: Foreground logit there, NaN where nothing was looked at.
        """
        labels, best = self.labels[place], self.best[place]
        wins = (logit > best) | ((logit == best) & (label_head < labels))
        labels[wins] = label_head
        best[wins] = logit[wins]
        if self.logits is not None:
            target = self.logits[label_head][place]
            np.fmax(target, logit, out=target, casting="same_kind")

    def require_logits(self) -> np.ndarray:
        """(heads, D, H, W), background 0.

        Raises:
            ValueError: If the logits were not kept.
        """
        if self.logits is None:
            raise ValueError("The logits of every label are needed; compose with keep_logits=True.")
        return self.logits

    def probabilities(self) -> np.ndarray:
        """(heads, D, H, W) float32, which sum to one.

        Raises:
            ValueError: If the logits were not kept.
        """
        return softmax(self.require_logits().astype(np.float32, copy=False), axis=0)
