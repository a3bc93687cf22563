"""The order of cases: an epoch has each of them once, whoever loads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class CaseOrder:
    """Endless passes over the cases, each a permutation, shared out among loading workers and training processes.

    All workers know the whole order and each takes its own batches of it, so nothing needs to be passed between them.
    A pass that does not fill its last step is filled up with cases drawn again.

    Args:
        cases: Their names.
        batch_size: Cases in a batch of one process.
        seed: Of the order; the same in all processes.
        rank: Number of this training process.
        processes: Number of training processes.
        start: Steps taken before, in a training that is resumed. The step before the first one serves nnU-Net's
            trial batch.
    """

    def __init__(
        self,
        cases: Sequence[str],
        *,
        batch_size: int,
        seed: Sequence[int],
        rank: int = 0,
        processes: int = 1,
        start: int = 0,
    ) -> None:
        self.cases = sorted(cases)
        self.batch_size = batch_size
        self.seed = tuple(seed)
        self.rank = rank
        self.processes = processes
        self.next_step = start - 1
        self.steps_per_pass = -(-len(self.cases) // (batch_size * processes))

    def next_batch(self, worker: int = 0, workers: int = 1) -> list[str]:
        """The cases of a worker's next batch; each worker has its own copy of the order and takes every n-th step."""
        step, self.next_step = self.next_step + worker, self.next_step + workers
        number, step_in_pass = divmod(step, self.steps_per_pass)
        order = self._order_of_pass(number)
        first = (step_in_pass * self.processes + self.rank) * self.batch_size
        return [self.cases[index] for index in order[first : first + self.batch_size]]

    def _order_of_pass(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([*self.seed, number + 1])  # the pass before the first one is number -1
        missing = self.steps_per_pass * self.processes * self.batch_size - len(self.cases)
        return np.concatenate([rng.permutation(len(self.cases)), rng.integers(len(self.cases), size=missing)])
