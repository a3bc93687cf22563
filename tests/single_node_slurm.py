"""A real SLURM on this machine for tests: one node, three daemons, a folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
# Where Debian installs daemons; not on everyone's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
START_SECONDS = 30


def why_not() -> str | None:
    """Why SLURM cannot be started here; None if it can."""
    missing = [name for name in COMMANDS if shutil.which(name, path=SEARCH) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian's slurm-wlm and munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


@contextmanager
def single_node_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start SLURM; yields the environment that its commands need.

    Args:
        folder: For configuration, state and logs; no part of its path may be private to one user.
    """
    with ExitStack() as daemons:
        munge_socket = _start_munge(folder, daemons)
        configuration = _write_configuration(folder, munge_socket)
        environment = {"SLURM_CONF": str(configuration)}
        for daemon in ("slurmctld", "slurmd"):
            command = [_program(daemon), "-D", "-f", str(configuration)]
            daemons.enter_context(_running(command, folder / f"{daemon}.out", environment))
        _wait(lambda: "idle" in _sinfo(environment), folder)
        yield environment


def _start_munge(folder: Path, daemons: ExitStack) -> Path:
    key, munge_socket = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    files = [f"--{kind}-file={folder / f'munge.{kind}'}" for kind in ("key", "log", "pid", "seed")]
    command = [_program("munged"), "--foreground", "--force", f"--socket={munge_socket}", *files]
    daemons.enter_context(_running(command, folder / "munged.out", {}))
    _wait(munge_socket.exists, folder)
    return munge_socket


def _write_configuration(folder: Path, munge_socket: Path) -> Path:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    ctld_port, node_port = _free_ports(2)
    # Credentials expire soon because a requeued job waits for that.
    lines = f"""
        ClusterName=test
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={ctld_port}
        SlurmUser=root
        AuthType=auth/munge
        AuthInfo=socket={munge_socket},cred_expire=5
        ProctrackType=proctrack/pgid
        TaskPlugin=task/none
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool
        SlurmctldPidFile={folder}/ctld.pid
        SlurmdPidFile={folder}/d.pid
        SlurmctldLogFile={folder}/ctld.log
        SlurmdLogFile={folder}/d.log
        SlurmdParameters=config_overrides
        SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
        KillWait=5
        ReturnToService=2
        MpiDefault=none
        JobAcctGatherType=jobacct_gather/none
        NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=2 RealMemory=4000 State=UNKNOWN
        PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
    """
    configuration = folder / "slurm.conf"
    configuration.write_text("\n".join(line.strip() for line in lines.strip().splitlines()) + "\n")
    return configuration


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _running(command: list[str], output: Path, environment: dict[str, str]) -> Iterator[None]:
    """A daemon in the foreground, ended by its process id."""
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _program(name: str) -> str:
    found = shutil.which(name, path=SEARCH)
    assert found
    return found


def _sinfo(environment: dict[str, str]) -> str:
    command = [_program("sinfo"), "--noheader", "--format=%t"]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


def _wait(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    logs = "\n".join(
        f"{file.name}:\n{file.read_text()[-1500:]}" for file in sorted(folder.glob("*.[lo]*")) if file.is_file()
    )
    raise RuntimeError(f"SLURM did not start within {START_SECONDS} s\n{logs}")
