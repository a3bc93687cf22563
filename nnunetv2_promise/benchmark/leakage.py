"""Which cases a model was trained on, and that none of them is scored."""

from __future__ import annotations

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
    folder, split_file = layout.model_fold(method, training), layout.preprocessed / FILE_NAME
    parts = read_json(split_file)[training.fold]
    record = folder / TRAINING_RECORD
    known = read_json(record) if record.is_file() else {"validation": _validated(layout, method, training)}
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


def _validated(layout: BenchmarkLayout, method: Method, training: Training) -> list[str]:
    return list(find_volumes(layout.model_fold(method, training) / "validation", what="validation masks"))
