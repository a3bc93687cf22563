"""Validation cases, shared out among training processes that stay in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import distributed


class Process(Protocol):
    """What a trainer says of its process."""

    is_ddp: bool
    local_rank: int


def share_of_process(process: Process, cases: Sequence[str]) -> list[str]:
    """The cases that this process validates; all of them where there is only one process."""
    return list(cases[process.local_rank :: distributed.get_world_size()] if process.is_ddp else cases)


def in_step(process: Process, cases: Sequence[str]) -> Iterator[str]:
    """The cases of this process, one by one; after each the processes wait for each other.

    A process that waited for a slower one at the very end only would be given up after PyTorch's time limit.
    """
    common_rounds = len(cases) // distributed.get_world_size() if process.is_ddp else 0
    for number, case in enumerate(share_of_process(process, cases), 1):
        yield case
        if number <= common_rounds:
            distributed.barrier()
