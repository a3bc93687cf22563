"""What is compared with what, and how: read from the command line, kept in the benchmark's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.images.objects import Per

SETTINGS_NAME = "benchmark.json"
# Results made under other values of these cannot stand in one report.
_UNCHANGEABLE = ("dataset_id", "configuration", "minutes", "patches", "epochs", "per", "seed", "disable_tta")


class Training(NamedTuple):
    """One training of a method.

    Attributes:
        fold: Number of nnU-Net's fold.
        seed: Of the training.
    """

    fold: int
    seed: int = 0

    def __str__(self) -> str:
        """``"0"``, or ``"0_seed_1"``; names files and units."""
        return str(self.fold) if not self.seed else f"{self.fold}_seed_{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Training:
        """The training that ``str`` gave a text for."""
        fold, _, seed = text.partition("_seed_")
        return cls(int(fold), int(seed or 0))


@dataclass(frozen=True)
class BenchmarkSettings:
    """A benchmark.

    Attributes:
        dataset_id: Number of the dataset.
        methods: In the order of the tables.
        folds: Numbers of nnU-Net's folds.
        points: Numbers of clicks on each object at prediction.
        configuration: nnU-Net's configuration.
        minutes: Every training may take so long; None for no such limit.
        patches: Every training sees so many patches; None for no such limit.
        epochs: Every training has so many epochs; None for each trainer's own number.
        training_seeds: Trainings of each method and fold, with the seeds 0, 1, ...
        reference: Trainer that the others are tested against.
        robustness: Whether prompted methods are also tested with other, worse and wrong clicks.
        per: ``"component"`` or ``"case"``: what counts as one object to click on.
        seed: Of the clicks.
        tolerance_mm: Of the surface Dice.
        label_tolerances_mm: Of labels that have one of their own: name -> mm.
        corrections: Clicks on each object by the field's protocol, each on the error of the last mask; None for none.
        jitter_mm: Standard deviation, along each axis, by which these clicks miss.
        crop: Whether methods without clicks are also run on the crop around the clicks.
        disable_tta: Whether every network looks at each image once, not at its mirror images.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``.
        processes: Worker processes of preprocessing, export and scoring.
        jobs: Trainings at a time, at most.
        call: Arguments of the last call, which made or extended the benchmark.
    """

    dataset_id: int
    methods: tuple[Method, ...]
    folds: tuple[int, ...]
    points: tuple[int, ...] = (1,)
    configuration: str = "3d_fullres"
    minutes: float | None = None
    patches: int | None = None
    epochs: int | None = None
    training_seeds: int = 1
    reference: str = "nnUNetTrainer"
    robustness: bool = False
    per: Per = "component"
    seed: int = 0
    tolerance_mm: float = 5.0
    label_tolerances_mm: Mapping[str, float] = field(default_factory=dict)
    corrections: int | None = None
    jitter_mm: float = 0.0
    crop: bool = False
    disable_tta: bool = False
    device: str = "cuda"
    processes: int = 2
    jobs: int = 1
    call: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether trainings have a budget of their own, and their own results folder."""
        return any(limit is not None for limit in (self.minutes, self.patches, self.epochs))

    @property
    def budget(self) -> str:
        """What limits the trainings, in plain words."""
        if self.minutes is not None:
            return f"{self.minutes:g} minutes for each training"
        if self.patches is not None:
            return f"{self.patches} patches for each training"
        if self.epochs is not None:
            return f"{self.epochs} epochs for each training"
        return "each trainer's own number of epochs"

    def half_budgets(self) -> tuple[dict[str, float], dict[str, float]]:
        """The budget of a model that another one starts from, and what is left for the other: minutes, patches, epochs.

        Raises:
            UserError: If there is nothing to share: one patch or one epoch.
        """
        if self.minutes is not None:
            return {"minutes": self.minutes / 2}, {"minutes": self.minutes / 2}
        name = "patches" if self.patches is not None else "epochs"
        whole = getattr(self, name) or 0
        if whole < 2:
            raise UserError(f"--{name} {whole} cannot be shared with the model of --start_from; give 2 or more.")
        return {name: whole // 2}, {name: whole - whole // 2}

    @property
    def trainings(self) -> list[Training]:
        """Every training of a method; all folds come before the next seed."""
        return [Training(fold, seed) for seed in range(self.training_seeds) for fold in self.folds]

    def method(self, key: str) -> Method:
        """The method with a key.

        Raises:
            KeyError: If there is none.
        """
        return {method.key: method for method in self.methods}[key]


def with_earlier(settings: BenchmarkSettings, root: Path, *, reference_named: bool) -> BenchmarkSettings:
    """The settings with what earlier calls of this benchmark asked for: a call adds, it takes nothing away.

    Args:
        settings: Of this call.
        root: The benchmark's folder.
        reference_named: Whether this call names the reference; else the earlier one stays.

    Raises:
        UserError: If the folder holds results made under other settings; the sentence names the first that differs.
    """
    if not (root / SETTINGS_NAME).is_file():
        return settings
    before = load_settings(root)
    for name in _UNCHANGEABLE:
        old, new = getattr(before, name), getattr(settings, name)
        if old != new:
            raise UserError(
                f"{root} was made with {name} {old}, now it is {new}; name another folder with -o, or remove it."
            )
    methods = {method.key: method for method in before.methods}
    for method in settings.methods:
        start = methods.get(method.key, method).start
        if start != method.start:
            old, new = (f"from {name}" if name else "without --start_from" for name in (start, method.start))
            raise UserError(
                f"{root} was made with {method.trainer} starting {old}, now it starts {new}; name another folder with "
                "-o, or remove it."
            )
    methods |= {method.key: method for method in settings.methods}
    return replace(
        settings,
        methods=tuple(methods.values()),
        folds=tuple(sorted({*before.folds, *settings.folds})),
        points=tuple(sorted({*before.points, *settings.points})),
        robustness=before.robustness or settings.robustness,
        corrections=settings.corrections or before.corrections,
        jitter_mm=settings.jitter_mm if settings.corrections else before.jitter_mm,
        crop=before.crop or settings.crop,
        training_seeds=max(before.training_seeds, settings.training_seeds),
        reference=settings.reference if reference_named else before.reference,
    )


def save_settings(settings: BenchmarkSettings, root: Path) -> None:
    """Keep the settings in the benchmark's folder."""
    write_json(asdict(settings), root / SETTINGS_NAME)


def load_settings(root: Path) -> BenchmarkSettings:
    """Read what ``save_settings`` wrote.

    Raises:
        UserError: If the folder has no settings, or they are not ours.
    """
    file = root / SETTINGS_NAME
    content = read_json(file)
    try:
        lists = {name: tuple(content[name]) for name in ("folds", "points", "call")}
        methods = tuple(Method(**entry) for entry in content["methods"])
        return BenchmarkSettings(**{**_known(content), **lists, "methods": methods})
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file} was not written by nnUNetv2_promise_benchmark; name another folder with -o."
        ) from error


def _known(content: dict[str, Any]) -> dict[str, Any]:
    unknown = set(content) - {known.name for known in fields(BenchmarkSettings)}
    if unknown:
        raise KeyError(*unknown)
    return content
