"""Which cases a model was trained on, and that none of them is scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnunetv2_promise.benchmark.inputs import held_out_cases
from nnunetv2_promise.benchmark.layout import BenchmarkLayout
from nnunetv2_promise.benchmark.methods import Method
from nnunetv2_promise.benchmark.settings import Training
from nnunetv2_promise.dataset.splits import FILE_NAME
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json
from nnunetv2_promise.images.folders import find_volumes
from nnunetv2_promise.training.records import TRAINING_RECORD


def check_model(layout: BenchmarkLayout, method: Method, training: Training) -> None:
    """Check that a model was trained and validated on the cases that its fold of today's split names.

    Our trainers record them. Of nnU-Net's own models the validated cases are known by their masks; where these are
    those of the split, so are the others.

    Raises:
        UserError: If it was not; the sentence names a case, and says so where it would be scored.
    """
    folder = layout.model_fold(method, training)
    record = folder / TRAINING_RECORD
    _check(layout, training, folder, read_json(record) if record.is_file() else {"validation": _validated(folder)})
    if method.origin is not None:
        check_start(layout, method, training)


def check_start(layout: BenchmarkLayout, method: Method, training: Training) -> None:
    """Check the same of the model that a training starts from.

    Raises:
        UserError: If it was trained on other cases, or there is no record of them.
    """
    folder = layout.start_fold(method, training)
    _check(layout, training, folder, read_json(folder / TRAINING_RECORD))


def _check(layout: BenchmarkLayout, training: Training, folder: Path, known: Mapping[str, list[str]]) -> None:
    split_file = layout.preprocessed / FILE_NAME
    parts = read_json(split_file)[training.fold]
    for part, name in (("train", "train"), ("validation", "val")):
        if part in known and set(known[part]) != set(parts[name]):
            case = min(set(known[part]) ^ set(parts[name]))
            unseen = held_out_cases(layout, training.fold)
            leak = sorted(set(known.get("train", ())) & set(unseen))
            why = f"it has seen case '{leak[0]}', which would be scored" if leak else f"case '{case}' differs"
            raise UserError(
                f"{folder} was trained on other cases than fold {training.fold} of {split_file} names ({why}); move "
                "the folder away to train again, or restore the split."
            )


def _validated(folder: Path) -> list[str]:
    return list(find_volumes(folder / "validation", what="validation masks"))
