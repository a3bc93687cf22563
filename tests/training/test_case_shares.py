"""Validation cases are shared out among processes, which wait for each other after each round."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nnunetv2_promise.training import case_shares

CASES = ["a", "b", "c", "d", "e"]


def walk(rank: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What one process does, a bar for each time that it waits."""
    steps: list[str] = []
    monkeypatch.setattr(case_shares.distributed, "get_world_size", lambda: processes)
    monkeypatch.setattr(case_shares.distributed, "barrier", lambda: steps.append("|"))
    for case in case_shares.in_step(SimpleNamespace(is_ddp=True, local_rank=rank), CASES):
        steps.append(case)
    return steps


def test_processes_wait_in_the_rounds_that_all_of_them_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert walk(0, 2, monkeypatch) == ["a", "|", "c", "|", "e"]
    assert walk(1, 2, monkeypatch) == ["b", "|", "d", "|"]
    assert walk(6, 7, monkeypatch) == []


def test_one_process_takes_all_and_waits_for_nobody() -> None:
    alone = SimpleNamespace(is_ddp=False, local_rank=0)
    assert list(case_shares.in_step(alone, CASES)) == CASES == case_shares.share_of_process(alone, CASES)
