"""Whether a training is resumed with the plans that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2_promise.errors import UserError

_OF_ALL = ("image_reader_writer", "transpose_forward", "foreground_intensity_properties_per_channel")


def check_same_plans(
    begun_with: Mapping[str, Any], now: Mapping[str, Any], configuration: str, *, checkpoint: str
) -> None:
    """Check that what decides on data and network has not changed since a checkpoint was written.

    Args:
        begun_with: The plans in the checkpoint.
        now: The plans that training would resume with.
        configuration: The configuration that is trained.
        checkpoint: The file, for the message.

    Raises:
        UserError: Naming what differs.
    """
    before = begun_with["configurations"].get(configuration, {})
    after = now["configurations"].get(configuration, {})
    changed = [key for key in sorted({*before, *after}) if key != "promise" and before.get(key) != after.get(key)]
    changed += [key for key in _OF_ALL if begun_with.get(key) != now.get(key)]
    if changed:
        raise UserError(
            f"{checkpoint} was trained with other plans ({', '.join(changed)} differ); plan again as then, or train "
            "from the beginning under another name with -overwrite_plans_name."
        )
