"""What the plans say about training with corrections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from nnunetv2_promise.errors import UserError

Density = Literal["central", "uniform"]


@dataclass(frozen=True)
class CorrectionSettings:
    """The key ``promise.interactive`` of a configuration; every entry may be left out.

    Attributes:
        iterations: Decodings of each encoded patch, the first click among them.
        click_density: How later clicks lie in an error region: ``"central"`` or ``"uniform"``.
        without_click_share: Share of the later decodings that get no new click, only the previous mask.
        confidence_weight: Weight of the squared error of the Dice that the network expects; 0 does not train it.
    """

    iterations: int = 5
    click_density: Density = "central"
    without_click_share: float = 0.1
    confidence_weight: float = 0.1

    def __post_init__(self) -> None:
        """Check each value."""
        rules = {
            "iterations": (isinstance(self.iterations, int) and self.iterations >= 1, "a whole number, 1 or more"),
            "click_density": (self.click_density in get_args(Density), "'central' or 'uniform'"),
            "without_click_share": (_between(self.without_click_share, 0, 1), "a number from 0 to 1"),
            "confidence_weight": (_between(self.confidence_weight, 0, float("inf")), "a number, 0 or more"),
        }
        for name, (right, allowed) in rules.items():
            if not right:
                raise UserError(f"promise.interactive.{name} of the plans is {getattr(self, name)!r}; use {allowed}.")

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, Any]) -> CorrectionSettings:
        """Read a configuration of the plans.

        Raises:
            UserError: If an entry is unknown or its value has no meaning.
        """
        entries = configuration.get("promise", {}).get("interactive", {})
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(entries) - set(known))
        if unknown:
            raise UserError(f"promise.interactive of the plans has '{unknown[0]}'; it may have {', '.join(known)}.")
        return cls(**entries)


def _between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
