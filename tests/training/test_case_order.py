"""The order of cases: once in an epoch, over workers, processes and restarts."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import pytest

from nnunetv2_promise.training.case_order import CaseOrder

CASES = [f"case_{number:02d}" for number in range(13)]


def order(cases: Sequence[str] = CASES, **more: int) -> CaseOrder:
    made = CaseOrder(cases, batch_size=2, seed=(0, 3), **more)
    made.next_batch()  # nnU-Net's trial batch
    return made


@pytest.mark.parametrize(
    ("cases", "processes", "steps"),
    [(13, 1, 7), (13, 2, 4), (13, 3, 3), (12, 1, 6), (12, 2, 3), (12, 3, 2), (1, 1, 1)],
)
def test_an_epoch_has_every_case_once_and_a_fill(cases: int, processes: int, steps: int) -> None:
    ranks = [order(CASES[:cases], rank=rank, processes=processes) for rank in range(processes)]
    for _ in range(3):
        drawn = Counter(case for _ in range(steps) for rank in ranks for case in rank.next_batch())
        assert set(drawn) == set(CASES[:cases])
        assert sum(drawn.values()) == steps * 2 * processes
    assert ranks[0].steps_per_pass == steps


def test_passes_repeat_with_the_seed_and_differ_from_each_other() -> None:
    first, second = order(), order()
    assert first.steps_per_pass == 7  # of one process, unless told otherwise
    passes = [[first.next_batch() for _ in range(7)] for _ in range(3)]
    assert [second.next_batch() for _ in range(7)] == passes[0]
    assert {case for batch in passes[0] for case in batch} == set(CASES)
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_workers_share_the_order() -> None:
    alone = order()
    expected = Counter(tuple(alone.next_batch()) for _ in range(12))
    copies = [CaseOrder(CASES, batch_size=2, seed=(0, 3)) for _ in range(3)]
    batches = [[c.next_batch(worker, 3) for _ in range(5)] for worker, c in enumerate(copies)]
    in_turn = [tuple(batches[step % 3][step // 3]) for step in range(13)]
    assert Counter(in_turn[1:]) == expected


def test_resumed_training_continues_the_order() -> None:
    undisturbed = order()
    for _ in range(2 * undisturbed.steps_per_pass):
        undisturbed.next_batch()
    resumed = order(start=2 * undisturbed.steps_per_pass)
    assert [resumed.next_batch() for _ in range(9)] == [copy.deepcopy(undisturbed).next_batch() for _ in range(1)] + [
        batch for batch in [undisturbed.next_batch() for _ in range(9)][1:]
    ]
