"""The demo's results, collected from the files that its steps wrote."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_promise.demo.clicks import ScoredClick
from nnunetv2_promise.files import read_json


@dataclass(frozen=True)
class CaseScore:
    """Scores of one test scan's chosen lesion.

    Attributes:
        case: The scan.
        dice: Dice.
        nsd: Normalised surface Dice at the tolerance of the evaluation.
    """

    case: str
    dice: float
    nsd: float


def read_case_scores(evaluation: Path) -> tuple[list[CaseScore], float]:
    """The scores of every test scan and the tolerance of NSD in mm, from the evaluation's output folder."""
    content = read_json(evaluation / "evaluation.json")
    return [CaseScore(row["case"], row["dice"], row["nsd"]) for row in content["cases"]], float(content["tolerance_mm"])


def headline(scores: Sequence[CaseScore], clicks: Sequence[ScoredClick]) -> dict[str, float | int]:
    """The numbers that the demo ends with."""
    hits = sum(click.hit for click in clicks)
    return {
        "cases": len(scores),
        "mean_dice": float(np.mean([score.dice for score in scores])),
        "sd_dice": float(np.std([score.dice for score in scores])),
        "mean_nsd": float(np.mean([score.nsd for score in scores])),
        "sd_nsd": float(np.std([score.nsd for score in scores])),
        "clicks": len(clicks),
        "clicks_that_hit": hits,
        "share_of_clicks_that_hit": hits / len(clicks),
        "mean_dice_of_every_lesion": float(np.mean([click.dice for click in clicks])),
    }


def settings(plans: dict[str, Any], configuration: str, trainer: str) -> list[tuple[str, str]]:
    """What the job ran with, as rows of a table."""
    chosen = plans["configurations"][configuration]
    rows = [
        ("trainer", trainer),
        ("plans", plans["plans_name"]),
        ("patch (z, y, x)", " x ".join(str(size) for size in chosen["patch_size"]) + " voxels"),
        ("spacing (z, y, x)", " x ".join(f"{size:.3g}" for size in chosen["spacing"]) + " mm"),
        ("batch size", str(chosen["batch_size"])),
        ("network", chosen["architecture"]["network_class_name"]),
        *((name, _short(value)) for name, value in chosen["architecture"]["arch_kwargs"].items()),
        ("Python", platform.python_version()),
    ]
    packages = ("nnunetv2-promise", "nnunetv2", "torch", "monai", "SimpleITK", "numpy")
    return rows + [(name, version(name)) for name in packages]


def commands(done_folder: Path, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Title, command line and duration of each finished step, in the order of ``names``.

    The duration of a step that was interrupted is that of its last part, and says so.
    """
    stamps = [read_json(done_folder / f"{name}.json") for name in names if (done_folder / f"{name}.json").is_file()]
    return [(stamp["title"], shlex.join(stamp["command"]), _duration(stamp)) for stamp in stamps]


def _duration(stamp: dict[str, Any]) -> str:
    return f"{stamp['seconds']:.0f}" + (" (after an interruption)" if stamp.get("resumed") else "")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return str(value)
