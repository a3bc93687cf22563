"""Steps of a job: commands that are printed, run one after the other, and not run again once done."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json


@dataclass(frozen=True)
class Step:
    """One command of a job, or one function of ours.

    Attributes:
        name: Short and unique; names the step's stamp and log file.
        title: What it does, in a few plain words.
        command: Program and arguments; for a function, what identifies its work.
        resume: Arguments added when the step was interrupted and ``resumable`` says that it can be resumed.
        resumable: Whether there is something to resume from.
        action: A function that runs in this process instead of the command.
        needs: Steps whose result it uses; it runs again after one of them ran. None stands for all earlier ones.
        already: Whether the result is there, whoever made it; then this alone decides whether the step is done.
        made_from: What the result is made from, fit for JSON, such as digests of its inputs. A step is done if its
            stamp holds the same. Without it, the command has to be the same.
        prefix: Program and arguments that the command is run through; no part of what is printed.
        environment: Variables of this step alone.
    """

    name: str
    title: str
    command: tuple[str, ...]
    resume: tuple[str, ...] = ()
    resumable: Callable[[], bool] = lambda: False
    action: Callable[[], None] | None = None
    needs: tuple[str, ...] | None = None
    already: Callable[[], bool] | None = None
    made_from: Callable[[], Any] | None = None
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command as a shell takes it, with the step's own variables."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return shlex.join((*(("env", *variables) if variables else ()), *self.command))


def run_steps(
    steps: Sequence[Step],
    folder: Path,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    echo: bool = True,
    hear: Callable[[str], None] | None = None,
) -> None:
    """Run the steps that are not done yet, and those that need a step that ran.

    A step's output goes to one file per step in ``folder/logs`` and, if ``echo`` is set, to the terminal. Its stamp in
    ``folder/done`` holds its command and what it was made from, so a step is run again if that changed.

    Args:
        steps: In order.
        folder: The job's folder.
        environment: Variables that the steps need beside the present ones.
        say: Prints one line.
        echo: Whether commands and their output are shown; without, only what a step does.
        hear: Gets each line that a command prints.

    Raises:
        UserError: If a command is missing or fails.
    """
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    ran: set[str] = set()
    for number, step in enumerate(steps, start=1):
        heading = f"[{number}/{len(steps)}] {step.title}"
        made_from = step.made_from() if step.made_from else None
        stale = bool(ran if step.needs is None else ran & set(step.needs))
        done = None if stale else _done_before(step, folder, made_from)
        if done is not None:
            say(f"{heading}: {done}")
            continue
        # What is left of a step whose input has changed since is not resumed from.
        begun = _stamp(folder, f"{step.name}.begun")
        same = step.made_from is None or (begun.is_file() and read_json(begun) == made_from)
        command = step.command + (step.resume if not stale and same and step.resumable() else ())
        for name in _needing(step.name, steps):
            _stamp(folder, name).unlink(missing_ok=True)
        ran.add(step.name)
        say(f"\n{heading}\n$ {shlex.join(command)}" if echo else heading)
        content = {"title": step.title, "command": list(step.command), "resumed": command != step.command}
        if step.made_from is not None:
            content["made_from"] = made_from
            write_json(made_from, begun)
        start = time.monotonic()
        if step.action is not None:
            step.action()
        else:
            log, variables = folder / "logs" / f"{step.name}.txt", {**environment, **step.environment}
            _run((*step.prefix, *command), log, variables, echo=echo, hear=hear)
        write_json({**content, "seconds": round(time.monotonic() - start, 1)}, _stamp(folder, step.name))
        begun.unlink(missing_ok=True)


def _stamp(folder: Path, name: str) -> Path:
    return folder / "done" / f"{name}.json"


def _done_before(step: Step, folder: Path, made_from: Any) -> str | None:
    """What to say of a step that need not run; None if it has to."""
    stamp = read_stamp(folder, step.name)
    if step.already is not None:
        done = step.already()
    elif stamp is not None and step.made_from is not None:
        done = stamp.get("made_from") == made_from
    else:
        done = stamp is not None and stamp["command"] == list(step.command)
    if not done:
        return None
    return "already there" if stamp is None else f"done before, in {stamp['seconds']:.0f} s"


def read_stamp(folder: Path, name: str) -> dict[str, Any] | None:
    """What was noted when a step of a job's folder was done: title, command, seconds, resumed; None if it is not."""
    stamp = _stamp(folder, name)
    return read_json(stamp) if stamp.is_file() else None


_running: set[subprocess.Popen[str]] = set()


def stop_running_commands() -> None:
    """End every command that a step of this process is running, with all that it started; their steps fail then.

    Ctrl-C reaches the main thread only, and commands have sessions of their own.
    """
    for process in list(_running):
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _needing(name: str, steps: Sequence[Step]) -> set[str]:
    """A step and every later one that needs it, directly or through others."""
    found = {name}
    for position, step in enumerate(steps):
        earlier = {other.name for other in steps[:position]} if step.needs is None else set(step.needs)
        if earlier & found:
            found.add(step.name)
    return found


def _run(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    echo: bool,
    hear: Callable[[str], None] | None,
) -> None:
    """Run one command, copying its output to ``log`` and to the terminal."""
    with log.open("w", encoding="utf-8", newline="") as log_file, _started(command, environment) as process:
        for line in process.stdout or ():
            log_file.write(line)
            log_file.flush()
            if hear is not None:
                hear(line)
            if echo:
                sys.stdout.write(line)
                sys.stdout.flush()
    if process.returncode:
        raise UserError(
            f"{_program(command)} failed with exit code {process.returncode}{_last_error(log)}; read {log}, fix the "
            "cause and run again (finished steps are kept)."
        )


@contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A running command in a session of its own, which is ended with everything that it started if we are stopped."""
    try:
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **environment, "PATH": _path_with_our_commands(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise UserError(f"The command {command[0]} is not installed; install the package and run again.") from error
    _running.add(process)
    with process:
        undisturbed = False
        try:
            yield process
            undisturbed = True
        finally:
            _running.discard(process)
            if not undisturbed:
                _end(process)


def _program(command: Sequence[str]) -> str:
    """The program that failed: the one behind ``--`` if it was run through another."""
    return command[command.index("--") + 1] if "--" in command else command[0]


def _last_error(log: Path) -> str:
    """The last one-line error that our commands printed."""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("Error: ")]
    return f" ({lines[-1].removeprefix('Error: ').rstrip('.')})" if lines else ""


def _path_with_our_commands() -> str:
    """PATH with this interpreter's own commands first, so that an environment need not be activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
