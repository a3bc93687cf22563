"""Where the demo's files lie, and what it runs with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.demo.generate import DemoData
from nnunetv2_promise.trainer_search import trainer_folder

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
        variables = {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        return {**variables, "nnUNet_extTrainer": str(trainer_folder())}
