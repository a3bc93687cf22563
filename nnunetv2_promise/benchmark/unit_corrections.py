"""Corrections by the field's protocol of every object of a unit's cases.

``python -m nnunetv2_promise.benchmark.unit_corrections FOLDER METHOD TRAINING [--resume]``, FOLDER is the benchmark's.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.measure import end_with_parent
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.nearest import nearest_objects
from nnunetv2_promise.benchmark.results import CORRECTION_COLUMNS
from nnunetv2_promise.benchmark.scoring import identity
from nnunetv2_promise.benchmark.settings import BenchmarkSettings, Training, load_settings
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.evaluation.correction_curves import correct_object
from nnunetv2_promise.evaluation.tolerances import tolerances_of
from nnunetv2_promise.files import atomic_path, read_json
from nnunetv2_promise.images.folders import find_cases, find_volumes
from nnunetv2_promise.images.labels import Labels, read_labels, scored_labels
from nnunetv2_promise.images.objects import Object, find_objects, seed_of_case
from nnunetv2_promise.images.reading import read_label_map
from nnunetv2_promise.prompts.schema import foreground_labels

UNPROMPTED = "none"


def correct_unit(root: Path, key: str, training: str, *, resume: bool) -> None:
    """Click on every object of a unit's cases, and write ``CASE.csv`` with the columns ``CORRECTION_COLUMNS``.

    Args:
        root: The benchmark's folder.
        key: Of the method.
        training: As ``str`` writes it.
        resume: Whether cases that have a file are left as they are.

    Raises:
        UserError: If a model, image, mask or label map cannot be read.
    """
    layout = BenchmarkLayout(root, load_settings(root))
    method, which = layout.settings.method(key), Training.parse(training)
    folder = layout.corrections(method, which)
    if folder.is_dir() and not resume:
        shutil.rmtree(folder)
    cases = read_json(layout.images(which.fold).parent / "cases.json")
    todo = [case for case in cases if not (folder / f"{case}.csv").is_file()]
    if not todo:
        return
    open_case = _opener(layout, method, which)
    truths = find_volumes(layout.truths(which.fold), what="label maps")
    labels = read_labels(layout.dataset_json)
    for case in tqdm(todo, desc="Correcting", unit="case"):
        rows = _correct_case(open_case, case, truths[case], labels, layout.settings)
        table = pd.DataFrame(rows, columns=["case", "label", "object", "clicks", "dice", "nsd", "seconds", "positive"])
        table = table.assign(**identity(layout, method, which, UNPROMPTED))
        if not method.prompted:
            table["seconds"] = np.nan  # nothing is segmented
        with atomic_path(folder / f"{case}.csv") as temporary:
            table[list(CORRECTION_COLUMNS)].to_csv(temporary, index=False)


class _Opener:
    """From a case's name to its objects."""

    def __init__(self, layout: BenchmarkLayout, method: Method, training: Training) -> None:
        from nnunetv2_promise.inference.clickables import open_in_engine, open_promise
        from nnunetv2_promise.inference.nninteractive_batch import runs_in_engine

        settings = layout.settings
        device, fold = settings.device, layout.model_fold(method, training).name.removeprefix("fold_")
        folder = layout.model(method, training.seed)
        if method.engine and runs_in_engine(folder):
            labels = read_labels(layout.dataset_json)
            self._open = open_in_engine(folder, labels=labels, fold=fold, device=device)
        else:
            self._open = open_promise(
                folder,
                configuration=settings.configuration,
                fold=fold,
                device=device,
                use_mirroring=not settings.disable_tta,
            )
        self._files = find_cases(layout.images(training.fold), read_json(layout.dataset_json))

    def __call__(self, case: str) -> Any:
        return self._open(self._files[case])


class _FixedMask:
    """A mask made without clicks: what is nearest to the clicks so far; it cannot be told what is too much."""

    accepts_negative = False

    def __init__(self, objects: Sequence[Object], shape: Sequence[int], spacing_zyx_mm: Sequence[float]) -> None:
        self._objects, self._spacing = objects, spacing_zyx_mm
        self._mask = np.zeros(tuple(shape), dtype=bool)

    def add_click(self, index_zyx: NDArray[np.float64], positive: bool) -> NDArray[np.bool_]:
        """(D, H, W) bool."""
        for item in nearest_objects(self._objects, index_zyx[None], spacing_zyx_mm=self._spacing):
            self._mask[item.slices_zyx] |= item.mask
        return self._mask.copy()


def _opener(layout: BenchmarkLayout, method: Method, training: Training) -> Any:
    if method.prompted:
        return _Opener(layout, method, training)
    masks = find_volumes(layout.predictions(method, training, UNPROMPTED), what="predictions")

    def open_case(case: str) -> Any:
        label_map, geometry = read_label_map(masks[case])
        return lambda label: _FixedMask(find_objects(label_map, [label]), label_map.shape, geometry.spacing_zyx_mm)

    return open_case


def _correct_case(
    open_case: Any, case: str, truth: Path, labels: Labels, settings: BenchmarkSettings
) -> list[dict[str, Any]]:
    """Rows of every object of a case."""
    label_map, geometry = read_label_map(truth)
    names = {value: name for name, value in foreground_labels(labels).items()}
    tolerances_mm = tolerances_of(scored_labels(labels), settings.tolerance_mm, settings.label_tolerances_mm)
    objects = find_objects(label_map, list(names), per=settings.per)
    if not objects:
        return []
    start = open_case(case)
    rng = np.random.default_rng(seed_of_case(case, settings.seed))
    rows = []
    for number, item in enumerate(objects, start=1):
        scores = correct_object(
            start(item.label),
            item.full_mask(label_map.shape),
            spacing_zyx_mm=geometry.spacing_zyx_mm,
            clicks=settings.corrections or 0,
            tolerance_mm=tolerances_mm[names[item.label]],
            jitter_mm=settings.jitter_mm,
            # Of its own for each object: a system that needs fewer clicks then misses as the others do.
            rng=np.random.default_rng(rng.integers(2**63)),
        )
        rows += [{"case": case, "label": names[item.label], "object": number, **row} for row in scores]
    return rows


if __name__ == "__main__":
    end_with_parent()
    try:
        correct_unit(Path(sys.argv[1]), sys.argv[2], sys.argv[3], resume="--resume" in sys.argv[4:])
    except UserError as error:
        sys.exit(f"Error: {error}")
