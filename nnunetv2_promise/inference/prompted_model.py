"""A trained model in memory, answering for windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.clicked_component import keep_clicked
from nnunetv2_promise.inference.configuration import ignore_prompts
from nnunetv2_promise.inference.correctable_mask import correct_window
from nnunetv2_promise.inference.correction_code import Corrections
from nnunetv2_promise.inference.growth import grow, patch_box
from nnunetv2_promise.inference.interactions import Interaction
from nnunetv2_promise.inference.mirroring import mirror, mirror_points, mirrors
from nnunetv2_promise.inference.model_folder import ModelFolder, read_checkpoint
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.trainer_search import find_trainer

# Encoded patches of a window that are kept while several prompts are decoded; one of ViT-B at 128^3 has 170 MB.
KEPT_ENCODINGS = 4


@dataclass(frozen=True)
class WindowPrompt:
    """The clicks on one object in a window.

    Attributes:
        label_head: Number of the object's label.
        points: (n, 3) click voxels in the window.
    """

    label_head: int
    points: Sequence[Sequence[int]]


class WindowAnswer(NamedTuple):
    """What the folds and mirror images say of one object in a window, in the mean.

    Attributes:
        logit: (D, H, W) float32, foreground against background; NaN where no patch of any fold looked.
        expected_dice: The Dice that the network expects of its mask; NaN if it expects nothing.
    """

    logit: np.ndarray
    expected_dice: float


class PromptedModel:
    """A network with the weights of one or several folds.

    Args:
        network: The network, on its device.
        weights: State dicts of the folds; none uses the network as it is.
        plans: nnU-Net's plans.
        configuration: The configuration.
        dataset_json: Content of ``dataset.json``.
        mirror_axes: Array axes along which windows are mirrored, too.
    """

    def __init__(
        self,
        network: PromptedNetwork,
        weights: Sequence[Mapping[str, Tensor]],
        plans: PlansManager,
        configuration: ConfigurationManager,
        dataset_json: dict[str, Any],
        mirror_axes: Sequence[int] = (),
    ) -> None:
        self.network = network.eval()
        self.plans = plans
        self.configuration = configuration
        self.dataset_json = dataset_json
        self.heads: int = len(plans.get_label_manager(dataset_json).all_labels)
        settings = PromptSettings.from_configuration(configuration.configuration)
        self.window_size = settings.window_size
        self.one_component = settings.target == "object"
        self.inside = settings.placement == "inside"
        self._weights = weights
        self._mirror_axes = tuple(mirror_axes)
        if len(weights) == 1:
            network.load_state_dict(weights[0])

    @classmethod
    def load(cls, folder: ModelFolder, device: torch.device, *, use_mirroring: bool = True) -> PromptedModel:
        """Load a checked model folder.

        Args:
            folder: The model.
            device: For its weights.
            use_mirroring: Whether mirror images vote, along the axes that training mirrored.

        Raises:
            UserError: If a checkpoint cannot be read, or its trainer is not found.
        """
        contents = [read_checkpoint(path) for path in folder.checkpoints]
        trainer = find_trainer(str(contents[0]["trainer_name"]))
        if trainer is None:
            raise UserError(f"The trainer {contents[0]['trainer_name']} is not found; add its folder to the variable "
                            "nnUNet_extTrainer.")  # fmt: skip
        plans = PlansManager(folder.plans)
        configuration = plans.get_configuration(folder.configuration)
        channels = determine_num_input_channels(plans, configuration, folder.dataset_json)
        heads = plans.get_label_manager(folder.dataset_json).num_segmentation_heads
        network = trainer.build_network_architecture(plans, configuration, channels, heads, False).to(device)
        ignore_prompts(plans, configuration)
        weights = [content["network_weights"] for content in contents]
        axes = (use_mirroring and contents[0].get("inference_allowed_mirroring_axes")) or ()
        return cls(network, weights, plans, configuration, folder.dataset_json, axes)

    @torch.inference_mode()
    def answer(self, image: np.ndarray, prompts: Sequence[WindowPrompt]) -> list[WindowAnswer]:
        """Segment the objects of one window.

        A patch that several prompts need is encoded once. Folds and mirror images vote only on what they saw.

        Args:
            image: (C, D, H, W) float32, a preprocessed window.
            prompts: One for each object.

        Returns:
            One for each object.
        """
        device = next(self.network.parameters()).device
        window = torch.from_numpy(image).to(device)
        votes = [_MeanOfSeen(window.shape[1:]) for _ in prompts]
        for axes in self._views():
            found = self._answer_view(mirror(window, axes), prompts, axes)
            for vote, (logit, expected_dice) in zip(votes, found, strict=True):
                vote.add(mirror(logit, axes).cpu().numpy(), expected_dice)
        answers = [vote.mean() for vote in votes]
        if not self.one_component:
            return answers
        return [
            answer._replace(logit=keep_clicked(answer.logit, prompt.points))
            for answer, prompt in zip(answers, prompts, strict=True)
        ]

    @torch.inference_mode()
    def correct(self, image: np.ndarray, label_head: int, corrections: Corrections) -> WindowAnswer:
        """Segment one object click by click: each click after the first one corrects the mask so far.

        Args:
            image: (C, D, H, W) float32, a preprocessed window.
            label_head: Number of the object's label.
            corrections: What is asked; the first click is positive if there is no mask.

        Raises:
            UserError: If the first click is negative though there is no mask, or the network cannot correct.
        """
        shape = image.shape[1:]
        votes = _MeanOfSeen(shape)
        before = corrections.previous_mask
        for axes in self._views():
            mask = correct_window(
                self.network,
                mirror(torch.from_numpy(image), axes).numpy(),
                [
                    Interaction(mirror_points(torch.as_tensor(voxels), shape, axes).tolist(), positive)
                    for voxels, positive in corrections.interactions
                ],
                label_head=label_head,
                window_size=self.window_size,
                previous_mask=None if before is None else mirror(torch.from_numpy(before), axes).numpy(),
                one_component=self.one_component,
            )
            votes.add(mirror(torch.from_numpy(mask.logits), axes).numpy(), mask.expected_dice)
        return votes.mean()

    def _views(self) -> Iterator[tuple[int, ...]]:
        """The mirrored axes of each view of a window that votes; every fold's weights are loaded for its own."""
        for weights in self._weights if len(self._weights) > 1 else [None]:
            if weights is not None:
                self.network.load_state_dict(weights)
            yield from mirrors(self._mirror_axes)

    @property
    def corrects(self) -> bool:
        """Whether the network takes one click after the other, negative ones as well."""
        return self.network.corrects

    def _answer_view(
        self, window: Tensor, prompts: Sequence[WindowPrompt], axes: Sequence[int]
    ) -> Iterator[tuple[Tensor, float]]:
        """Logits and expected Dice of one mirror image of a window, in its own orientation."""
        patches = _EncodedPatches(self.network, window) if len(prompts) > 1 or self.corrects else None
        for prompt in prompts:
            points = torch.as_tensor(np.asarray(prompt.points), device=window.device)
            points = mirror_points(points, window.shape[1:], axes)
            if patches is None:
                yield self.network.segment_window(window, points, prompt.label_head), float("nan")
            else:
                ratings: list[tuple[int, float]] = []
                answer = patches.answer(prompt.label_head, ratings if self.corrects else None)
                logit = grow(answer, points, window.shape[1:], self.network.patch_size)
                yield logit, max(ratings, default=(0, float("nan")))[1]


