"""Which cases train, validate and test: nnU-Net's ``splits_final.json`` with a third list, ``test``, in each fold."""

from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nnunetv2_promise.dataset.environment import FOLDS
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json

_logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
FILE_NAME = "splits_final.json"
VAL_SHARE, TEST_SHARE = 0.1, 0.2
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    MemoryError,
    OverflowError,
)

Fold = dict[str, list[str]]
"""Sorted case identifiers of ``train``, ``val`` and ``test``."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, strings and numbers; whatever would import or call something is refused."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        """Refuse: every class and function of a pickle is looked up here, before anything is called."""
        raise _ForbiddenError(f"{module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse references to objects outside the file."""
        raise _ForbiddenError("an object outside the file")


class _ForbiddenError(Exception):
    """Names what a pickle asked for."""


def read_published_splits(path: Path | str) -> list[Fold]:
    """Read case lists in the form that the paper published, without running anything that is pickled in the file.

    Args:
        path: A pickle of a list with one dict for each fold. Its keys are ``train``, ``val`` and ``test``; the values
            are lists of cases, or dicts whose keys are cases.

    Returns:
        The folds.

    Raises:
        UserError: If the file is missing, no pickle, holds more than plain containers, or has another form.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; check the path.")
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file).load()
    except _ForbiddenError as error:
        raise UserError(
            f"{path} refers to {error}, and only plain lists of cases are read; get the file from its publisher."
        ) from None
    except _UNPICKLING_ERRORS as error:
        raise UserError(f"{path} is damaged or is not a pickle file; get it from its publisher.") from error
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} holds no list of folds; each fold is a dict of {', '.join(PARTS)}.")
    return [_fold(fold, f"{path}: fold {index}") for index, fold in enumerate(content)]


def _fold(content: Any, where: str) -> Fold:
    if not isinstance(content, dict) or set(content) != set(PARTS):
        raise UserError(f"{where} is not a dict of exactly {', '.join(PARTS)}; fix the file.")
    fold = {}
    for part in PARTS:
        cases = content[part]
        if not isinstance(cases, list | dict) or not all(isinstance(case, str) for case in cases):
            raise UserError(f"{where} has no list of case names under '{part}'; fix the file.")
        fold[part] = sorted(cases)
    return fold


def paper_split(cases: Iterable[str], *, seed: int = 0) -> list[Fold]:
    """The paper's split: 0.7 train, 0.1 validation, 0.2 test (section 3.1), as one fold.

    The order of the cases comes from a hash of seed and name, so it is the same on every machine and for every order
    of ``cases``.

    Raises:
        UserError: If there are fewer than three cases.
    """
    from nnunetv2_promise.images.objects import seed_of_case

    shuffled = sorted(set(cases), key=lambda case: (seed_of_case(case, seed), case))
    if len(shuffled) < len(PARTS):
        raise UserError(f"The dataset has {len(shuffled)} cases; a split into {', '.join(PARTS)} needs three.")
    test = max(1, round(TEST_SHARE * len(shuffled)))
    val = max(1, round(VAL_SHARE * len(shuffled)))
    lists = (shuffled[test + val :], shuffled[test : test + val], shuffled[:test])
    return [{part: sorted(chosen) for part, chosen in zip(PARTS, lists, strict=True)}]


def check_splits(folds: Sequence[Fold], cases: Iterable[str], source: Path | str) -> None:
    """Check that each fold holds every case of the dataset exactly once, and has cases to train and to validate on.

    Args:
        folds: The folds.
        cases: Every case of the dataset.
        source: Where the folds come from, for the message.

    Raises:
        UserError: Naming the fold and the first case that is in two parts, unknown, or in no part.
    """
    expected = set(cases)
    for index, fold in enumerate(folds):
        where = f"{source}: fold {index}"
        for part in ("train", "val"):
            if not fold[part]:
                raise UserError(f"{where} has no case in '{part}'; nnU-Net needs one, fix the list.")
        times = Counter(case for part in PARTS for case in fold[part])
        repeated = sorted(case for case, number in times.items() if number > 1)
        if repeated:
            parts = [part for part in PARTS for case in fold[part] if case == repeated[0]]
            raise UserError(
                f"{where} has '{repeated[0]}' more than once ({', '.join(parts)}); a case may be in one part, once."
            )
        unknown, missing = sorted(set(times) - expected), sorted(expected - set(times))
        if unknown:
            raise UserError(f"{where} names '{unknown[0]}', which is not a case of the dataset; check -d and the list.")
        if missing:
            raise UserError(
                f"{where} leaves out '{missing[0]}' ({len(missing)} of {len(expected)} cases); every case of the "
                "dataset must be in one part, check -d and the list."
            )


def require_split(preprocessed_folder: Path, cases: Iterable[str], fold: int | str) -> None:
    """Check that a fold can be trained on the dataset as it is now, where nnU-Net would stop or leave cases out.

    Args:
        preprocessed_folder: ``nnUNet_preprocessed/DatasetXXX_Name``.
        cases: Every case of the dataset.
        fold: The fold; ``"all"`` needs no split.

    Raises:
        UserError: If there are no splits and fewer cases than folds, or the splits are not nnU-Net's, lack the fold, or
            leave out a case that came later.
    """
    expected, file = set(cases), preprocessed_folder / FILE_NAME
    if fold == "all":
        return
    if not file.is_file():
        if len(expected) < FOLDS:
            raise UserError(
                f"The dataset has {len(expected)} training case(s), too few for nnU-Net's {FOLDS} folds; "
                "train fold 'all', or write a split first with nnUNetv2_promise_splits paper."
            )
        return
    folds = read_json(file)
    if not isinstance(folds, list) or not all(
        isinstance(item, dict) and {"train", "val"} <= set(item) for item in folds
    ):
        raise UserError(f"{file} is not a list of folds with 'train' and 'val'; correct or delete it.")
    if isinstance(fold, int) and fold < len(folds):
        left_out = sorted(expected - {case for part in PARTS for case in folds[fold].get(part, [])})
        if left_out:
            raise UserError(
                f"{file}: fold {fold} does not name case '{left_out[0]}' ({len(left_out)} in all) of the dataset; "
                "delete the file for new folds, or add the case, under 'test' if it is to be left out."
            )


def ensure_usual_splits(preprocessed_folder: Path, cases: Iterable[str]) -> None:
    """Write nnU-Net's five folds, as its first training would, if there are none yet.

    nnU-Net writes the file bit by bit: of trainings that start together, or the processes of one on several GPUs, some
    would read half of it. Here it appears whole, and is the same whoever writes it.

    Args:
        preprocessed_folder: ``nnUNet_preprocessed/DatasetXXX_Name``.
        cases: Every case of the dataset.
    """
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    file = preprocessed_folder / FILE_NAME
    if not file.is_file():
        folds = generate_crossval_split(sorted(cases))
        write_json([{part: [str(case) for case in names] for part, names in fold.items()} for fold in folds], file)


def write_splits(folds: list[Fold], folder: Path, *, overwrite: bool = False) -> Path:
    """Write ``splits_final.json`` for nnU-Net, which reads ``train`` and ``val`` and passes over ``test``.

    Args:
        folds: Checked folds.
        folder: ``nnUNet_preprocessed/DatasetXXX_Name``; made if it does not exist.
        overwrite: Replace a file with other folds.

    Returns:
        The file.

    Raises:
        UserError: If there is a file with other folds and ``overwrite`` is not set.
    """
    file = folder / FILE_NAME
    if file.exists() and not overwrite and read_json(file) != folds:
        raise UserError(
            f"{file} exists with other folds, and models may have been trained with them; "
            "give --overwrite to replace it."
        )
    write_json(folds, file)
    for index, fold in enumerate(folds):
        _logger.info("Fold %d: %s.", index, ", ".join(f"{len(fold[part])} {part}" for part in PARTS))
    tested = {case for fold in folds for case in fold["test"]}
    if any(tested & {*fold["train"], *fold["val"]} for fold in folds):
        _logger.info(
            "Test cases of one fold train another: score each fold's model on its own test cases, never an ensemble."
        )
    return file


def dataset_cases(raw_folder: Path) -> list[str]:
    """All training cases of a dataset in ``nnUNet_raw``.

    Raises:
        UserError: If ``dataset.json`` is missing or wrong, or there are no cases.
    """
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    from nnunetv2_promise.dataset.existing import read_dataset_json

    content = read_dataset_json(raw_folder)
    if "dataset" not in content and not (raw_folder / "imagesTr").is_dir():
        raise UserError(f"{raw_folder} holds no imagesTr; copy the training images there as nnU-Net asks.")
    cases = sorted(str(case) for case in get_filenames_of_train_images_and_targets(str(raw_folder), content))
    if not cases:
        raise UserError(f"{raw_folder} holds no training cases; copy the images to imagesTr as nnU-Net asks.")
    return cases
