"""nnInteractive's engine with its patches moved inside the scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnunetv2_promise.inference.placement import move_inside

if TYPE_CHECKING:
    from nnInteractive.inference.inference_session import nnInteractiveInferenceSession


def move_patches_inside(session: nnInteractiveInferenceSession) -> None:
    """Let an engine move the patch around an interaction inside the scan.

    The engine centres every patch on the newest interaction and has no option for this. In a scan that is as small as a
    patch, up to half of a centred one lies outside, and a U-Net of nnU-Net's sees as little of the scan. Patches that
    AutoZoom enlarges stay centred.

    Args:
        session: The engine, with a model.
    """
    build, size = session._build_network_input, session.configuration_manager.patch_size

    def build_inside(centre: Sequence[int], zoom_out_factor: float) -> Any:
        if zoom_out_factor == 1:
            shape = session.preprocessed_image.shape[1:]
            start = [place - length // 2 for place, length in zip(centre, size, strict=True)]
            moved = move_inside(start, size, shape)
            centre = [begin + length // 2 for begin, length in zip(moved, size, strict=True)]
        return build(centre, zoom_out_factor)

    session._build_network_input = build_inside
