"""Whether weights and plans belong together: for a training that is resumed, for a second fold, for prediction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nnunetv2_promise.errors import UserError

_OF_ALL = ("image_reader_writer", "transpose_forward", "foreground_intensity_properties_per_channel")
_OF_DATASET = ("labels", "channel_names")

# They may change at any time: words, memory, and how far around a click prediction looks.
_FREE = (
    "promise.reasons",
    "promise.window_size",
    "interactive.reasons",
    "architecture.arch_kwargs.activation_checkpointing",
)
# What matters while weights are trained only.
_OF_TRAINING = (
    "batch_size",
    "batch_dice",
    "data_identifier",
    "median_image_size_in_voxels",
    "promise.initial_lr",
    "promise.foreground_share",
    "promise.sam_checkpoint",
    "promise.interactive",
    "interactive.start_from",
)


def check_same_plans(
    begun_with: Mapping[str, Any], now: Mapping[str, Any], configuration: str, *, checkpoint: str
) -> None:
    """Check that what decides on data, target and network has not changed since a checkpoint was written.

    Args:
        begun_with: ``plans`` and ``dataset_json`` of the checkpoint (``init_args``); what is missing is not compared.
        now: The same of what training would resume with.
        configuration: The configuration that is trained.
        checkpoint: The file, for the message.

    Raises:
        UserError: Naming what differs.
    """
    changed = changed_keys(begun_with, now, configuration)
    if changed:
        raise UserError(
            f"{checkpoint} was trained with other plans ({', '.join(changed)} differ); plan again as then, plan under "
            "another name with -overwrite_plans_name, or remove the old model's folder."
        )


def check_plans_of_weights(
    trained_with: Mapping[str, Any], now: Mapping[str, Any], configuration: str, *, checkpoint: str, folder: str
) -> None:
    """Check that a model folder's files still say what its weights were trained with.

    Args:
        trained_with: As ``begun_with`` of :func:`check_same_plans`.
        now: The same of the model folder.
        configuration: The configuration that is predicted with.
        checkpoint: The file, for the message.
        folder: The model folder, for the message.

    Raises:
        UserError: Naming what differs.
    """
    changed = [key for key in changed_keys(trained_with, now, configuration) if not _is_part_of(key, _OF_TRAINING)]
    if changed:
        raise UserError(
            f"{checkpoint} was trained with other plans than {folder} holds ({', '.join(changed)} differ); restore the "
            "plans.json and dataset.json of that training, or train again."
        )


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any], configuration: str) -> list[str]:
    """What differs between plans, and between labels and channels of datasets.

    Args:
        before: Has ``plans`` and ``dataset_json``; what is missing is not compared.
        now: The same.
        configuration: The one configuration that is compared.

    Returns:
        Keys in dotted form, such as ``promise.target``.
    """
    changed = []
    if before.get("plans") is not None:
        old, new = before["plans"], now["plans"]
        first, second = (dict(_flat(_resolved(content, configuration))) for content in (old, new))
        changed += [
            key for key in sorted({*first, *second}) if _differ(first, second, key) and not _is_part_of(key, _FREE)
        ]
        changed += [key for key in _OF_ALL if _differ(old, new, key)]
    if before.get("dataset_json") is not None:
        changed += [key for key in _OF_DATASET if _differ(before["dataset_json"], now["dataset_json"], key)]
    return changed


def _resolved(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    own = dict(plans["configurations"].get(configuration, {}))
    parent = own.pop("inherits_from", None)
    return own if parent is None else {**_resolved(plans, parent), **own}


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _differ(first: Mapping[str, Any], second: Mapping[str, Any], key: str) -> bool:
    """Whether values differ; tuples, as code makes them, equal the lists of JSON, and NaN equals itself."""
    values = first.get(key), second.get(key)
    return values[0] != values[1] and len({json.dumps(value, sort_keys=True, default=str) for value in values}) == 2


def _is_part_of(key: str, groups: tuple[str, ...]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)
