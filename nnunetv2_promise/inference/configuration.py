"""The configuration that makes stock ``nnUNetv2_predict`` follow prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT
from nnunetv2_promise.inference.placement import Window, WindowLayout, overlap
from nnunetv2_promise.inference.preprocessor import PromptPreprocessor
from nnunetv2_promise.inference.tile_code import decode_vote
from nnunetv2_promise.planning.prompt_settings import PromptSettings

Resample = Callable[..., np.ndarray | torch.Tensor]


class PromptConfigurationManager(ConfigurationManager):
    """nnU-Net's configuration of a promptable model at prediction.

    nnU-Net's predictor asks this object how to preprocess, how large a tile is, and how to resample logits; it pickles
    the object into its workers. ``ProMISeTrainer.build_network_architecture`` gives the predictor's instance this
    class.
    """

    @property
    def preprocessor_class(self) -> type[PromptPreprocessor]:
        """Reads prompts and cuts windows."""
        return PromptPreprocessor

    @property
    def patch_size(self) -> list[int]:
        """A tile is one window; the network cuts its patches from it."""
        return list(PromptSettings.from_configuration(self.configuration).window_size)

    @property
    def resampling_fn_probabilities(self) -> Resample:
        """Puts the windows back into the scan; nnU-Net's function for everything else."""
        return WindowResampling(super().resampling_fn_probabilities)


class WindowResampling:
    """Composes the logits of a case from the votes of its windows.

    Each window's foreground logit is resampled to the scan's grid by nnU-Net's function. Where windows of one label
    overlap, the larger logit counts; windows of several labels compete by their logits against background, so the most
    probable label wins.

    Args:
        resample: nnU-Net's function for logits.
    """

    def __init__(self, resample: Resample) -> None:
        self.resample = resample

    def __call__(
        self,
        logits: np.ndarray | torch.Tensor,
        new_shape: Sequence[int],
        current_spacing: Sequence[float],
        new_spacing: Sequence[float],
    ) -> np.ndarray | torch.Tensor:
        """Logits of the region that holds all windows.

        Args:
            logits: (heads, n * D, H, W) averaged votes.
            new_shape: Shape of the region, with its windows.
            current_spacing: The network's spacing in mm.
            new_spacing: The scan's spacing in mm.

        Returns:
            (heads, *new_shape) float32, background 0.
        """
        if not isinstance(new_shape, WindowLayout):
            return self.resample(logits, new_shape, current_spacing, new_spacing)
        votes = np.asarray(logits)
        composed = np.full((votes.shape[0], *new_shape), BACKGROUND_LOGIT, np.float32)
        composed[0] = 0
        for number, window in enumerate(new_shape.windows):
            length = window.size[0]
            logit = decode_vote(votes[:, number * length : (number + 1) * length], window.label_head)
            crop = self._to_scan(logit, window, current_spacing, new_spacing)
            place = tuple(
                slice(low - first, high - first)
                for (low, high), (first, _) in zip(window.box, new_shape.region, strict=True)
            )
            target = composed[window.label_head][place]
            np.maximum(target, crop, out=target)
        return composed

    def _to_scan(
        self, logit: np.ndarray, window: Window, current_spacing: Sequence[float], new_spacing: Sequence[float]
    ) -> np.ndarray:
        resampled = np.full((1, *window.resampled_shape), BACKGROUND_LOGIT, np.float32)
        in_window, in_crop = overlap(window.start, window.size, window.resampled_shape)
        resampled[0][in_crop] = logit[in_window]
        shape = [high - low for low, high in window.box]
        return np.asarray(self.resample(resampled, shape, current_spacing, new_spacing))[0]
