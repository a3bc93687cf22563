"""Runs a command and notes its cost: ``python -m nnunetv2_promise.benchmark.measure FILE -- COMMAND ...``."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import locked, read_json, write_json

_SET_PARENT_DEATH_SIGNAL = 1
_EVERY_SECONDS = 10
_RESUMING = {"--c", "--continue_prediction"}


def prefix(record: Path) -> tuple[str, ...]:
    """Program and arguments to put before a command so that its cost is noted in ``record``."""
    return (sys.executable, "-m", "nnunetv2_promise.benchmark.measure", str(record), "--")


def main(argv: Sequence[str]) -> int:
    """Run a console command of an installed package and write its cost.

    The record has ``seconds``, ``device`` (``"cpu"`` or the GPU's name) and ``peak_memory_bytes`` (reserved on the GPU
    if one was used, else resident memory of this process). It is written every few seconds, so that a kill loses
    little. A command that resumes (``--c``, ``--continue_prediction``) adds its seconds to those of the record and
    keeps the higher peak.

    Args:
        argv: Record, ``--``, command, arguments.
    """
    end_with_parent()
    record, command = Path(argv[0]), argv[2:]
    # What an earlier run left behind may need a moment to end.
    with locked(record.with_suffix(".lock"), wait_seconds=60, doing=f"running {command[0]}"):
        resumes = record.is_file() and bool(_RESUMING & set(command))
        before: dict[str, Any] = read_json(record) if resumes else {}
        start, over = time.monotonic(), threading.Event()

        def keep() -> None:
            while not over.wait(_EVERY_SECONDS):
                _write(record, before, time.monotonic() - start)

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            code = _run(command)
        finally:
            over.set()
            keeper.join()
        if not code:
            _write(record, before, time.monotonic() - start)
    return code


def _run(command: Sequence[str]) -> int:
    """Call the function behind a console command, as its script would."""
    found = list(entry_points(group="console_scripts", name=command[0]))
    if not found:
        raise UserError(f"The command {command[0]} is not installed; install the package that has it.")
    sys.argv = list(command)
    try:
        return int(found[0].load()() or 0)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)


def _write(record: Path, before: dict[str, Any], seconds: float) -> None:
    device, peak = _peak()
    content = {
        "seconds": round(seconds + before.get("seconds", 0.0), 3),
        "device": device,
        "peak_memory_bytes": max(peak, before.get("peak_memory_bytes", 0)),
    }
    write_json(content, record)


def _peak() -> tuple[str, int]:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        return torch.cuda.get_device_name(), torch.cuda.max_memory_reserved()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return "cpu", peak if sys.platform == "darwin" else 1024 * peak


def end_with_parent() -> None:
    """End this process and its workers when whoever started it is gone, so that a restart never meets a rest."""
    signal.signal(signal.SIGTERM, _end_session)
    # A forked worker of a pool has to die at once when the pool ends it. With a handler in Python it does not if the
    # signal arrives right before it waits for work, and nnU-Net then waits for it for ever.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _end_session(number: int, frame: FrameType | None) -> None:
    if os.getsid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"Error: {error}")
