"""The demo's steps: from generated scans to masks, scores and the report, with the commands a user would type."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_promise.demo.clicks import list_clicks, prepare_clicks, read_scores, score_clicks, write_scores
from nnunetv2_promise.demo.demo_layout import (
    COMMAND,
    CONFIGURATION,
    DATASET_ID,
    FOLD,
    NSD_TOLERANCE_MM,
    PLANNER,
    PLANS,
    SPACING_MM,
    TRAINER,
    Layout,
)
from nnunetv2_promise.demo.generate import DemoData, generate
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.steps import Step


def steps(layout: Layout) -> list[Step]:
    """Every step of the demo, in order."""
    root, data = str(layout.root), layout.data
    model = ("-d", str(DATASET_ID), "-c", CONFIGURATION, "-f", str(FOLD), "-tr", TRAINER, "-p", PLANS)
    train = ("nnUNetv2_train", str(DATASET_ID), CONFIGURATION, str(FOLD), "-tr", TRAINER, "-p", PLANS)
    images, labels = str(layout.test_images), str(data.test_labels)
    return [
        Step("data", "Generate scans with look-alike lesions", (COMMAND, "-o", root, "--only", "data")),
        Step("plan", "Import, plan and preprocess", _plan(data)),
        Step(
            "train",
            "Train on the CPU",
            (*train, "-device", "cpu"),
            resume=("--c",),
            resumable=lambda: (layout.fold / "checkpoint_latest.pth").is_file(),
        ),
        Step(
            "prompts",
            "Click once on one lesion of each test scan",
            ("nnUNetv2_promise_prompts", "simulate", "-i", images, "-l", labels, "-o", f"{images}/prompts.json"),
        ),
        Step(
            "predict",
            "Predict with nnU-Net's own command",
            ("nnUNetv2_predict", "-i", images, "-o", str(layout.predictions), *model, "-device", "cpu"),
        ),
        Step("evaluate", "Compare with the truth", _evaluate(layout)),
        Step("clicks", "Click on every lesion of each test scan", (COMMAND, "-o", root, "--only", "clicks")),
        Step(
            "predict_clicks",
            "Predict every click",
            _predict_clicks(layout, model),
        ),
        Step("report", "Write the report", (COMMAND, "-o", root, "--only", "report")),
    ]


def _plan(data: DemoData) -> tuple[str, ...]:
    command = ("nnUNetv2_promise_plan_and_preprocess", "-i", str(data.task), "-d", str(DATASET_ID), "-np", "2")
    return (*command, "-pl", PLANNER, "-overwrite_target_spacing", *[f"{SPACING_MM:g}"] * 3)


def _predict_clicks(layout: Layout, model: tuple[str, ...]) -> tuple[str, ...]:
    images, masks = str(layout.click_images), str(layout.click_predictions)
    return ("nnUNetv2_promise_predict", "-i", images, "-o", masks, *model, "-device", "cpu")


def _evaluate(layout: Layout) -> tuple[str, ...]:
    truth, masks = str(layout.data.test_labels), str(layout.predictions)
    scores, tolerance = str(layout.evaluation), f"{NSD_TOLERANCE_MM:g}"
    return ("nnUNetv2_promise_evaluate", "-p", masks, "-l", truth, "-o", scores, "--tolerance", tolerance)


def make_data(layout: Layout) -> None:
    """Step ``data``."""
    generate(layout.root / "data")


def make_clicks(layout: Layout) -> None:
    """Step ``clicks``."""
    _need(layout.data.test_lesions, layout.test_images)
    prepare_clicks(layout.test_images, layout.data.test_lesions, layout.click_images)


def make_report(layout: Layout) -> None:
    """Step ``report``: score the clicks and write the report."""
    from nnunetv2_promise.demo.demo_report import write_report

    _need(layout.evaluation, layout.click_predictions)
    clicks = list_clicks(layout.data.test_lesions)
    write_scores(score_clicks(clicks, layout.data.test_lesions, layout.click_predictions), layout.click_scores)
    write_report(layout, read_scores(layout.click_scores), [step.name for step in steps(layout)])


def _need(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist; run the whole demo, its earlier steps make that folder.")
