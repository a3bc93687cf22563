"""What the trainers cannot do, said before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def check_supported(plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]) -> None:
    """Refuse what cannot work.

    Raises:
        NotImplementedError: For 2D configurations, cascades and region-based labels, with the reason.
    """
    manager = PlansManager(dict(plans)).get_configuration(configuration)
    if len(manager.patch_size) != 3:
        raise NotImplementedError(
            f"ProMISe segments in 3D; configuration '{configuration}' has patches with {len(manager.patch_size)} axes. "
            "Train 3d_fullres."
        )
    if manager.previous_stage_name is not None:
        raise NotImplementedError(
            f"Configuration '{configuration}' is the second stage of a cascade; ProMISe gets its location from clicks "
            "and has no use for a first stage. Train 3d_fullres."
        )
    regions = [name for name, value in dataset_json["labels"].items() if isinstance(value, (list, tuple))]
    if regions:
        raise NotImplementedError(
            f"Region-based labels ({', '.join(regions)}) are not supported: a click selects one label, and regions "
            "overlap. Plan the dataset with one of its labels, or with labels merged by --labels."
        )
