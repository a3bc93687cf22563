"""Forked commands behave as started ones, or the suite would test something else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import preloaded
import pytest

SCRIPT = """
import multiprocessing, os, sys

def child(queue):
    queue.put(__name__)

if __name__ == "__main__":
    import numpy
    assert "nnunetv2" not in sys.modules and "nnunetv2_promise" not in sys.modules
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(sys.argv[1:], os.environ["nnUNet_raw"], os.getcwd(), queue.get(), numpy.random.randint(2**31), sep="|")
    process.join()
    print("wrong", file=sys.stderr)
    sys.exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux only")
def test_forked_command_is_as_a_started_one(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), "a b", "-c"]
    environment = os.environ | {"nnUNet_raw": "here"}
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    forked = [preloaded.run(command[1:], env=environment, timeout=100) for _ in range(2)]
    expected = started.stdout.split("|")
    assert expected[:4] == ["['a b', '-c']", "here", os.getcwd(), "__mp_main__"]
    assert len({float(done.stdout.split("|")[4]) for done in (started, *forked)}) == 3
    for done in forked:
        assert done.stdout.split("|")[:4] == expected[:4]
        assert (done.returncode, done.stderr) == (3, "wrong\n")


@pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux only")
def test_forked_command_that_hangs_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        preloaded.run([str(script)], env=os.environ, timeout=1)
    assert caught.value.output == "begun\n"
