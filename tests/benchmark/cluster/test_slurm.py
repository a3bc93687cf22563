"""Units as jobs on a real SLURM of one node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
import pytest
from benchmark_workspace import make_benchmark_workspace, reported_scores
from commands import DATASET
from single_node_slurm import single_node_slurm, why_not

from nnunetv2_promise.benchmark.cluster import slurm as cluster
from nnunetv2_promise.benchmark.cluster.jobs import Submitted, SubmittedJob, failure, load_submitted
from nnunetv2_promise.benchmark.cluster.slurm import ClusterSettings, submit
from nnunetv2_promise.errors import UserError

UNITS = [("A__Plans", "0"), ("B__Plans", "0"), ("A__Plans", "1")]
JOB_SECONDS = 90

# Jobs cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def settings(**changed: Any) -> ClusterSettings:
    chosen = {
        "partition": None,
        "minutes_per_unit": 5,
        "gpus": 0,
        "cpus": 1,
        "memory_gb": 1,
        "parallel": 2,
        "extra": {},
    }
    return ClusterSettings(**(chosen | changed))


def unit(root: Path, trainer: str, fold: str) -> None:
    """A line in ``ran``; does on the first attempt what ``orders`` says."""
    import signal
    import time

    from nnunetv2_promise.errors import UserError

    attempts = root / f"{trainer}_{fold}.attempts"
    with attempts.open("a") as file:
        file.write(f"{os.environ['nnUNet_raw']} {os.environ['nnUNet_n_proc_DA']}\n")
    orders = root / f"{trainer}_{fold}.orders"
    order = orders.read_text() if orders.is_file() and len(attempts.read_text().splitlines()) == 1 else "finish"
    if order == "fail":
        raise UserError("The disk is full; free space.")
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "signal":
        os.kill(os.getpid(), signal.SIGUSR2)
    if order == "wait":
        time.sleep(300)
    time.sleep(0.3)
    (root / f"{trainer}_{fold}.done").touch()


def report(root: Path) -> None:
    """What is done when the report is written."""
    from nnunetv2_promise.errors import UserError

    done = sorted(file.stem for file in root.glob("*.done"))
    (root / "report").write_text(" ".join(done))
    if len(done) < 3:
        raise UserError("units are missing; run them.")


def start(root: Path, chosen: ClusterSettings, units: list[tuple[str, str]] = UNITS) -> Submitted:
    return submit(root, units, chosen, run_unit=unit, run_report=report)


def wait(condition: Callable[[], Any], what: str, root: Path, seconds: float = JOB_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = "".join(f"{log.name}:\n{log.read_text()}\n" for log in root.glob("cluster/*.out"))
            raise AssertionError(f"waited {seconds} s for {what}\n{logs}")
        time.sleep(0.1)


def attempts(root: Path, trainer: str, fold: str) -> list[str]:
    file = root / f"{trainer}_{fold}.attempts"
    return file.read_text().splitlines() if file.is_file() else []


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    reason = why_not()
    if reason:
        pytest.skip(f"no SLURM to start: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="slurm_"))
    try:
        with single_node_slurm(folder) as environment:
            yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def on_slurm(slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of the test cluster; jobs that a failed test left are cancelled."""
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    yield
    subprocess.run(["scancel", "--user=root"], timeout=60, check=True)
    deadline = time.monotonic() + JOB_SECONDS
    while squeue() and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", "/somewhere/raw")
    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)


