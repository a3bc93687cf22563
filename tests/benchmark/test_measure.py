"""Processes that are measured end with whoever started them, and their workers as any others do."""

from __future__ import annotations

import subprocess
import sys


def test_forked_workers_end_as_usual() -> None:
    """A handler in Python can miss a signal that comes right before a wait; a pool would then never end."""
    code = (
        "import os, signal\n"
        "from nnunetv2_promise.benchmark.measure import end_with_parent\n"
        "end_with_parent()\n"
        "assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
