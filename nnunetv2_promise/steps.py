"""Steps of a job: commands that are printed, run one after the other, and not run again once done."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Attributes:
        name: Short and unique; names the step's stamp and log file.
        title: What it does, in a few plain words.
        command: Program and arguments.
        resume: Arguments added when the step was interrupted and ``resumable`` says that it can go on.
        resumable: Whether there is something to go on from.
    """

    name: str
    title: str
    command: tuple[str, ...]
    resume: tuple[str, ...] = ()
    resumable: Callable[[], bool] = lambda: False


def run_steps(steps: Sequence[Step], folder: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Run the steps that are not done yet; everything after a step that ran is run as well.

    A step's output goes to the terminal and, as one file per step, to ``folder/logs``. Its stamp in ``folder/done``
    holds its command, so a step whose command changed is run again.

    Args:
        steps: In order.
        folder: The job's folder.
        environment: Variables that the steps need beside the present ones.
        say: Prints one line.

    Raises:
        UserError: If a command is missing or fails.
    """
    done_folder, log_folder = folder / "done", folder / "logs"
    log_folder.mkdir(parents=True, exist_ok=True)
    stale = False
    for number, step in enumerate(steps, start=1):
        stamp = done_folder / f"{step.name}.json"
        heading = f"[{number}/{len(steps)}] {step.title}"
        seconds = None if stale else _seconds_of(stamp, step)
        if seconds is not None:
            say(f"{heading}: done before, in {seconds:.0f} s")
            continue
        # What lies there from a step whose input changed since is not gone on from.
        command = step.command + (step.resume if not stale and step.resumable() else ())
        stale = True
        for later in steps[number - 1 :]:
            (done_folder / f"{later.name}.json").unlink(missing_ok=True)
        say(f"\n{heading}\n$ {shlex.join(command)}")
        seconds = _run(command, log_folder / f"{step.name}.txt", environment)
        resumed = command != step.command
        content = {"title": step.title, "command": list(step.command), "seconds": round(seconds, 1), "resumed": resumed}
        write_json(content, stamp)


def _seconds_of(stamp: Path, step: Step) -> float | None:
    """How long the step took when it was done; None if it has to run."""
    if not stamp.is_file():
        return None
    content = read_json(stamp)
    return float(content["seconds"]) if content["command"] == list(step.command) else None


def _run(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> float:
    """Run one command, copying its output to the terminal and to ``log``; the seconds it took."""
    start = time.monotonic()
    full_environment = {**os.environ, **environment, "PATH": _path_with_our_commands(), "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8", newline="") as log_file:
        try:
            process = subprocess.Popen(
                list(command),
                env=full_environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except FileNotFoundError as error:
            raise UserError(f"The command {command[0]} is not installed; install the package and run again.") from error
        with process:
            for line in process.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
                log_file.write(line)
    if process.returncode:
        raise UserError(
            f"{command[0]} failed with exit code {process.returncode}; read {log}, mend the cause and run again "
            "(finished steps are kept)."
        )
    return time.monotonic() - start


def _path_with_our_commands() -> str:
    """PATH with this interpreter's own commands first, so that an environment need not be activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
