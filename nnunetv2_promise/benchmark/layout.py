"""Where a benchmark's files lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training
from nnunetv2_promise.dataset.environment import dataset_name_of, nnunet_folder
from nnunetv2_promise.trainer_search import VARIABLE, trainer_search_path


@dataclass(frozen=True)
class BenchmarkLayout:
    """Where a benchmark's files lie.

    Attributes:
        root: The benchmark's folder, absolute.
        settings: What is compared.
    """

    root: Path
    settings: BenchmarkSettings

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return dataset_name_of(self.settings.dataset_id)

    @property
    def raw(self) -> Path:
        """The dataset in ``nnUNet_raw``."""
        return nnunet_folder("nnUNet_raw") / self.dataset

    @property
    def preprocessed(self) -> Path:
        """The dataset in ``nnUNet_preprocessed``."""
        return nnunet_folder("nnUNet_preprocessed") / self.dataset

    def results(self, seed: int = 0) -> Path:
        """``nnUNet_results`` of the trainings: a folder of our own for further seeds and under a budget."""
        if seed:
            return self.root / f"nnUNet_results_seed_{seed}"
        return self.root / "nnUNet_results" if self.settings.limited else nnunet_folder("nnUNet_results")

    @property
    def preparation(self) -> Path:
        """Stamps and logs of what comes before the trainings."""
        return self.root / "preparation"

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.root / "report"

    def images(self, fold: int) -> Path:
        """Links to the images of a fold's cases, ``CASE_0000.nii.gz``."""
        return self.root / "inputs" / f"fold_{fold}" / "images"

    def truths(self, fold: int) -> Path:
        """Links to the label maps of a fold's cases."""
        return self.root / "inputs" / f"fold_{fold}" / "labels"

    def prompts(self, fold: int, condition: str) -> Path:
        """Prompt file of a fold's cases."""
        return self.root / "inputs" / f"fold_{fold}" / "prompts" / f"{condition}.json"

    @property
    def dataset_json(self) -> Path:
        """The dataset's own description."""
        return self.raw / "dataset.json"

    def unit(self, method: Method, training: Training) -> Path:
        """Stamps, logs, predictions and scores of one training of a method."""
        return self.root / "units" / method.key / f"fold_{training}"

    def predictions(self, method: Method, training: Training, condition: str) -> Path:
        """Masks under one condition; ``"none"`` without clicks, ``"nearest_N"`` cut down by clicks."""
        if method.masks is not None and condition == "none":
            return Path(method.masks)
        return self.unit(method, training) / "predictions" / condition

    def scores(self, method: Method, training: Training, condition: str) -> Path:
        """Scores under one condition (CSV)."""
        return self.unit(method, training) / "scores" / f"{condition}.csv"

    def object_scores(self, method: Method, training: Training, condition: str) -> Path:
        """Scores of each prompt's own mask under one condition (CSV)."""
        return self.unit(method, training) / "scores" / f"{condition}.objects.csv"

    def corrections(self, method: Method, training: Training) -> Path:
        """Folder of what came of clicks on errors, ``CASE.csv``."""
        return self.unit(method, training) / "corrections"

    def training_cost(self, method: Method, training: Training) -> Path:
        """What the training cost."""
        return self.unit(method, training) / "training_cost.json"

    def model(self, method: Method, seed: int = 0) -> Path:
        """The model folder of a method."""
        if method.model is not None:
            return Path(method.model)
        return self.results(seed) / self.dataset / f"{method.runs}__{method.plans}__{self.settings.configuration}"

    def model_fold(self, method: Method, training: Training) -> Path:
        """The folder of a training's checkpoints, or of those of a model that is used as it is."""
        if method.model is not None:
            # Takes seconds to import, and every step of a benchmark imports this module.
            from nnunetv2_promise.planning.nninteractive_folder import fold_folder

            return fold_folder(Path(method.model))
        return self.model(method, training.seed) / f"fold_{training.fold}"

    def start_results(self, method: Method, training: Training) -> Path:
        """``nnUNet_results`` of the model that a training starts from."""
        return self.unit(method, training) / "start"

    def start_fold(self, method: Method, training: Training) -> Path:
        """The folder of its checkpoints.

        Raises:
            ValueError: If the method does not start from a model.
        """
        if method.origin is None:
            raise ValueError(f"{method.key} starts from no model")
        name = f"{method.origin.runs}__{method.origin.plans}__{self.settings.configuration}"
        return self.start_results(method, training) / self.dataset / name / f"fold_{training.fold}"

    def start_cost(self, method: Method, training: Training) -> Path:
        """What its training cost."""
        return self.unit(method, training) / "start_cost.json"

    def environment(self, seed: int = 0) -> dict[str, str]:
        """The variables under which commands run, beside the present ones.

        Under a budget no training ends with nnU-Net's validation: the benchmark predicts the same cases itself.
        """
        folders = {name: str(nnunet_folder(name)) for name in ("nnUNet_raw", "nnUNet_preprocessed")}
        variables = {**folders, "nnUNet_results": str(self.results(seed)), VARIABLE: trainer_search_path()}
        limits = {name: getattr(self.settings, name) for name in ("minutes", "patches", "epochs")}
        variables |= {"nnUNet_promise_final_validation": "0"} if self.settings.limited else {}
        variables |= budget_variables({name: limit for name, limit in limits.items() if limit is not None})
        return variables | {"nnUNet_promise_seed": str(seed)}


def budget_variables(budget: Mapping[str, float]) -> dict[str, str]:
    """The variables that tell a training its ``minutes``, ``patches`` or ``epochs``."""
    return {f"nnUNet_promise_{name}": str(limit) for name, limit in budget.items()}
