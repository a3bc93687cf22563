"""What makes stock ``nnUNetv2_predict`` follow prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_promise.inference.clicked_component import keep_clicked
from nnunetv2_promise.inference.composition import MaskComposition
from nnunetv2_promise.inference.growth import BACKGROUND_LOGIT
from nnunetv2_promise.inference.object_faults import describe, window_faults
from nnunetv2_promise.inference.placement import Window, WindowLayout, overlap
from nnunetv2_promise.inference.preprocessor import PromptPreprocessor
from nnunetv2_promise.inference.tile_code import VOTE_CHANNELS, decode_vote
from nnunetv2_promise.planning.prompt_settings import PromptSettings

logger = logging.getLogger(__name__)

Resample = Callable[..., Any]


def follow_prompts(
    plans: PlansManager, configuration: ConfigurationManager, kinds: Collection[str] = ("points",)
) -> None:
    """Give nnU-Net's two objects classes that follow prompts.

    nnU-Net's predictor has no other hook for preprocessing and export: it hands these very objects to
    ``build_network_architecture``, later asks them for its preprocessor, its tile size, its number of channels and its
    resampling, and pickles them into its workers. ``ignore_prompts`` undoes it, for training.

    Args:
        plans: nnU-Net's plans.
        configuration: The configuration.
        kinds: The kinds of prompts that the model takes; keys of ``prompts.kinds.KINDS``.
    """
    configuration.__class__ = PromptConfigurationManager
    configuration.prompt_kinds = tuple(kinds)
    plans.__class__ = PromptPlansManager


def ignore_prompts(plans: PlansManager, configuration: ConfigurationManager) -> None:
    """Give the two objects nnU-Net's own classes back."""
    configuration.__class__ = ConfigurationManager
    plans.__class__ = PlansManager


class PromptConfigurationManager(ConfigurationManager):
    """nnU-Net's configuration of a promptable model at prediction.

    Attributes:
        prompt_kinds: The kinds of prompts that the model takes.
    """

    prompt_kinds: tuple[str, ...]

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
        target = PromptSettings.from_configuration(self.configuration).target
        return WindowResampling(super().resampling_fn_probabilities, one_component=target == "object")


class PromptPlansManager(PlansManager):
    """nnU-Net's plans of a promptable model at prediction."""

    @property
    def label_manager_class(self) -> type[PromptLabelManager]:
        """Makes label maps of windows."""
        return PromptLabelManager


class PromptLabelManager(LabelManager):
    """nnU-Net's labels of a promptable model at prediction: a tile answers for one object, whatever its label."""

    @property
    def num_segmentation_heads(self) -> int:
        """Channels of a vote; they do not grow with the labels, nor does the memory of the sliding window."""
        return VOTE_CHANNELS

    def convert_logits_to_segmentation(self, predicted_logits: VotedWindows) -> np.ndarray:
        """(D, H, W) label map of the region that holds all windows."""
        return predicted_logits.compose(len(self.all_labels)).labels

    def apply_inference_nonlin(self, logits: VotedWindows) -> torch.Tensor:
        """(heads, D, H, W) float32 probabilities of the region that holds all windows."""
        return torch.from_numpy(logits.compose(len(self.all_labels), keep_logits=True).probabilities())

    def convert_probabilities_to_segmentation(self, predicted_probabilities: torch.Tensor) -> torch.Tensor:
        """(D, H, W) label map."""
        return predicted_probabilities.argmax(0)


class WindowResampling:
    """nnU-Net's resampling of logits, which leaves the windows of a case for later, when they are composed.

    Args:
        resample: nnU-Net's function for logits.
        one_component: Whether a mask is the component that was clicked.
    """

    def __init__(self, resample: Resample, *, one_component: bool = False) -> None:
        self.resample = resample
        self.one_component = one_component

    def __call__(
        self,
        logits: np.ndarray | torch.Tensor,
        new_shape: Sequence[int],
        current_spacing: Sequence[float],
        new_spacing: Sequence[float],
    ) -> np.ndarray | torch.Tensor | VotedWindows:
        """Logits of the region that holds all windows.

        Args:
            logits: (2, n * D, H, W) averaged votes.
            new_shape: Shape of the region, with its windows.
            current_spacing: The network's spacing in mm.
            new_spacing: The scan's spacing in mm.
        """
        if not isinstance(new_shape, WindowLayout):
            return self.resample(logits, new_shape, current_spacing, new_spacing)
        spacings = tuple(current_spacing), tuple(new_spacing)
        return VotedWindows(np.asarray(logits), new_shape, self.resample, *spacings, one_component=self.one_component)


@dataclass(frozen=True)
class VotedWindows:
    """The windows of a case as nnU-Net's export gets them.

    Attributes:
        votes: (2, n * D, H, W) averaged votes.
        layout: Where the windows lie.
        resample: nnU-Net's function for logits.
        network_spacing_mm: Of the votes.
        scan_spacing_mm: Of the scan.
        one_component: Whether a mask is the component that was clicked.
    """

    votes: np.ndarray
    layout: WindowLayout
    resample: Resample
    network_spacing_mm: tuple[float, ...]
    scan_spacing_mm: tuple[float, ...]
    one_component: bool = False

    def compose(self, heads: int, *, keep_logits: bool = False) -> MaskComposition:
        """One mask of the region that holds all windows; says which objects look wrong."""
        composed = MaskComposition(tuple(self.layout), heads, keep_logits=keep_logits)
        for window, logit in self._windows():
            faults = window_faults(window, logit)
            if faults:
                logger.warning(describe(window.name, faults))
            crop = to_scan(logit, window, self.resample, self.network_spacing_mm, self.scan_spacing_mm)
            composed.add(window.label_head, self.layout.place(window), crop)
        return composed

    def _windows(self) -> Iterator[tuple[Window, np.ndarray]]:
        for number, window in enumerate(self.layout.windows):
            length = window.size[0]
            logit = decode_vote(self.votes[:, number * length : (number + 1) * length])
            whole = window.corrected or not self.one_component  # parts of a corrected mask are what the user wants
            yield window, logit if whole else keep_clicked(logit, window.points)


def to_scan(
    logit: np.ndarray,
    window: Window,
    resample: Resample,
    network_spacing_mm: Sequence[float],
    scan_spacing_mm: Sequence[float],
) -> np.ndarray:
    """A window's logit on the scan's grid.

    Args:
        logit: (D, H, W), NaN where no patch looked.
        window: The window.
        resample: nnU-Net's function for logits.
        network_spacing_mm: Of ``logit``.
        scan_spacing_mm: Of the result.

    Returns:
        float32, of the shape of the window's box.
    """
    resampled = np.full((1, *window.resampled_shape), BACKGROUND_LOGIT, np.float32)
    in_window, in_crop = overlap(window.start, window.size, window.resampled_shape)
    resampled[0][in_crop] = np.nan_to_num(logit[in_window], nan=BACKGROUND_LOGIT)
    shape = [high - low for low, high in window.box]
    return np.asarray(resample(resampled, shape, network_spacing_mm, scan_spacing_mm))[0]
