"""A click on every lesion of every test scan, and whether each click gave its own lesion."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunetv2_promise.demo.generate import LABEL
from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.images.geometry import ImageGeometry
from nnunetv2_promise.images.objects import sample_points, seed_of_case
from nnunetv2_promise.prompts.schema import PROMPTS_NAME, Prompt, save_prompt_file

SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Click:
    """One click on one lesion.

    Attributes:
        name: Name of the click's own case, such as ``demo_025_lesion2``.
        case: The scan.
        lesion: Value of the lesion in the scan's lesion map.
    """

    name: str
    case: str
    lesion: int


@dataclass(frozen=True)
class ScoredClick(Click):
    """A click and its mask.

    Attributes:
        dice: Dice of the mask and the clicked lesion.
        hit: Whether the mask overlaps the clicked lesion more than any other.
    """

    dice: float
    hit: bool


def list_clicks(lesions: Path) -> list[Click]:
    """One click for each lesion of each scan.

    Args:
        lesions: CASE.nii.gz, lesions as 1..n.
    """
    clicks = []
    for path in sorted(lesions.glob(f"*{SUFFIX}")):
        case = path.name.removesuffix(SUFFIX)
        values = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
        clicks += [Click(f"{case}_lesion{value}", case, int(value)) for value in values if value]
    return clicks


def prepare_clicks(images: Path, lesions: Path, folder: Path, *, seed: int = 0) -> list[Click]:
    """Make an input folder for prediction in which each lesion of each scan is a case of its own.

    The images are links to the scans; ``prompts.json`` holds one click per case, at a random voxel of its lesion.

    Args:
        images: CASE_0000.nii.gz.
        lesions: CASE.nii.gz, lesions as 1..n.
        folder: Input folder to make.
        seed: Of the clicks' places, which also depend on the case's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clicks = list_clicks(lesions)
    prompts: dict[str, list[Prompt]] = {}
    for click in clicks:
        lesion_map = sitk.ReadImage(str(lesions / f"{click.case}{SUFFIX}"))
        mask_zyx = sitk.GetArrayFromImage(lesion_map) == click.lesion
        voxel_zyx = sample_points(mask_zyx, 1, np.random.default_rng(seed_of_case(click.name, seed)))
        x, y, z = ImageGeometry.from_sitk(lesion_map).index_zyx_to_points(voxel_zyx, "voxel")[0].tolist()
        prompts[click.name] = [Prompt(label=LABEL, points=((x, y, z),))]
        _link((images / f"{click.case}_0000{SUFFIX}").resolve(), folder / f"{click.name}_0000{SUFFIX}")
    save_prompt_file(folder / PROMPTS_NAME, prompts, coordinates="voxel")
    return clicks


def score_clicks(clicks: list[Click], lesions: Path, predictions: Path) -> list[ScoredClick]:
    """Compare each click's mask with every lesion of its scan.

    Args:
        clicks: From ``list_clicks``.
        lesions: CASE.nii.gz, lesions as 1..n.
        predictions: CLICK.nii.gz, masks.
    """
    scored = []
    for click in clicks:
        lesions_zyx = sitk.GetArrayFromImage(sitk.ReadImage(str(lesions / f"{click.case}{SUFFIX}")))
        mask_zyx = sitk.GetArrayFromImage(sitk.ReadImage(str(predictions / f"{click.name}{SUFFIX}"))) > 0
        dice, hit = score_mask(mask_zyx, lesions_zyx, click.lesion)
        scored.append(ScoredClick(click.name, click.case, click.lesion, dice, hit))
    return scored


def score_mask(mask_zyx: np.ndarray, lesions_zyx: np.ndarray, clicked: int) -> tuple[float, bool]:
    """Dice of a mask with the clicked lesion, and whether it overlaps that one more than any other.

    Args:
        mask_zyx: (z, y, x) bool.
        lesions_zyx: (z, y, x) int, lesions as 1..n.
        clicked: The clicked lesion's value.
    """
    overlaps = np.bincount(lesions_zyx[mask_zyx].ravel(), minlength=int(lesions_zyx.max()) + 1)
    others = np.delete(overlaps, [0, clicked])
    hit = bool(overlaps[clicked] > others.max(initial=0))
    dice = 2 * overlaps[clicked] / (np.count_nonzero(mask_zyx) + np.count_nonzero(lesions_zyx == clicked))
    return float(dice), hit


def write_scores(scored: list[ScoredClick], path: Path) -> None:
    """Write scored clicks as JSON, with the share of hits."""
    share = sum(click.hit for click in scored) / len(scored) if scored else 0.0
    write_json({"share_of_clicks_that_hit": share, "clicks": [asdict(click) for click in scored]}, path)


def read_scores(path: Path) -> list[ScoredClick]:
    """Read what ``write_scores`` wrote."""
    return [ScoredClick(**entry) for entry in read_json(path)["clicks"]]


def _link(target: Path, link: Path) -> None:
    link.unlink(missing_ok=True)
    os.symlink(target, link)
