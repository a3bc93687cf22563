"""nnU-Net's choice of the best configuration, for models that are clicked on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_promise.dataset.environment import dataset_name_of, nnunet_folder
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, read_json, write_json
from nnunetv2_promise.trainer_search import find_trainer

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionRequest:
    """The arguments of ``nnUNetv2_promise_find_best_configuration``, as ``nnUNetv2_find_best_configuration`` has them.

    Attributes:
        dataset: Number or name.
        trainers: Names of trainers.
        plans: Names of plans.
        configurations: Names of configurations.
        folds: Folds of the cross-validation.
        ensembling: Whether pairs of models are tried as well; wants their probabilities (``--npz``).
        overwrite: Whether the folders of an earlier call are made again.
        processes: Number of worker processes.
    """

    dataset: str
    trainers: Sequence[str]
    plans: Sequence[str]
    configurations: Sequence[str]
    folds: Sequence[int]
    ensembling: bool
    overwrite: bool
    processes: int


def find_best_configuration(request: SelectionRequest) -> dict[str, Any]:
    """Let nnU-Net compare the cross-validations; without post-processing, which would delete clicked objects.

    nnU-Net learns from the validation cases whether to keep only the largest component of a label. Whoever clicks on
    two objects would lose one of them.

    Returns:
        nnU-Net's result.

    Raises:
        UserError: If clicked models would be compared with others, or nnU-Net misses a folder.
    """
    clicked = require_comparable(request.trainers)
    from nnunetv2.evaluation.find_best_configuration import dumb_trainer_config_plans_to_trained_models_dict
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration as compare

    models = dumb_trainer_config_plans_to_trained_models_dict(
        list(request.trainers), list(request.configurations), list(request.plans)
    )
    dataset = dataset_name_of(int(request.dataset)) if request.dataset.isdigit() else request.dataset
    results = nnunet_folder("nnUNet_results")
    try:
        result = compare(
            dataset,
            models,
            allow_ensembling=request.ensembling,
            num_processes=request.processes,
            overwrite=request.overwrite,
            folds=tuple(request.folds),
        )
    except RuntimeError as error:
        raise UserError(f"nnU-Net cannot compare these models: {error}") from error
    if clicked:
        best = result["best_model_or_ensemble"]
        best["result_on_crossval_post_pp"] = best["result_on_crossval_pre_pp"]
        forget_postprocessing(Path(best["postprocessing_file"]))
        write_json(result, results / dataset / "inference_information.json")
        _logger.info(
            "Post-processing: none, it would delete clicked objects; %s is empty.", best["postprocessing_file"]
        )
    return result


def require_comparable(trainers: Sequence[str]) -> bool:
    """Check that the validation masks of all trainers come from clicks, or of none.

    Returns:
        Whether they come from clicks.

    Raises:
        UserError: If a trainer is not found, or there are both.
    """
    kinds: dict[bool, str] = {}
    for name in trainers:
        trainer = find_trainer(name)
        if trainer is None:
            raise UserError(
                f"-tr {name} is not found; add the folder of that trainer to the variable nnUNet_extTrainer."
            )
        kinds[bool(getattr(trainer, "prompt_kinds", ()))] = name
    if len(kinds) == 2:
        raise UserError(
            f"-tr {kinds[True]} was told by clicks where each object is and {kinds[False]} was not, so their scores "
            "cannot be compared; compare them with nnUNetv2_promise_benchmark."
        )
    return True in kinds


def forget_postprocessing(file: Path) -> None:
    """Replace what nnU-Net determined by nothing, so that ``nnUNetv2_apply_postprocessing`` copies the masks.

    Args:
        file: nnU-Net's ``postprocessing.pkl``; what was determined with it lies beside it.
    """
    from batchgenerators.utilities.file_and_folder_operations import save_pickle

    with atomic_path(file) as temporary:
        save_pickle(([], []), str(temporary))
    described = file.with_suffix(".json")
    if described.is_file():
        content = read_json(described)
        nothing = {"postprocessing_fns": [], "postprocessing_kwargs": [], "postprocessed": content["input_folder"]}
        write_json({**content, **nothing}, described)
    shutil.rmtree(file.parent / "postprocessed", ignore_errors=True)
