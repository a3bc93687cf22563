"""Submitit's jobs on this machine, a few at a time: how a benchmark on a cluster is tried without one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submitit import Job, LocalExecutor

from nnunetv2_promise.benchmark.cluster.jobs import SubmittedJob, describe, failure, has_failed
from nnunetv2_promise.errors import UserError

if TYPE_CHECKING:
    from nnunetv2_promise.benchmark.cluster.slurm import ClusterSettings, NamedJob

ATTEMPTS = 6
"""Submitit starts a job that reaches its time limit so many times; then it is over."""

_POLL_SECONDS = 0.2
_SPARE_SECONDS = 60


def run_local_jobs(jobs: Sequence[NamedJob], folder: Path, settings: ClusterSettings) -> tuple[SubmittedJob, ...]:
    """Run jobs, each in a process of its own, and wait for them; one that fails does not keep others from running.

    Args:
        jobs: Name and function of each.
        folder: For their logs.
        settings: What each job asks for.

    Raises:
        UserError: If jobs failed or did not end in time; names the first.
    """
    free = _places(settings)
    waiting = list(jobs)
    running: list[_RunningJob] = []
    ended: list[_RunningJob] = []
    try:
        while waiting or running:
            while waiting and free:
                running.append(_RunningJob(waiting.pop(0), free.pop(0), folder, settings))
            over = [job for job in running if job.is_over()]
            running = [job for job in running if job not in over]
            free += [job.gpus for job in over]
            ended += over
            time.sleep(_POLL_SECONDS)
    finally:
        for job in running:
            job.job.cancel()
    failed = [job.submitted for job in ended if has_failed(job.job)]
    if failed:
        raise failure(failed, len(jobs))
    found = {job.submitted.name: job.submitted for job in ended}
    return tuple(found[name] for name, _ in jobs)


def _places(settings: ClusterSettings) -> list[list[int]]:
    """The GPUs of each job that runs at a time; as many jobs as processors and GPUs are enough for, at least one."""
    places = max(1, min(settings.parallel, (os.cpu_count() or 1) // settings.cpus))
    if not settings.gpus:
        return [[] for _ in range(places)]
    gpus = _visible_gpus()
    if settings.gpus > len(gpus):
        raise UserError(
            f"A job asks for {settings.gpus} GPU(s), and {len(gpus)} are visible here; lower --gpus_per_job (0: none)."
        )
    starts = range(0, len(gpus) - settings.gpus + 1, settings.gpus)
    return [gpus[start : start + settings.gpus] for start in starts][:places]


def _visible_gpus() -> list[int]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [int(gpu) for gpu in named.split(",") if gpu.strip().isdecimal()]
    import torch

    return list(range(torch.cuda.device_count()))


class _RunningJob:
    """A job that was started."""

    def __init__(self, named: NamedJob, gpus: list[int], folder: Path, settings: ClusterSettings) -> None:
        name, function = named
        executor = LocalExecutor(folder, max_num_timeout=ATTEMPTS)
        executor.update_parameters(
            timeout_min=settings.minutes_per_unit,
            signal_delay_s=settings.signal_delay_s,
            gpus_per_node=len(gpus),
            visible_gpus=gpus,
            stderr_to_stdout=True,
        )
        self.gpus = gpus
        self.job: Job[Any] = executor.submit(function)
        self.submitted = describe(name, self.job)
        self.deadline = time.monotonic() + ATTEMPTS * (60 * settings.minutes_per_unit + _SPARE_SECONDS)

    def is_over(self) -> bool:
        """Whether it ended; one that is late is ended."""
        if self.job.done():
            return True
        if time.monotonic() < self.deadline:
            return False
        self.job.cancel()
        return True
