"""A training is resumed, and a model predicts, with the plans that it was trained with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.planning.plan_changes import check_plans_of_weights, check_same_plans

PLANS: dict[str, Any] = {
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0, "std": float("nan")}},
    "configurations": {
        "3d_fullres": {
            "patch_size": [32, 32, 32],
            "spacing": [1.0, 1.0, 1.0],
            "batch_size": 2,
            "architecture": {"arch_kwargs": {"labels": 2, "activation_checkpointing": False}},
            "promise": {"reasons": ["a"], "target": "object", "initial_lr": 1e-3, "window_size": [32, 32, 32]},
        },
        "mine": {"patch_size": [8, 8, 8]},
        "heir": {"inherits_from": "3d_fullres", "batch_size": 1},
    },
}
BEGUN = {"plans": PLANS, "dataset_json": {"labels": {"background": 0, "a": 1, "b": 2}, "channel_names": {"0": "CT"}}}

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    now = copy.deepcopy(BEGUN)
    change(now)
    return now


def full(content: dict[str, Any]) -> dict[str, Any]:
    return content["plans"]["configurations"]["3d_fullres"]


# What the weights mean: refused when a training resumes and at prediction.
MEANING = [
    (lambda now: full(now).update(patch_size=[32, 32, 40]), "patch_size"),
    (lambda now: full(now).update(spacing=[1.0, 1.0, 2.0]), "spacing"),
    (lambda now: full(now)["promise"].update(target="label"), "promise.target"),
    (lambda now: full(now)["promise"].pop("target"), "promise.target"),
    (lambda now: full(now)["architecture"]["arch_kwargs"].update(labels=1), "architecture.arch_kwargs.labels"),
    (
        lambda now: now["plans"]["foreground_intensity_properties_per_channel"]["0"].update(mean=2.0),
        "foreground_intensity_properties_per_channel",
    ),
    (lambda now: now["dataset_json"].update(labels={"background": 0, "a": 2, "b": 1}), "labels"),
    (lambda now: now["dataset_json"].update(channel_names={"0": "MR"}), "channel_names"),
]
# How weights are trained: refused only when a training resumes.
TRAINING = [
    (lambda now: full(now).update(batch_size=1), "batch_size"),
    (lambda now: full(now)["promise"].update(initial_lr=1e-4), "promise.initial_lr"),
    (lambda now: full(now)["promise"].update(interactive={"iterations": 3}), "promise.interactive.iterations"),
]
FREE = [
    lambda now: None,
    lambda now: full(now)["promise"].update(reasons=["b"]),
    lambda now: full(now)["promise"].update(window_size=(64, 64, 64)),
    lambda now: full(now).update(patch_size=(32, 32, 32)),
    lambda now: full(now)["architecture"]["arch_kwargs"].update(activation_checkpointing=True),
    lambda now: now["plans"].update(
        foreground_intensity_properties_per_channel={"0": {"std": float("nan"), "mean": 1.0}}
    ),
    lambda now: now["plans"]["configurations"]["mine"].update(patch_size=[16, 16, 16]),
]


def resume(now: dict[str, Any], configuration: str = "3d_fullres") -> None:
    check_same_plans(BEGUN, now, configuration, checkpoint="model.pth")


def predict(now: dict[str, Any], configuration: str = "3d_fullres") -> None:
    check_plans_of_weights(BEGUN, now, configuration, checkpoint="model.pth", folder="model")


@pytest.mark.parametrize(("change", "named"), [*MEANING, *TRAINING])
def test_training_resumes_with_the_same_plans_only(change: Change, named: str) -> None:
    with pytest.raises(UserError, match=rf"model\.pth was trained with other plans \({named} differ\); plan again"):
        resume(changed(change))


@pytest.mark.parametrize(("change", "named"), MEANING)
def test_prediction_refuses_plans_that_mean_something_else(change: Change, named: str) -> None:
    with pytest.raises(UserError, match=rf"model\.pth .* other plans than model holds \({named} differ\); restore"):
        predict(changed(change))


@pytest.mark.parametrize("change", FREE)
def test_what_does_not_touch_the_weights_may_change(change: Change) -> None:
    resume(changed(change))
    predict(changed(change))


@pytest.mark.parametrize(("change", "named"), TRAINING)
def test_prediction_does_not_care_how_weights_were_trained(change: Change, named: str) -> None:
    predict(changed(change))


def test_what_a_configuration_inherits_is_compared() -> None:
    now = changed(lambda now: full(now).update(spacing=[2.0, 1.0, 1.0]))
    with pytest.raises(UserError, match=r"\(spacing differ"):
        resume(now, "heir")
    resume(changed(lambda now: full(now).update(batch_size=4)), "heir")


def test_a_checkpoint_that_says_nothing_of_its_plans_is_not_compared() -> None:
    check_same_plans({}, BEGUN, "3d_fullres", checkpoint="model.pth")
