"""Prediction from a prompt file: check everything, then segment case by case."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import write_json
from nnunetv2_promise.images.folders import find_cases
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.inference.case_output import CaseWriter, OutputFolder
from nnunetv2_promise.inference.case_prompts import VoxelPrompt, grid_of_case, voxel_prompts
from nnunetv2_promise.inference.case_segmentation import segment_case
from nnunetv2_promise.inference.model_folder import ModelFolder, open_model_folder, results_folder
from nnunetv2_promise.inference.prompted_model import PromptedModel
from nnunetv2_promise.prompts.kinds import require_kinds
from nnunetv2_promise.prompts.schema import PromptFile, load_prompt_file, prompt_file_for

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
    instances: bool = False
    continue_prediction: bool = False
    disable_tta: bool = False

    @property
    def model_path(self) -> Path:
        """The model folder that ``-m`` or ``-d -c -tr -p`` name."""
        return self.model_folder or results_folder(
            self.dataset, trainer=self.trainer, plans=self.plans, configuration=self.configuration
        )


@dataclass(frozen=True)
class Case:
    """A case to segment.

    Attributes:
        name: Its name.
        files: One image for each channel.
        prompts: Its clicks, located in the image.
    """

    name: str
    files: Sequence[Path]
    prompts: Sequence[VoxelPrompt]


def predict(request: PredictionRequest) -> list[Path]:
    """Predict every case of the image folder; each mask is published when it is complete.

    Returns:
        The masks, in the order of their cases.

    Raises:
        UserError: If anything of the request is wrong, before anything is written; or at the end, if cases failed, with
            their names and the first reason.
    """
    _check_options(request)
    model = open_model_folder(
        request.model_path,
        configuration=request.configuration,
        folds=request.folds,
        checkpoint=request.checkpoint,
    )
    images = find_cases(request.images, model.dataset_json)
    prompt_file = load_prompt_file(request.prompts or prompt_file_for(request.images))
    cases = locate_prompts(prompt_file, images, model)
    output = OutputFolder(
        request.output,
        model.dataset_json["file_ending"],
        probabilities=request.save_probabilities,
        instances=request.instances,
    )
    todo = [case for case in cases if not (request.continue_prediction and output.is_complete(case.name))]
    model.check_checkpoints()
    failures = _predict_cases(request, model, output, todo) if todo else {}
    _finish(model, output, [case.name for case in cases if case.name not in failures])
    if failures:
        raise UserError(_failed(failures, output))
    logger.info("%d masks in %s", len(cases), request.output)
    return [output.mask(case.name) for case in cases]


def _check_options(request: PredictionRequest) -> None:
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("-device cuda: no CUDA device is available; use -device cpu.")
    if request.processes < 1:
        raise UserError(f"-np {request.processes}: at least one process is needed.")
    if request.output.exists() and not request.output.is_dir():
        raise UserError(f"-o {request.output} is a file; name a folder.")


def locate_prompts(prompt_file: PromptFile, images: Mapping[str, Sequence[Path]], model: ModelFolder) -> list[Case]:
    """The cases with their clicks, checked: images and prompts belong together, labels are known, clicks lie inside.

    Raises:
        UserError: For the first thing that is wrong.
    """
    unknown = [case for case in prompt_file.cases if case not in images]
    if unknown:
        raise UserError(
            f"{prompt_file.path} has prompts for case '{unknown[0]}', which has no image in the input folder; "
            "remove the case or correct its name."
        )
    require_kinds(prompt_file, model.prompt_kinds(), model="this model")
    plans = PlansManager(model.plans)
    configuration = plans.get_configuration(model.configuration)
    cases = []
    for name, files in images.items():
        geometry = grid_of_case(files, plans, configuration)
        cases.append(Case(name, files, voxel_prompts(prompt_file, name, geometry, model.dataset_json, plans)))
    return cases


def _predict_cases(
    request: PredictionRequest, folder: ModelFolder, output: OutputFolder, cases: Sequence[Case]
) -> dict[str, str]:
    """Segment and write cases; case -> reason for those that failed.

    Masks are written by threads while the next case is segmented.
    """
    model = PromptedModel.load(folder, torch.device(request.device), use_mirroring=not request.disable_tta)
    reader_writer = model.plans.image_reader_writer_class()
    failures: dict[str, str] = {}
    with CaseWriter(output, reader_writer) as writer, ThreadPoolExecutor(request.processes) as pool:
        pending: set[Future[None]] = set()
        for case in tqdm(cases, desc="Predicting", unit="case"):
            try:
                for file in case.files:
                    check_stored_voxels(file)
                data, properties = reader_writer.read_images([str(file) for file in case.files])
                masks = segment_case(
                    model, data, properties, case.prompts, keep_probabilities=request.save_probabilities
                )
            except (UserError, torch.OutOfMemoryError, MemoryError) as error:
                failures[case.name] = _reason(error, request)
                logger.warning("Case '%s' failed: %s", case.name, failures[case.name])
                continue
            pending.add(pool.submit(writer.write, case.name, masks, properties, folder.dataset_json["labels"]))
            del data, masks
            pending = _let_finish(pending, at_most=request.processes - 1)
        _let_finish(pending, at_most=0)
    return failures


def _let_finish(pending: set[Future[None]], *, at_most: int) -> set[Future[None]]:
    """Wait until at most so many masks are being written, as each holds memory."""
    while len(pending) > at_most:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
    return pending


def _reason(error: BaseException, request: PredictionRequest) -> str:
    if isinstance(error, UserError):
        return str(error)
    place = f"-device {request.device}" if isinstance(error, torch.OutOfMemoryError) else "this machine"
    return f"{place} is out of memory; free some, or use a machine with more."


def _failed(failures: Mapping[str, str], output: OutputFolder) -> str:
    """One sentence on what failed."""
    names = ", ".join(list(failures)[:5]) + (", ..." if len(failures) > 5 else "")
    first = next(iter(failures.values())).rstrip(".")
    return (
        f"{len(failures)} case(s) failed ({names}), all others are in {output.path}: {first}. "
        "Correct this and run again with --continue_prediction."
    )


def _finish(model: ModelFolder, output: OutputFolder, done: Sequence[str]) -> None:
    """Write what belongs to all cases; nnU-Net's commands read the two JSON files."""
    if not done:
        return
    if output.instances:
        output.write_table(list(done))
    write_json(model.dataset_json, output.path / "dataset.json")
    write_json(model.plans, output.path / "plans.json")
