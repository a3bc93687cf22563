"""Trainers that ``nnUNetv2_train -tr`` finds: every class of these modules whose name says that it is one."""

from typing import Any

from nnunetv2_promise.trainers import (
    ablations,
    comparison,
    interactive,
    interactive_unet,
    kept_unet,
    lengths,
    limited,
    promise,
)
from nnunetv2_promise.trainers.restartable import trainers_of

TRAINERS = {
    trainer.__name__: trainer
    for trainer in trainers_of(
        promise, interactive, interactive_unet, kept_unet, lengths, ablations, comparison, limited
    )
}
__all__ = list(TRAINERS)


def __getattr__(name: str) -> Any:
    """A trainer by its name."""
    if name in TRAINERS:
        return TRAINERS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
