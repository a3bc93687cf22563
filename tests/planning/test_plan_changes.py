"""A training is resumed with the plans that it began with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning.plan_changes import check_same_plans

PLANS: dict[str, Any] = {
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0}},
    "configurations": {
        "3d_fullres": {"patch_size": [32, 32, 32], "spacing": [1.0, 1.0, 1.0], "promise": {"reasons": ["a"]}},
        "mine": {"patch_size": [8, 8, 8]},
    },
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda plans: plans["configurations"]["3d_fullres"].update(patch_size=[32, 32, 40]), "patch_size"),
        (lambda plans: plans["configurations"]["3d_fullres"].update(spacing=[1.0, 1.0, 2.0]), "spacing"),
        (lambda plans: plans["foreground_intensity_properties_per_channel"]["0"].update(mean=2.0), "foreground_int"),
        (lambda plans: plans["configurations"].pop("3d_fullres"), "patch_size, spacing"),
    ],
)
def test_changed_plans_are_refused(change: Callable[[dict[str, Any]], object], named: str) -> None:
    now = copy.deepcopy(PLANS)
    change(now)
    with pytest.raises(UserError, match=rf"model\.pth was trained with other plans \({named}"):
        check_same_plans(PLANS, now, "3d_fullres", checkpoint="model.pth")


def test_other_reasons_and_other_configurations_do_not_count() -> None:
    now = copy.deepcopy(PLANS)
    now["configurations"]["3d_fullres"]["promise"]["reasons"] = ["b"]
    now["configurations"]["mine"]["patch_size"] = [16, 16, 16]
    check_same_plans(PLANS, now, "3d_fullres", checkpoint="model.pth")
