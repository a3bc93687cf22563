"""Commands in processes that are born with the large libraries loaded, as importing takes longer than their work.

A server process imports them, but nothing of nnU-Net or of this package, and forks for each command: the child runs the
command's script as if Python had just been started. Where that is impossible, Python is started.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "monai.losses",
    "monai.networks.nets",
    "pandas",
    "scipy.ndimage",
    "scipy.stats",
    "seaborn",
    "SimpleITK",
    "nibabel",
    "skimage.measure",
    "blosc2",
)
OURS = ("nnUNet_", "PROMISE_", "PYTEST_")
"""Variables that these libraries do not read, so that a command may have others than the server."""


def run(command: Sequence[str], *, env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` with captured text, for a Python script and its arguments.

    Raises:
        subprocess.TimeoutExpired: If it takes too long; it is killed.
    """
    if sys.platform != "linux" or _of_libraries(env) != _of_libraries(os.environ):
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("out.txt", "err.txt")]
        request = {"command": list(command), "env": dict(env), "cwd": os.getcwd(), "files": files, "timeout": timeout}
        server = _server(tuple(_of_libraries(os.environ).items()))
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        out, err = (Path(file).read_text(encoding="utf-8", errors="replace") for file in files)
    if code is None:
        raise subprocess.TimeoutExpired(list(command), timeout, out, err)
    return subprocess.CompletedProcess(list(command), code, out, err)


def _of_libraries(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(environment.items()) if not name.startswith(OURS)}


@functools.cache
def _server(environment: tuple[tuple[str, str], ...]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.kill)
    return process


def serve() -> None:
    """Answer each request, a line of JSON, with the exit code of its command; null if it took too long."""
    for library in LIBRARIES:
        importlib.import_module(library)
    wake_lazy_modules()
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            become(request)
            return  # the interpreter ends as after any script
        code = wait(child, request["timeout"])
        sys.stdout.write(json.dumps(code) + "\n")
        sys.stdout.flush()


def wake_lazy_modules() -> None:
    """Let every module import what it imports when it is asked for its file: nnU-Net asks them all, in a walk through
    ``sys.modules`` that ends with an error if one is added, and a script's own Python would not have them.
    """
    before = -1
    while before != len(sys.modules):
        before = len(sys.modules)
        for module in list(sys.modules.values()):
            getattr(module, "__file__", None)


def become(request: dict[str, Any]) -> None:
    """Run the script of a request in this process."""
    import numpy as np

    for number, file in enumerate([os.devnull, *request["files"]]):
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    np.random.seed()  # or every command would draw the server's numbers
    sys.argv = request["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def wait(child: int, seconds: float) -> int | None:
    """The exit code of a process; None if it had to be killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    serve()
