"""What the plans say about a clickable U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning.prompt_settings import Placement

CLICKABLE_UNET = "nnunetv2_promise.network_architectures.InteractiveUNet"
UNETS = (
    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
)
_OURS = ("unet", "image_channels", "labels", "prompts", "prompt_features")
INTERACTIVE_KEY = "interactive"
"""Key of a configuration; its value may hold ``start_from``, a checkpoint to fine-tune, ``placement``, see
``engine_placement``, and the planner's reasons."""


def prompt_form(configuration: Mapping[str, Any]) -> str:
    """How interactions enter the network of a configuration: ``"decoder"`` or ``"input"``.

    Raises:
        UserError: If the configuration was not planned for a clickable U-Net.
    """
    if INTERACTIVE_KEY not in configuration:
        raise UserError(
            "These plans are not for a clickable U-Net (voxel space, z-score); plan with "
            "nnUNetv2_promise_plan_and_preprocess -pl InteractiveUNetPlanner and train with -p InteractiveUNetPlans."
        )
    architecture = configuration["architecture"]
    if architecture["network_class_name"] != CLICKABLE_UNET:
        return "input"  # nnU-Net's own class, as in published models of nnInteractive
    return architecture["arch_kwargs"].get("prompts", "decoder")


def plain_unet(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class and arguments of the U-Net that a configuration plans, without what makes it clickable."""
    name, arguments = (configuration["architecture"][key] for key in ("network_class_name", "arch_kwargs"))
    return arguments.get("unet", name), {key: value for key, value in arguments.items() if key not in _OURS}


def engine_placement(configuration: Mapping[str, Any]) -> Placement:
    """Where our commands put the patch around an interaction in nnInteractive's engine.

    Returns:
        ``"centred"`` on it, as the engine does by itself, or moved ``"inside"`` the scan.

    Raises:
        UserError: If the plans name another place.
    """
    found = configuration.get(INTERACTIVE_KEY, {}).get("placement", "centred")
    if found not in get_args(Placement):
        allowed = ", ".join(map(repr, get_args(Placement)))
        raise UserError(f"The plans' {INTERACTIVE_KEY}.placement is {found!r}; use one of {allowed}.")
    return found
