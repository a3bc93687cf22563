"""What is compared: trainers with their plans, masks and models of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunetv2_promise.benchmark.methods import choose_masks, choose_methods, choose_models, start_clickable_from
from nnunetv2_promise.errors import UserError


def test_a_trainer_has_the_plans_of_its_kind_unless_they_are_named() -> None:
    named = ("nnUNetTrainer", "ProMISeTrainer", "InteractiveUNetTrainer", "InteractiveUNetTrainer:MyPlans")
    plain, promise, unet, own = choose_methods(named, prompted_plans="ProMISeTinyPlans", limited=False)
    assert (plain.plans, plain.prompted, plain.engine) == ("nnUNetPlans", False, False)
    assert (promise.plans, promise.prompted, promise.engine) == ("ProMISeTinyPlans", True, False)
    assert (unet.plans, unet.prompted, unet.engine) == ("InteractiveUNetPlans", True, True)
    assert own.plans == "MyPlans"
    assert all(method.trained for method in (plain, promise, unet))


def model_folder(path: Path, *folds: str) -> Path:
    path.mkdir()
    (path / "inference_info.json").write_text("{}")
    for fold in folds:
        (path / fold).mkdir()
        (path / fold / "checkpoint_final.pth").touch()
    return path


def test_a_model_of_nninteractive_is_named_after_its_folder_or_as_you_like(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "nnInteractive_v1.0", "fold_0")
    first, second = choose_models([str(folder), f"Zero-shot={folder}"])
    assert (first.key, second.key) == ("nnInteractive_v1.0__nnInteractive", "Zero-shot__nnInteractive")
    assert first.model == str(folder)
    assert first.prompted
    assert first.engine
    assert not first.trained


def test_folders_that_are_no_model_or_leave_a_choice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for folder, sentence in (
        (tmp_path / "plain", "has no inference_info.json"),
        (tmp_path / "nowhere", "an existing folder"),
        (model_folder(tmp_path / "two", "fold_0", "fold_1"), "several folds"),
        (model_folder(tmp_path / "none"), "does not exist"),
    ):
        with pytest.raises(UserError, match=sentence):
            choose_models([str(folder)])


def test_masks_need_a_name_and_a_folder(tmp_path: Path) -> None:
    (method,) = choose_masks([f"Expert={tmp_path}"])
    assert (method.masks, method.trained, method.prompted) == (str(tmp_path), False, False)
    for text in (str(tmp_path), f"={tmp_path}", f"a b={tmp_path}", "Expert=/nowhere"):
        with pytest.raises(UserError, match="give NAME=FOLDER"):
            choose_masks([text])


def test_every_clickable_unet_starts_from_what_is_named_and_nothing_else_does() -> None:
    named = ("nnUNetTrainer", "ProMISeTrainer", "InteractiveUNetTrainer", "InteractiveUNetTrainer_KeepUNet:MyPlans")
    methods = choose_methods(named, prompted_plans="ProMISeTinyPlans", limited=True)
    plain, promise, unet, kept = start_clickable_from("nnUNetTrainer", methods, limited=True)
    assert (plain, promise) == methods[:2]
    assert (unet.start, kept.start) == ("nnUNetTrainer:InteractiveUNetPlans", "nnUNetTrainer:MyPlans")
    origin = kept.origin
    assert origin is not None
    assert (origin.trainer, origin.plans, origin.runs) == ("nnUNetTrainer", "MyPlans", "nnUNetTrainer_limited")
    assert not origin.prompted
    assert plain.origin is None
    _, _, unet, kept = start_clickable_from("nnUNetTrainer:Small", methods, limited=True)
    assert unet.start == kept.start == "nnUNetTrainer:Small"


@pytest.mark.parametrize(
    ("trainers", "start", "limited", "sentence"),
    [
        (("nnUNetTrainer", "ProMISeTrainer"), "nnUNetTrainer", True, "-tr names none; add InteractiveUNetTrainer"),
        (("InteractiveUNetTrainer",), "nnUNetTrainer", False, "needs --minutes, --patches or --epochs"),
        (("InteractiveUNetTrainer",), "NoTrainer", True, "--start_from NoTrainer: nnU-Net finds no such trainer"),
        (("InteractiveUNetTrainer",), "nnUNetTrainer_5epochs", True, "there is no nnUNetTrainer_5epochs_limited"),
        (("InteractiveUNetTrainer",), "ProMISeTrainer", True, "ProMISeTrainer takes clicks itself"),
    ],
)
def test_what_no_clickable_unet_can_start_from_is_refused(
    trainers: tuple[str, ...], start: str, limited: bool, sentence: str
) -> None:
    methods = choose_methods(trainers, prompted_plans="ProMISePlans", limited=limited)
    with pytest.raises(UserError, match=sentence):
        start_clickable_from(start, methods, limited=limited)
