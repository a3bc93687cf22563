"""Jobs of a benchmark on a cluster: what runs in them, and what is kept of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from submitit import Job, SlurmJob
from submitit.helpers import Checkpointable

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json

JOBS_NAME = "jobs.json"

RunUnit = Callable[[Path, str, str], Any]
RunReport = Callable[[Path], Any]


@dataclass(frozen=True)
class SubmittedJob:
    """A job.

    Attributes:
        name: What it does, in words.
        job_id: SLURM's number, such as ``"123_4"``.
        log: File with what it prints.
    """

    name: str
    job_id: str
    log: str


@dataclass(frozen=True)
class Submitted:
    """The jobs of a benchmark.

    Attributes:
        folder: With logs and ``jobs.json``.
        units: One for each trainer and fold, in the order that was asked for.
        report: The job that writes the report.
    """

    folder: Path
    units: tuple[SubmittedJob, ...]
    report: SubmittedJob

    @property
    def numbers(self) -> tuple[str, str]:
        """SLURM's numbers of the array and of the report."""
        return self.units[0].job_id.split("_")[0], self.report.job_id

    def __str__(self) -> str:
        """What a user wants to know."""
        array, report = self.numbers
        return (
            f"Submitted {len(self.units)} jobs ({array}) and the report after them ({report}); watch them with "
            f"'squeue -j {array},{report}'; logs and job numbers: {self.folder}"
        )

    def save(self) -> None:
        """Write ``jobs.json``."""
        write_json({**asdict(self), "folder": str(self.folder)}, self.folder / JOBS_NAME)


def load_submitted(folder: Path) -> Submitted | None:
    """What ``Submitted.save`` wrote into a folder; None if it did not.

    Raises:
        UserError: If the file is something else.
    """
    file = folder / JOBS_NAME
    if not file.is_file():
        return None
    content = read_json(file)
    try:
        units = tuple(SubmittedJob(**unit) for unit in content["units"])
        return Submitted(folder, units, SubmittedJob(**content["report"]))
    except (KeyError, TypeError) as error:
        raise UserError(f"{file} does not list the jobs of a benchmark; remove it.") from error


def describe(name: str, job: Job[Any]) -> SubmittedJob:
    """What is kept of a job of submitit's."""
    return SubmittedJob(name, job.job_id, str(job.paths.stdout))


def unit_name(unit: tuple[str, str]) -> str:
    """A unit in words."""
    return "{}, fold {}".format(*unit)


def has_failed(job: Job[Any]) -> bool:
    """Whether a job that is over left no result (it was killed) or an error."""
    return not job.paths.result_pickle.is_file() or job.exception() is not None


def failure(failed: list[SubmittedJob], total: int) -> UserError:
    """The error for jobs that failed; names the first one and its log."""
    number = f" ({len(failed)} of {total} jobs failed)" if len(failed) > 1 else ""
    return UserError(
        f"The job of {failed[0].name} failed{number}; read {failed[0].log}, fix the cause and run the same command "
        "again (finished steps are kept)."
    )


class UnitJob(Checkpointable):
    """One unit in a job.

    Before its time limit submitit requeues it, by ``checkpoint``; it then resumes, since units are restartable.
    """

    def __init__(self, root: Path, unit: tuple[str, str], environment: dict[str, str], run: RunUnit | None) -> None:
        self.root, self.unit, self.environment, self.run = root, unit, environment, run

    def __call__(self) -> None:
        """Do what is not done yet."""
        os.environ.update(self.environment)
        if self.run is None:
            from nnunetv2_promise.benchmark.units import run_unit

            run_unit(self.root, *self.unit)
        else:
            self.run(self.root, *self.unit)


class ReportJob(Checkpointable):
    """The report in a job."""

    def __init__(self, root: Path, folder: Path, environment: dict[str, str], run: RunReport | None) -> None:
        self.root, self.folder, self.environment, self.run = root, folder, environment, run

    def __call__(self) -> None:
        """Write the report.

        Raises:
            UserError: If it cannot be written; names the job that failed where one did.
        """
        os.environ.update(self.environment)
        try:
            self._write()
        except UserError as error:
            self._name_failed_job(error)
            raise

    def _write(self) -> None:
        if self.run is None:
            from nnunetv2_promise.benchmark.run import finish

            finish(self.root)
        else:
            self.run(self.root)

    def _name_failed_job(self, error: UserError) -> None:
        submitted = load_submitted(self.folder)
        if submitted is None:
            return
        failed = [unit for unit in submitted.units if has_failed(SlurmJob(self.folder, unit.job_id))]
        if failed:
            raise failure(failed, len(submitted.units)) from error