class _MeanOfSeen:
    """The mean over folds of what they saw, and of how good they expect it to be."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._total = np.zeros(tuple(shape), np.float32)
        self._count = np.zeros(tuple(shape), np.uint16)
        self._expected: list[float] = []

    def add(self, logit: np.ndarray, expected_dice: float) -> None:
        seen = ~np.isnan(logit)
        self._total[seen] += logit[seen]
        self._count += seen
        self._expected.append(expected_dice)

    def mean(self) -> WindowAnswer:
        with np.errstate(invalid="ignore"):
            return WindowAnswer(self._total / self._count, float(np.mean(self._expected)))  # 0 / 0 is NaN


class _EncodedPatches:
    """The patches of a window, encoded when they are first needed; the most recent ones are kept."""

    def __init__(self, network: PromptedNetwork, image: Tensor) -> None:
        self._network = network
        self._image = image
        self._kept: dict[tuple[int, ...], Any] = {}

    def answer(
        self, label_head: int, ratings: list[tuple[int, float]] | None = None
    ) -> Callable[[tuple[int, ...], Tensor], Tensor]:
        """What ``grow`` asks, for one label; of each patch notes its mask's voxels and the Dice expected of it."""
        prompt = self._network.label_prompt(label_head, self._image.device)

        def decode(start: tuple[int, ...], clicks: Tensor) -> Tensor:
            if ratings is None:
                return self._network.decode(self._encoded(start), clicks[None], **prompt)[0]
            signs = torch.ones_like(clicks[None, :, 0])
            (logits,), expected = self._network.decode_first(
                self._encoded(start), clicks[None], point_labels=signs, **prompt
            )
            ratings.append((int((logits[1] > logits[0]).sum()), float(expected[0])))
            return logits

        return decode

    def _encoded(self, start: tuple[int, ...]) -> Any:
        encoded = self._kept.pop(start, None)
        if encoded is None:
            patch = self._image[(slice(None), *patch_box(start, self._network.patch_size))]
            encoded = self._network.encode(patch[None])
        self._kept[start] = encoded  # the newest comes last
        if len(self._kept) > KEPT_ENCODINGS:
            del self._kept[next(iter(self._kept))]
        return encoded
