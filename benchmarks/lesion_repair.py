"""How many first clicks that went wrong are repaired by further ones, on lesions like the demo's.

    python benchmarks/lesion_repair.py MODEL_FOLDER --seeds 1 2 3

MODEL_FOLDER is what ``ProMISeInteractiveTrainer`` wrote for the demo's data, which are those of seed 0; scans of other
seeds are new to it. Every lesion is clicked at a random voxel, as in the demo, then where the field's protocol clicks
next. A first click went wrong if its mask has a Dice below 0.7; it is repaired if a later mask has 0.8.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from nnunetv2_promise import InteractiveSession
from nnunetv2_promise.demo.generate import DemoData, generate
from nnunetv2_promise.evaluation.correction_curves import correct_object
from nnunetv2_promise.images.objects import Object, find_objects, sample_points, seed_of_case
from nnunetv2_promise.images.reading import read_geometry, read_label_map

WRONG, REPAIRED = 0.7, 0.8


class SessionObject:
    """One object of a session, clicked by ``correct_object``."""

    accepts_negative = True

    def __init__(self, session: InteractiveSession) -> None:
        self._session = session
        session.reset()

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        """Click a voxel (z, y, x); the new mask (z, y, x)."""
        return self._session.add_point(index_zyx[::-1].tolist(), positive=positive)


def main() -> int:
    """Generate scans, click, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the scans (default: 1 2 3)")
    parser.add_argument("--scans", type=int, default=16, help="of each seed (default: %(default)s)")
    parser.add_argument("--more", type=int, default=3, help="clicks after the first one (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="CSV with every click's Dice")
    arguments = parser.parse_args()
    session = InteractiveSession(arguments.model, device="cpu")
    rows = [
        {"seed": seed, **row}
        for seed in arguments.seeds
        for row in click_scans(session, seed, arguments.scans, 1 + arguments.more)
    ]
    table = pd.DataFrame(rows)
    if arguments.output:
        table.to_csv(arguments.output, index=False)
    report(table.pivot_table(index=["seed", "case", "lesion"], columns="clicks", values="dice"))
    return 0


def click_scans(session: InteractiveSession, seed: int, scans: int, clicks: int) -> Iterator[dict[str, object]]:
    """One row for each click on each lesion of newly generated scans."""
    with tempfile.TemporaryDirectory() as folder:
        data = generate(Path(folder), training=0, test=scans, seed=seed)
        for file in sorted(data.test_lesions.glob("*.nii.gz")):
            yield from click_scan(session, data, file, clicks)


def click_scan(session: InteractiveSession, data: DemoData, lesions: Path, clicks: int) -> Iterator[dict[str, object]]:
    """As ``click_scans``, for one scan."""
    case = lesions.name.removesuffix(".nii.gz")
    image = data.task / "imagesTs" / lesions.name
    numbers = read_label_map(lesions)[0]
    spacing_xyz = read_geometry(image).spacing_mm
    session.set_image(sitk.GetArrayFromImage(sitk.ReadImage(str(image))), spacing_xyz)
    for item in find_objects(numbers, np.unique(numbers[numbers > 0]).tolist(), per="case"):
        rng = np.random.default_rng(seed_of_case(f"{case}_lesion{item.label}", 0))
        for row in click_lesion(session, item, numbers.shape, spacing_xyz[::-1], clicks, rng):
            yield {"case": case, "lesion": item.label, **row}


def click_lesion(
    session: InteractiveSession,
    item: Object,
    shape: tuple[int, ...],
    spacing_zyx_mm: tuple[float, ...],
    clicks: int,
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    """Dice after each click on one lesion; the first one is random."""
    first = sample_points(item, 1, rng)[0].astype(float)
    return correct_object(
        SessionObject(session),
        item.full_mask(shape),
        spacing_zyx_mm=spacing_zyx_mm,
        clicks=clicks,
        first_zyx=first,
    )


def report(dice: pd.DataFrame) -> None:
    """Print what became of all lesions, and of those whose first click went wrong."""
    wrong = dice[dice[1] < WRONG]
    print(f"{len(dice)} lesions, {len(wrong)} of them below a Dice of {WRONG} after the first click")
    print("| clicks | mean Dice of all | mean Dice of those | of those, repaired to 0.8 |")
    print("| --- | --- | --- | --- |")
    for number in dice.columns:
        repaired = (wrong.loc[:, :number].max(axis=1) >= REPAIRED).mean()
        print(f"| {number} | {dice[number].mean():.3f} | {wrong[number].mean():.3f} | {repaired:.0%} |")


if __name__ == "__main__":
    sys.exit(main())
