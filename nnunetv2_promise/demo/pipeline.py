"""The demo's steps: from generated scans to masks, scores and the report, with the commands a user would type."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.demo.clicks import list_clicks, prepare_clicks, read_scores, score_clicks, write_scores
from nnunetv2_promise.demo.generate import DemoData, generate
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.steps import Step

DATASET_ID = 501
DATASET = "Dataset501_DemoLesions"
PLANNER, PLANS = "ProMISeTinyPlanner", "ProMISeTinyPlans"
# Coarser than the planner would choose: a third of the time, and the smallest lesions still span five voxels.
SPACING_MM = 1.5
EPOCHS = 100
TRAINER = f"ProMISeTrainer_{EPOCHS}epochs"
CONFIGURATION, FOLD = "3d_fullres", 0
# Lesions here measure 8 to 24 mm; the published evaluation's 5 mm would forgive everything.
NSD_TOLERANCE_MM = 2.0
COMMAND = "nnUNetv2_promise_demo"


@dataclass(frozen=True)
class Layout:
    """Where the demo's files lie.

    Attributes:
        root: The demo's folder, absolute.
    """

    root: Path

    @property
    def data(self) -> DemoData:
        """Generated scans and their truth."""
        return DemoData.under(self.root / "data")

    @property
    def test_images(self) -> Path:
        """nnU-Net's folder of test images; the prompts lie in it as ``prompts.json``."""
        return self.root / "nnUNet_raw" / DATASET / "imagesTs"

    @property
    def fold(self) -> Path:
        """nnU-Net's folder of the trained fold."""
        return self.root / "nnUNet_results" / DATASET / f"{TRAINER}__{PLANS}__{CONFIGURATION}" / f"fold_{FOLD}"

    @property
    def plans(self) -> Path:
        """The plans file."""
        return self.root / "nnUNet_preprocessed" / DATASET / f"{PLANS}.json"

    @property
    def predictions(self) -> Path:
        """Masks of the chosen lesions."""
        return self.root / "predictions"

    @property
    def evaluation(self) -> Path:
        """Dice and NSD of the chosen lesions."""
        return self.root / "evaluation"

    @property
    def click_images(self) -> Path:
        """Input folder in which every lesion is a case of its own."""
        return self.root / "every_lesion" / "images"

    @property
    def click_predictions(self) -> Path:
        """Masks of every lesion."""
        return self.root / "every_lesion" / "predictions"

    @property
    def click_scores(self) -> Path:
        """Scores of every lesion's click."""
        return self.root / "every_lesion" / "scores.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @property
    def results(self) -> Path:
        """The headline numbers."""
        return self.root / "results.json"

    def environment(self) -> dict[str, str]:
        """The variables that nnU-Net and our commands read."""
        from nnunetv2_promise.trainer_search import trainer_folder

        variables = {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        return {**variables, "nnUNet_extTrainer": str(trainer_folder())}


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
    write_report(layout, read_scores(layout.click_scores))


def _need(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist; run the whole demo, its earlier steps make that folder.")