def squeue() -> list[str]:
    command = ["squeue", "--noheader", "--states=PENDING,RUNNING"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


# SLURM


def test_array_of_units_runs_and_the_report_after_all_of_them(on_slurm: None, tmp_path: Path) -> None:
    """Also where the cluster does not hand the environment on."""
    submitted = start(tmp_path, settings(partition="main", extra={"--export": "NONE", "comment": "a test"}))
    wait((tmp_path / "report").is_file, "the report", tmp_path)
    assert (tmp_path / "report").read_text() == "A__Plans_0 A__Plans_1 B__Plans_0"
    assert all(attempts(tmp_path, *each) == ["/somewhere/raw 1"] for each in UNITS)

    array, last = submitted.numbers
    assert [job.job_id for job in submitted.units] == [f"{array}_{index}" for index in range(3)]
    assert submitted.units[1].name == "B__Plans, fold 0"
    assert all("Job completed successfully" in Path(job.log).read_text() for job in submitted.units)
    assert load_submitted(tmp_path / "cluster") == submitted
    assert json.loads((tmp_path / "cluster" / "jobs.json").read_text())["report"]["job_id"] == last
    assert f"squeue -j {array},{last}" in str(submitted)

    shown = subprocess.run(["scontrol", "show", "job", f"{array}_0"], capture_output=True, text=True, check=True).stdout
    for wanted in (
        "Requeue=1",
        "TimeLimit=00:05:00",
        "Partition=main",
        "Comment=a test",
        "CPUs/Task=1",
        "ArrayTaskThrottle=2",
    ):
        assert wanted in shown, (wanted, shown)


def test_killed_jobs_go_on_and_the_report_waits_for_them(on_slurm: None, tmp_path: Path) -> None:
    """One gets the signal that SLURM sends before a time limit, one is requeued as at a preemption."""
    for name in ("A__Plans_0", "B__Plans_0"):
        (tmp_path / f"{name}.orders").write_text("wait")
    submitted = start(tmp_path, settings())
    signalled, requeued, _ = (job.job_id for job in submitted.units)
    wait(lambda: attempts(tmp_path, *UNITS[0]) and attempts(tmp_path, *UNITS[1]), "two units", tmp_path)
    with pytest.raises(UserError, match=r"still in SLURM's queue \(\d+\); wait for them, or end them with 'scancel "):
        start(tmp_path, settings())
    subprocess.run(["scancel", "--signal=USR2", signalled], timeout=60, check=True)
    subprocess.run(["scontrol", "requeue", requeued], timeout=60, check=True)
    wait((tmp_path / "report").is_file, "the report", tmp_path)
    assert (tmp_path / "report").read_text() == "A__Plans_0 A__Plans_1 B__Plans_0"
    assert [len(attempts(tmp_path, *each)) for each in UNITS] == [2, 2, 1]
    log = Path(submitted.units[0].log).read_text()
    assert "Requeued job" in log
    assert "Job completed successfully" in log


@pytest.mark.slow
def test_job_at_its_time_limit_goes_on(on_slurm: None, tmp_path: Path) -> None:
    (tmp_path / "A__Plans_0.orders").write_text("wait")
    submitted = start(tmp_path, settings(minutes_per_unit=1))
    wait((tmp_path / "report").is_file, "the report", tmp_path, seconds=240)
    assert [len(attempts(tmp_path, *each)) for each in UNITS] == [2, 1, 1]
    assert "Job has timed out" in Path(submitted.units[0].log).read_text()


def test_report_job_names_the_unit_whose_job_died(on_slurm: None, tmp_path: Path) -> None:
    """Also shows that a single unit, which is no array, is followed by its report."""
    (tmp_path / "B__Plans_0.orders").write_text("die")
    submitted = start(tmp_path, settings(), [UNITS[1]])
    assert "_" not in submitted.units[0].job_id
    log = Path(submitted.report.log)
    wait(lambda: log.is_file() and "UserError: The job" in log.read_text(), "the report's error", tmp_path)
    expected = f"The job of B__Plans, fold 0 failed; read {submitted.units[0].log}, fix the cause and run the same"
    assert expected in log.read_text()
    assert not list(tmp_path.glob("*.done"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"partition": "nowhere"}, r"SLURM refused a job \(.*[Ii]nvalid partition.*\); change --partition"),
        ({"memory_gb": 900}, r"SLURM refused a job \(.*\); change"),
        ({"extra": {"no-such-option": "1"}}, r"SLURM refused a job \(.*no-such-option.*\); change"),
        ({"extra": {"time": "10"}}, "--sbatch time: this option is set by --minutes_per_job; leave it out"),
        ({"extra": {"--open-mode": "append"}}, "--sbatch open_mode: this option is set by this command itself"),
    ],
)
def test_refused_job_says_why(changed: dict[str, Any], reason: str, on_slurm: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        start(tmp_path, settings(**changed))
    assert "\n" not in str(caught.value)
    assert not squeue()


def test_units_do_not_stay_behind_without_their_report(
    on_slurm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for each in UNITS:
        (tmp_path / "{}_{}.orders".format(*each)).write_text("wait")

    def refuse(self: Any, job: Any) -> None:
        raise cluster.FailedJobError("sbatch: error: too many jobs")

    monkeypatch.setattr(cluster.SlurmExecutor, "submit", refuse)
    with pytest.raises(UserError, match=r"refused a job \(too many jobs\)"):
        start(tmp_path, settings())
    wait(lambda: not squeue(), "an empty queue", tmp_path)


def test_slurm_without_its_commands_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="SLURM's command sbatch is not on PATH"):
        start(tmp_path, settings())


def test_failures_are_counted() -> None:
    jobs = [SubmittedJob(f"T, fold {fold}", str(fold), f"log_{fold}") for fold in (3, 4)]
    expected = "The job of T, fold 3 failed (2 of 5 jobs failed); read log_3, fix the cause and run the same command "
    assert str(failure(jobs, 5)).startswith(expected)


@pytest.mark.parametrize("content", ["{}", "[]", '{"units": [{}], "report": {}}'])
def test_jobs_file_of_something_else_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(content)
    with pytest.raises(UserError, match=r"jobs\.json does not list the jobs of a benchmark"):
        load_submitted(tmp_path)


# The real command


@pytest.mark.slow
def test_command_on_slurm_gives_the_report_of_a_run_here(on_slurm: None, tmp_path: Path) -> None:
    """One job is signalled, as before its time limit, while it trains."""
    quick = make_benchmark_workspace(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    options = ("--cluster", "slurm", "--partition", "main", "--minutes_per_job", "20", "--gpus_per_job", "0")
    size = ("--cpus_per_job", "1", "--memory_gb", "1", "--parallel", "2", "-f", "0")
    said = quick.run(there, *options, *size).stdout
    assert "Submitted 2 jobs" in said
    submitted = load_submitted(there / "cluster")
    assert submitted

    def trained_a_while() -> bool:
        return bool(list(quick.workspace.results.rglob("QuickProMISe*/fold_0/checkpoint_latest.pth")))

    wait(trained_a_while, "a checkpoint", there, seconds=300)
    number = next(job.job_id for job in submitted.units if job.name.startswith("QuickProMISe"))
    subprocess.run(["scancel", "--signal=USR2", number], timeout=60, check=True)
    wait((there / "report" / "report.html").is_file, "the report", there, seconds=400)
    assert "Requeued job" in (there / "cluster" / f"{number}_0_log.out").read_text()

    shutil.rmtree(quick.workspace.results / DATASET)
    quick.run(here, "-f", "0")
    columns = ["system", "condition", "fold", "case", "label", "dice", "nsd"]
    pd.testing.assert_frame_equal(reported_scores(there)[columns], reported_scores(here)[columns])
