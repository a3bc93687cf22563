"""Running one function on many cases in spawned worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from nnunetv2_promise.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_cases(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_processes: int, description: str
) -> list[Result]:
    """``function`` of every item, in order, with a progress bar.

    Args:
        function: A function of a module (spawned workers import it by name).
        items: What to work on, one item per case.
        num_processes: Number of worker processes; 1 works in this process.
        description: Text of the progress bar.

    Raises:
        UserError: If a worker process ends without an answer, as the operating system does when memory runs out.
    """
    if num_processes == 1 or len(items) < 2:
        with tqdm(items, desc=description) as bar:
            return [function(item) for item in bar]
    context = multiprocessing.get_context("spawn")
    workers = min(num_processes, len(items))
    try:
        # The bar is closed before an error's sentence is printed, so that the two do not share a line.
        with ProcessPoolExecutor(workers, mp_context=context) as pool, tqdm(total=len(items), desc=description) as bar:
            results = []
            for result in pool.map(function, items):
                results.append(result)
                bar.update()
            return results
    except BrokenProcessPool as error:
        raise UserError(
            f"A worker process ended during '{description}', most likely because memory ran out; use a smaller -np."
        ) from error
