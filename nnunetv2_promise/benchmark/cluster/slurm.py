"""The units of a benchmark as jobs: a SLURM job array and a report after it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from nnunetv2_promise.benchmark.cluster.jobs import (
    ReportJob,
    RunReport,
    RunUnit,
    Submitted,
    UnitJob,
    describe,
    load_submitted,
    unit_name,
)
from nnunetv2_promise.errors import UserError

FOLDER_NAME = "cluster"
MAX_REQUEUES = 1000
"""Trainings may take many times a job's limit; submitit's own limit is three."""

_SLURM_SECONDS = 60
_LONGEST_SIGNAL_DELAY_S = 90
# Options of sbatch that are ours or submitit's to set.
_OWN_OPTIONS = {
    "time": "--minutes_per_job",
    "partition": "--partition",
    "gpus_per_node": "--gpus_per_job",
    "cpus_per_task": "--cpus_per_job",
    "mem": "--memory_gb",
    **dict.fromkeys(
        ("array", "dependency", "error", "open_mode", "output", "requeue", "signal"), "this command itself"
    ),
}


@dataclass(frozen=True)
class ClusterSettings:
    """What each job asks for.

    Attributes:
        partition: SLURM's partition; None for the cluster's default.
        minutes_per_unit: Time limit of a job; it is then requeued and resumes.
        gpus: For each job.
        cpus: For each job.
        memory_gb: For each job.
        parallel: Jobs at a time, at most.
        extra: More options of ``sbatch``, such as ``{"account": "mine"}``.
    """

    partition: str | None
    minutes_per_unit: int
    gpus: int
    cpus: int
    memory_gb: int
    parallel: int
    extra: dict[str, str]

    @property
    def signal_delay_s(self) -> int:
        """How long before its end a job is told so: enough to be requeued, but no large part of its time."""
        return min(_LONGEST_SIGNAL_DELAY_S, 15 * self.minutes_per_unit)


def check_submission(root: Path, settings: ClusterSettings) -> None:
    """Check what can be checked before anything of the benchmark's folder is touched, which queued jobs may be reading.

    Raises:
        UserError: If SLURM's commands are missing, an option is set otherwise, or jobs of this benchmark are queued.
    """
    _extra_options(settings.extra)
    for command in ("sbatch", "srun", "squeue", "scancel"):
        if shutil.which(command) is None:
            raise UserError(f"SLURM's command {command} is not on PATH; submit from a machine of the cluster.")
    _refuse_if_queued(root / FOLDER_NAME)


def submit(
    root: Path,
    units: Sequence[tuple[str, str]],
    settings: ClusterSettings,
    *,
    run_unit: RunUnit | None = None,
    run_report: RunReport | None = None,
) -> Submitted:
    """Submit a job for each unit, and one for the report after them.

    This returns at once. The report's job starts once all others are over, whether or not they succeeded: it says what
    is missing. Ids and logs are kept in ``root/cluster``.

    Args:
        root: The benchmark's folder.
        units: Key of the method and training of each.
        settings: What each job asks for.
        run_unit: What a unit's job calls; ``benchmark.units.run_unit`` if None.
        run_report: What the report's job calls; ``benchmark.run.finish`` if None.

    Raises:
        UserError: If SLURM's commands are missing, refuse a job or still have jobs of this benchmark.
    """
    check_submission(root, settings)
    root = root.absolute()
    folder, environment = root / FOLDER_NAME, _environment(settings)
    folder.mkdir(parents=True, exist_ok=True)
    executor = SlurmExecutor(folder, max_num_timeout=MAX_REQUEUES)
    executor.update_parameters(**_parameters(settings, _extra_options(settings.extra)))
    jobs = [UnitJob(root, unit, environment, run_unit) for unit in units]
    started = _submitted(lambda: executor.submit_array(jobs))
    array = started[0].job_id.split("_")[0]
    # The same request as for units: a cluster that takes those takes this.
    executor.update_parameters(dependency=f"afterany:{array}", job_name="promise_report")
    try:
        last = _submitted(lambda: executor.submit(ReportJob(root, folder, environment, run_report)))
    except UserError:
        _slurm("scancel", array)
        raise
    named = tuple(describe(unit_name(unit), job) for unit, job in zip(units, started, strict=True))
    submitted = Submitted(folder, named, describe("the report", last))
    submitted.save()
    return submitted


def _environment(settings: ClusterSettings) -> dict[str, str]:
    """nnU-Net's variables, since not every cluster hands the environment on; data loading gets the job's processors."""
    found = {name: value for name, value in os.environ.items() if name.startswith("nnUNet_")}
    return {"nnUNet_n_proc_DA": str(settings.cpus)} | found


def _parameters(settings: ClusterSettings, options: dict[str, Any]) -> dict[str, Any]:
    """Submitit's parameters."""
    return {
        "job_name": "promise",
        "partition": settings.partition,
        "time": settings.minutes_per_unit,
        "gpus_per_node": settings.gpus or None,
        "cpus_per_task": settings.cpus,
        # srun does not take the first over from sbatch since SLURM 22.05; submitit's variables come with the second.
        "srun_args": [f"--cpus-per-task={settings.cpus}", "--export=ALL"],
        "mem": f"{settings.memory_gb}GB",
        "array_parallelism": settings.parallel,
        "signal_delay_s": settings.signal_delay_s,
        "stderr_to_stdout": True,
        "additional_parameters": {**options, "requeue": True},
    }


def _extra_options(extra: dict[str, str]) -> dict[str, str]:
    """Options as submitit takes them.

    Raises:
        UserError: If one is set otherwise.
    """
    options = {key.lstrip("-").replace("-", "_"): value for key, value in extra.items()}
    for key in options:
        if key in _OWN_OPTIONS:
            raise UserError(f"--sbatch {key}: this option is set by {_OWN_OPTIONS[key]}; leave it out.")
    return options


def _submitted(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line.strip().removeprefix("sbatch: error: ").rstrip(".") for line in str(error).splitlines()]
        said = "; ".join(line for line in lines if line) or "no reason given"
        raise UserError(f"SLURM refused a job ({said}); change --partition, the job's size or --sbatch.") from error


def _refuse_if_queued(folder: Path) -> None:
    """Two jobs for one unit would be in each other's way."""
    before = load_submitted(folder)
    if before is None:
        return
    for number in before.numbers:
        if _slurm("squeue", "--noheader", "--jobs", number).strip():
            raise UserError(
                f"Jobs of this benchmark are still in SLURM's queue ({number}); wait for them, or end them with "
                f"'scancel {' '.join(before.numbers)}'."
            )


def _slurm(*command: str) -> str:
    """What one of SLURM's commands prints; nothing if it fails, as for a number that SLURM has forgotten."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SLURM_SECONDS, check=False).stdout
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"SLURM does not answer ({command[0]} took over {_SLURM_SECONDS} s); try again later."
        ) from error
