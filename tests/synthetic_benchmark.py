"""A benchmark's results without any training: random scores, and images on request."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.benchmark.results import (
    OBJECT_COLUMNS,
    RUN_COLUMNS,
    SCORE_COLUMNS,
    TIMING_COLUMNS,
    BenchmarkResults,
    PictureFiles,
)
from nnunetv2_promise.prompts.schema import Prompt, save_prompt_file

NAN = math.nan
UNPROMPTED = ("nnUNetTrainer", "UXNet3DTrainer", "nnFormerTrainer", "SwinUNETRTrainer")
PROMPTED = ("SAMAdapter3DTrainer", "ProMISeTrainer_C", "ProMISeTrainer_R", "ProMISeTrainer")
ROBUSTNESS = ("seed1", "seed2", "border", "outside_2mm", "outside_5mm", "wrong")


def plural(points: int) -> str:
    return f"{points} click{'s' if points > 1 else ''}"


def describe(trainers: Sequence[str], points: Sequence[int]) -> list[tuple[str, str, str, int]]:
    """(system, trainer, condition, points) of every system, named as the benchmark names them."""
    systems: list[tuple[str, str, str, int]] = []
    for trainer in trainers:
        if trainer in UNPROMPTED:
            systems.append((trainer, trainer, "none", 0))
            systems += [(f"{trainer} + {plural(n)}", trainer, "nearest", n) for n in points[:1]]
        else:
            systems += [(f"{trainer}, {plural(n)}", trainer, "clicks", n) for n in points]
    return systems


def score_row(system: str, trainer: str, condition: str, points: int, **values: object) -> dict[str, object]:
    """A row of scores; what is not given is harmless."""
    row = {
        "system": system, "trainer": trainer, "plans": "nnUNetPlans", "condition": condition, "points": points,
        "fold": 0, "seed": 0, "case": "a", "label": "tumour", "dice": 0.5, "nsd": 0.5, "hd95_mm": 4.0,
        "truth_mm3": 100.0, "prediction_mm3": 100.0, "lesions_found": 1, "lesions_missed": 0, "lesions_false": 1,
        "false_positive_ml": 0.5, "false_negative_ml": 0.0, "objects": 1, "click_offset_mm": 3.0 if points else np.nan,
    }  # fmt: skip
    return row | values


def make_results(
    scores: Sequence[dict[str, object]],
    reference: str,
    *,
    labels: Sequence[str] = ("tumour",),
    files: dict[tuple[str, str], PictureFiles] | None = None,
    device: str = "cpu",
    **changes: object,
) -> BenchmarkResults:
    """Results around rows of scores; every trainer cost one hour and 2 GiB a fold, every case took 3 seconds."""
    table = pd.DataFrame(scores, columns=list(SCORE_COLUMNS))
    plain = table[table["condition"].isin(("none", "nearest", "clicks"))]
    runs = [
        (*key, 30_000_000, 20_000_000, "SAM ViT-B", 3, 100, 200, 3600.0, device, 2 * 2**30)
        for key in table[["trainer", "plans", "fold", "seed"]].drop_duplicates().itertuples(index=False)
    ]
    timings = [(*key, 3.0) for key in table[["system", "fold", "seed"]].drop_duplicates().itertuples(index=False)]
    arguments: dict[str, object] = {
        "dataset": "Dataset010_Colon",
        "systems": list(dict.fromkeys(plain["system"])),
        "reference": reference,
        "scores": table,
        "objects": pd.DataFrame([], columns=list(OBJECT_COLUMNS)),
        "runs": pd.DataFrame(runs, columns=list(RUN_COLUMNS)),
        "timings": pd.DataFrame(timings, columns=list(TIMING_COLUMNS)),
        "labels": {label: value for value, label in enumerate(labels, start=1)},
        "tolerance_mm": 2.0,
        "budget": "5 minutes for each training",
        "parts": {0: "test", 1: "validation", 2: "validation"},
        "commands": ["nnUNetv2_promise_benchmark -d 10 -tr " + " ".join(dict.fromkeys(table["trainer"]))],
        "files": files or {},
    }
    return BenchmarkResults(**(arguments | changes))  # type: ignore[arg-type]


def rows(system: str, condition: str, points: int, dice: dict[str, list[float]], **values: object) -> list[dict]:
    """Rows of cases a, b, c, ... in folds 0, 1, 0, ... from label -> Dice of each case; NSD is half of Dice."""
    trainer = re.split(r"[ ,]", system)[0]
    return [
        score_row(
            system,
            trainer,
            condition,
            points,
            case="abcdef"[i],
            fold=i % 2,
            label=label,
            dice=x,
            nsd=x / 2,
            **({"truth_mm3": 0.0} if math.isnan(x) else {}),
            **values,
        )
        for label, scores in dice.items()
        for i, x in enumerate(scores)
    ]


def two_label_results() -> BenchmarkResults:
    """Two systems, three cases, two labels; label B is undefined in case c."""
    return make_results(
        [
            *rows("nnUNetTrainer", "none", 0, {"A": [0.2, 0.4, 0.6], "B": [0.4, 0.8, NAN]}),
            *rows("ProMISeTrainer, 1 click", "clicks", 1, {"A": [0.3, 0.8, 0.9], "B": [0.3, 0.8, NAN]}),
        ],
        "nnUNetTrainer",
        labels=("A", "B"),
    )


def random_results(
    trainers: Sequence[str],
    *,
    points: Sequence[int] = (1,),
    cases: int = 12,
    labels: Sequence[str] = ("tumour",),
    robustness: Sequence[str] = (),
    folder: Path | None = None,
) -> BenchmarkResults:
    """Scores drawn with a fixed seed; with a folder, image, truth and predictions of every case are written there."""
    rng = np.random.default_rng(0)
    names = [f"case_{number:03d}" for number in range(cases)]
    sizes = {(case, label): 10 ** rng.uniform(2, 5) for case in names for label in labels}
    rows = []
    systems = describe(trainers, points)
    moved = [(s, t, c, 1) for s, t, kind, n in systems if kind == "clicks" and n == 1 for c in robustness]
    for system, trainer, condition, count in [*systems, *moved]:
        skill = 0.4 + 0.5 * rng.random() - (0.3 if condition == "wrong" else 0.0)
        for number, case in enumerate(names):
            for label in labels:
                dice = float(np.clip(skill + 0.06 * np.log10(sizes[case, label] / 3000) + rng.normal(0, 0.08), 0, 0.99))
                undefined = len(labels) > 1 and number == 0 and label == labels[-1]
                rows.append(
                    score_row(
                        system, trainer, condition, count, fold=number % 3, case=case, label=label,
                        dice=np.nan if undefined else dice, nsd=np.nan if undefined else min(1.0, dice + 0.1),
                        truth_mm3=0.0 if undefined else sizes[case, label],
                        click_offset_mm=rng.uniform(0, 12) if count else np.nan,
                    )
                )  # fmt: skip
    files = {} if folder is None else write_images(folder, [(s, c) for s, _, c, _ in systems], names, labels)
    return make_results(rows, systems[0][0], labels=labels, files=files)


def write_images(
    folder: Path, systems: Sequence[tuple[str, str]], cases: Sequence[str], labels: Sequence[str]
) -> dict[tuple[str, str], PictureFiles]:
    """Balls of label 1, 2, ... in noise; predictions are shifted by a voxel for each system."""
    rng = np.random.default_rng(1)
    shape, files, prompts = (20, 48, 56), {}, {}
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    for number, case in enumerate(cases):
        centres = {value: (9, 20 + number % 5, 16 + 20 * (value - 1)) for value in range(1, len(labels) + 1)}
        truth = _balls(grid, centres)
        _save(rng.normal(0, 20, shape).astype(np.float32) + 80 * truth, folder / f"{case}_image.nii.gz")
        _save(truth.astype(np.uint8), folder / f"{case}_truth.nii.gz")
        z, y, x = centres[1]
        prompts[case] = [Prompt(label=labels[0], points=((x + 2.0, y + 1.0, float(z)),))]
        for shift in (1, 3):
            moved = {value: (z, y + shift, x) for value, (z, y, x) in centres.items()}
            _save(_balls(grid, moved).astype(np.uint8), folder / f"{case}_shift{shift}.nii.gz")
    save_prompt_file(folder / "prompts.json", prompts, coordinates="voxel")
    for system, condition in systems:
        for case in cases:
            shift = 1 if condition == "clicks" else 3
            files[system, case] = PictureFiles(
                folder / f"{case}_image.nii.gz",
                folder / f"{case}_truth.nii.gz",
                folder / f"{case}_shift{shift}.nii.gz",
                None if condition == "none" else folder / "prompts.json",
            )
    return files


def _balls(grid: np.ndarray, centres: dict[int, tuple[int, int, int]]) -> np.ndarray:
    scaled = grid * (2.5, 1.0, 1.0)
    balls = np.zeros(grid.shape[:3], dtype=int)
    for value, centre in centres.items():
        balls[np.linalg.norm(scaled - np.multiply(centre, (2.5, 1.0, 1.0)), axis=-1) < 9] = value
    return balls


def _save(array: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
