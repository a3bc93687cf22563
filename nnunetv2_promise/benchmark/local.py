"""Units on this machine, as many at a time as there are devices."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from nnunetv2_promise.benchmark.units import run_unit
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.steps import stop_running_commands


def slots(device: str, jobs: int | None) -> list[dict[str, str]]:
    """The variables of each place that a unit can run in.

    Args:
        device: On ``"cuda"`` every place has one GPU of those that this process sees.
        jobs: Places; by default one for each GPU, or one. More than there are GPUs share them in turn.
    """
    import os

    import torch

    if device != "cuda":
        return [{} for _ in range(jobs or 1)]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(jobs or len(gpus))]


def run_units(root: Path, units: Sequence[tuple[str, str]], places: Sequence[dict[str, str]]) -> None:
    """Run units side by side; one that fails does not keep the others from running.

    Args:
        root: The benchmark's folder.
        units: Key of the method and fold of each.
        places: From ``slots``.

    Raises:
        UserError: If units failed, however they did; the sentence is that of the first one.
    """
    free: queue.Queue[dict[str, str]] = queue.Queue()
    for place in places:
        free.put(place)
    stop = threading.Event()
    failures: list[str] = []
    with ThreadPoolExecutor(len(places)) as pool, tqdm(total=len(units), desc="Benchmark", unit="unit") as bar:
        futures = {pool.submit(_run_in_place, root, unit, free, stop): unit for unit in units}
        try:
            for future in as_completed(futures):
                if error := future.exception():
                    failures.append(_describe(error, root, futures[future]))
                    tqdm.write(f"Failed: {failures[-1]}")
                bar.update()
        finally:
            if not all(future.done() for future in futures):  # interrupted, by Ctrl-C for example
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                stop_running_commands()
    if failures:
        raise UserError(f"{len(failures)} of {len(units)} units failed: {failures[0]}")


def _describe(error: BaseException, root: Path, unit: tuple[str, str]) -> str:
    """A sentence for a unit that failed; what is not an error of the user's goes to a file with its traceback."""
    if isinstance(error, UserError):
        return str(error)
    log = root / "units" / unit[0] / f"fold_{unit[1]}" / "logs" / "error.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{unit[0]}, fold {unit[1]} ended with {type(error).__name__} ({error}); the traceback is in {log}."


def _run_in_place(root: Path, unit: tuple[str, str], free: queue.Queue[dict[str, str]], stop: threading.Event) -> None:
    if stop.is_set():
        return
    place = free.get()
    try:
        run_unit(root, *unit, environment=place, say=_say_for(unit))
    finally:
        free.put(place)


def _say_for(unit: tuple[str, str]) -> Callable[[str], None]:
    method, fold = unit
    return lambda text: tqdm.write(f"{method}, fold {fold} {text}")
