"""Prediction from a prompt file: check everything, then run nnU-Net's predictor window by window."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import write_json
from nnunetv2_promise.images.folders import find_cases
from nnunetv2_promise.images.reading import check_stored_voxels, read_geometry
from nnunetv2_promise.inference.case_prompts import voxel_prompts
from nnunetv2_promise.inference.model_folder import ModelFolder, find_model_folder
from nnunetv2_promise.nnunet_trainers import make_trainers_known
from nnunetv2_promise.prompts.kinds import require_points_only
from nnunetv2_promise.prompts.schema import PROMPTS_VARIABLE, PromptFile, load_prompt_file, prompt_file_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionRequest:
    """The arguments of ``nnUNetv2_promise_predict``, of the same names."""

    images: Path
    output: Path
    dataset: str | None = None
    model_folder: Path | None = None
    configuration: str = "3d_fullres"
    trainer: str = "ProMISeTrainer"
    plans: str = "ProMISePlans"
    folds: Sequence[str] = ("0",)
    checkpoint: str = "checkpoint_final.pth"
    device: str = "cuda"
    processes: int = 2
    prompts: Path | None = None
    save_probabilities: bool = False
    continue_prediction: bool = False


def predict(request: PredictionRequest) -> list[Path]:
    """Predict every case of the image folder.

    Returns:
        The masks, in the order of their cases.

    Raises:
        UserError: If anything of the request is wrong; nothing has been written then.
    """
    _check_options(request)
    model = find_model_folder(request)
    cases = find_cases(request.images, model.dataset_json)
    prompt_path = request.prompts or prompt_file_for(request.images)
    prompt_file = load_prompt_file(prompt_path)
    check_prompts(prompt_file, cases, model)
    ending = model.dataset_json["file_ending"]
    masks = [request.output / f"{case}{ending}" for case in cases]
    todo = {
        case: files
        for (case, files), mask in zip(cases.items(), masks, strict=True)
        if not (request.continue_prediction and mask.is_file())
    }
    model.check_checkpoints(request.configuration)
    request.output.mkdir(parents=True, exist_ok=True)
    if todo:
        with _prompts_named(prompt_path):
            _run(request, model, todo)
    logger.info("%d masks in %s", len(masks), request.output)
    return masks


def _check_options(request: PredictionRequest) -> None:
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("-device cuda: no CUDA device is available; use -device cpu.")
    if request.processes < 1:
        raise UserError(f"-np {request.processes}: at least one process is needed.")
    if request.output.exists() and not request.output.is_dir():
        raise UserError(f"-o {request.output} is a file; name a folder.")


def check_prompts(prompt_file: PromptFile, cases: dict[str, list[Path]], model: ModelFolder) -> None:
    """Check that images and prompts belong together, labels are known and clicks lie inside.

    Raises:
        UserError: For the first thing that is wrong.
    """
    unknown = [case for case in prompt_file.cases if case not in cases]
    if unknown:
        raise UserError(
            f"{prompt_file.path} has prompts for case '{unknown[0]}', which has no image in the input folder; "
            "remove the case or correct its name."
        )
    require_points_only(prompt_file, model="this model")
    plans = PlansManager(model.plans)
    for case, files in cases.items():
        voxel_prompts(prompt_file, case, read_geometry(files[0]), model.dataset_json, plans)


def _run(request: PredictionRequest, model: ModelFolder, cases: dict[str, list[Path]]) -> None:
    """Predict into a temporary folder beside the output, and move finished cases."""
    make_trainers_known()
    device = torch.device(request.device)
    predictor = nnUNetPredictor(
        tile_step_size=1.0, use_gaussian=False, use_mirroring=False, device=device, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model.path), model.folds, request.checkpoint)
    with tempfile.TemporaryDirectory(prefix=".partial_", dir=request.output) as temporary, _sentences(request):
        predictor.predict_from_data_iterator(
            _preprocessed(predictor, cases, Path(temporary)), request.save_probabilities, request.processes
        )
        _publish(Path(temporary), request.output, cases, model.dataset_json["file_ending"])
    write_json(model.dataset_json, request.output / "dataset.json")
    write_json(model.plans, request.output / "plans.json")


def _publish(made: Path, output: Path, cases: Iterable[str], ending: str) -> None:
    """Move complete results into place. ITK says nothing when a full disk cuts a mask off, so each is read back."""
    for case in cases:
        try:
            check_stored_voxels(made / f"{case}{ending}")
        except UserError as error:
            raise UserError(
                f"-o {output}: the mask of case '{case}' could not be written completely; free space and run again "
                "with --continue_prediction."
            ) from error
        for suffix in (".npz", ".pkl", ending):
            if (made / f"{case}{suffix}").is_file():
                os.replace(made / f"{case}{suffix}", output / f"{case}{suffix}")


@contextmanager
def _prompts_named(path: Path) -> Iterator[None]:
    """Name the prompt file where the preprocessor looks for it, as a user of the stock command does."""
    before = os.environ.get(PROMPTS_VARIABLE)
    os.environ[PROMPTS_VARIABLE] = str(path.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ[PROMPTS_VARIABLE]
        else:
            os.environ[PROMPTS_VARIABLE] = before


@contextmanager
def _sentences(request: PredictionRequest) -> Iterator[None]:
    """Turn what a full device or disk raises into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"-device {request.device}: out of memory; free the device, or use -device cpu.") from error
    except RuntimeError as error:
        if "SimpleITK" not in str(error):
            raise
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"-o {request.output}: a mask could not be written ({reason}); free space, or use another folder."
        ) from error


def _preprocessed(predictor: nnUNetPredictor, cases: dict[str, list[Path]], output: Path) -> Iterator[dict[str, Any]]:
    """What nnU-Net's predictor consumes, made in this process so that errors keep their sentence."""
    configuration = predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    for case, files in tqdm(cases.items(), desc="Predicting", unit="case"):
        data, _, properties = preprocessor.run_case(
            [str(file) for file in files], None, predictor.plans_manager, configuration, predictor.dataset_json
        )
        yield {"data": torch.from_numpy(data), "data_properties": properties, "ofile": str(output / case)}
