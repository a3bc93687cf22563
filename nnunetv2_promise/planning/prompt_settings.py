"""What the plans say about prompting, with defaults for stock nnU-Net plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning.architectures import CLICKABLE_CLASS, NETWORK_CLASS

Target = Literal["object", "label"]
Placement = Literal["centred", "inside"]
INSIDE_REASON = "Patches near the border are moved inside the scan, where they see more of it."

DEFAULT_SAM_CHECKPOINT = "vit_b"
PAPER_LEARNING_RATE = 4e-4
PAPER_FOREGROUND_SHARE = 0.5


@dataclass(frozen=True)
class PromptSettings:
    """Settings of one configuration.

    Attributes:
        patch_size: (D, H, W) voxels that the network sees.
        window_size: (D, H, W) voxels cropped around a prompt at prediction, at least a patch.
        architecture: Keyword arguments of ``ProMISe``.
        sam_checkpoint: Name or path of SAM weights; None trains from scratch.
        initial_lr: Learning rate of the first epoch.
        foreground_share: Share of training patches that are centred on foreground.
        target: What a click means in training: the clicked object (connected component), or its label in the patch.
        placement: Where the patch around a click lies: ``"centred"`` on it, with zeros beyond the scan (paper, section
            3.1), or moved ``"inside"`` the scan.
    """

    patch_size: tuple[int, ...]
    window_size: tuple[int, ...]
    architecture: dict[str, Any]
    sam_checkpoint: str | None
    initial_lr: float
    foreground_share: float
    target: Target
    placement: Placement

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> PromptSettings:
        """Read a configuration of the plans.

        Stock nnU-Net plans name another network and say nothing of prompts: they get SAM's ViT-B on nnU-Net's patch,
        with activation checkpointing, without which nnU-Net's usual patches and batches need 34 GiB and more.
        """
        patch_size = tuple(int(length) for length in configuration["patch_size"])
        planned = configuration["architecture"]
        ours = planned["network_class_name"] in (NETWORK_CLASS, CLICKABLE_CLASS)
        unplanned = {"encoder": DEFAULT_SAM_CHECKPOINT, "activation_checkpointing": True}
        architecture = dict(planned["arch_kwargs"]) if ours else unplanned
        architecture["patch_size"] = patch_size
        prompting = configuration.get("promise", {})
        return cls(
            patch_size=patch_size,
            window_size=tuple(int(length) for length in prompting.get("window_size", patch_size)),
            architecture=architecture,
            sam_checkpoint=prompting.get("sam_checkpoint", DEFAULT_SAM_CHECKPOINT),
            initial_lr=float(prompting.get("initial_lr", PAPER_LEARNING_RATE)),
            foreground_share=float(prompting.get("foreground_share", PAPER_FOREGROUND_SHARE)),
            target=_one_of("target", prompting.get("target", "object"), get_args(Target)),
            placement=placement_of(configuration),
        )


def placement_of(configuration: Mapping[str, Any]) -> Placement:
    """Where a configuration of the plans puts the patch around a click.

    Raises:
        UserError: If the plans name another place.
    """
    return _one_of("placement", configuration.get("promise", {}).get("placement", "centred"), get_args(Placement))


def _one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        raise UserError(f"The plans' promise.{key} is {value!r}; use one of {', '.join(map(repr, allowed))}.")
    return value
