"""What every method of a fold gets: the same held-out cases, the same clicks."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2_promise.benchmark.conditions import Condition, click_conditions, robustness_conditions
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.dataset.splits import FILE_NAME, dataset_cases, ensure_usual_splits
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json


def conditions(layout: BenchmarkLayout) -> list[Condition]:
    """Every way to click that the benchmark needs, plain clicks first."""
    settings = layout.settings
    plain = click_conditions(settings.points, settings.seed)
    prompted = any(method.prompted for method in settings.methods)
    return plain + (robustness_conditions(settings.seed) if settings.robustness and prompted else [])


def ensure_splits(layout: BenchmarkLayout) -> None:
    """Write nnU-Net's five folds if there are none yet.

    Raises:
        UserError: If a chosen fold is not there, or has nothing to test on.
    """
    file = layout.preprocessed / FILE_NAME
    if not file.is_file():
        cases = dataset_cases(layout.raw)
        if len(cases) < 5:
            raise UserError(f"{layout.raw} has {len(cases)} cases; nnU-Net's five folds need five.")
        ensure_usual_splits(layout.preprocessed, cases)
    count = len(read_json(file))
    for fold in layout.settings.folds:
        if fold >= count:
            raise UserError(f"-f {fold}: {file} has the folds 0 to {count - 1}; name those.")


def held_out_cases(layout: BenchmarkLayout, fold: int) -> list[str]:
    """The cases that a fold's models are tested on: its test part if the split has one, else its validation part.

    Raises:
        UserError: If the fold trains on one of them, or has none.
    """
    file = layout.preprocessed / FILE_NAME
    parts = read_json(file)[fold]
    cases = sorted(parts.get("test") or parts["val"])
    shared = sorted(set(cases) & set(parts["train"]))
    if shared or not cases:
        wrong = f"trains on '{shared[0]}' and tests on it" if shared else "has no case to test on"
        raise UserError(f"{file}: fold {fold} {wrong}; correct the file.")
    return cases


def held_out_part(layout: BenchmarkLayout, fold: int) -> str:
    """``"test"`` or ``"validation"``: which part of the split ``held_out_cases`` takes."""
    return "test" if read_json(layout.preprocessed / FILE_NAME)[fold].get("test") else "validation"


def link_cases(layout: BenchmarkLayout, fold: int) -> None:
    """Make a fold's input folder: links to the images and label maps of its held-out cases.

    Raises:
        UserError: If a case has no image or no label map, or the split is no longer the one that the folder was made
            for.
    """
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    cases = held_out_cases(layout, fold)
    listing = layout.images(fold).parent / "cases.json"
    if listing.is_file() and read_json(listing) != cases:
        raise UserError(
            f"{layout.preprocessed / FILE_NAME}: fold {fold} has changed since {layout.root} was made; name another "
            "folder with -o."
        )
    description = read_json(layout.dataset_json)
    known = get_filenames_of_train_images_and_targets(str(layout.raw), description)
    ending = description["file_ending"]
    for case in cases:
        if case not in known:
            raise UserError(
                f"{layout.preprocessed / FILE_NAME}: '{case}' is not a case of {layout.raw}; correct the file."
            )
        for channel, image in enumerate(known[case]["images"]):
            _link(Path(image), layout.images(fold) / f"{case}_{channel:04d}{ending}", f"image of case '{case}'")
        _link(Path(known[case]["label"]), layout.truths(fold) / f"{case}{ending}", f"label map of case '{case}'")
    _link(layout.dataset_json, listing.with_name("dataset.json"), "description of the dataset")
    write_json(cases, listing)


def _link(target: Path, link: Path, what: str) -> None:
    if not target.is_file():
        raise UserError(f"{target} does not exist; it is the {what}, restore it.")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    os.symlink(target.resolve(), link)
