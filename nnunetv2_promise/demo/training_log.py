"""The training curve, read from nnU-Net's log files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_EPOCH = re.compile(r": Epoch (\d+)\s*$")
_VALUES = {
    "train_loss": re.compile(r": train_loss (\S+)"),
    "val_loss": re.compile(r": val_loss (\S+)"),
    "dice": re.compile(r": Pseudo dice (.*)$"),
}
# Not the digits of a type name: numpy 2 prints a list's entries as np.float32(0.81).
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)")


@dataclass(frozen=True)
class Curve:
    """One entry per finished epoch.

    Attributes:
        epochs: Epoch numbers, ascending.
        train_loss: Mean training loss.
        val_loss: Mean validation loss.
        dice: Mean online validation Dice over the labels.
    """

    epochs: tuple[int, ...]
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    dice: tuple[float, ...]


def read_curve(fold_folder: Path) -> Curve:
    """Read every ``training_log_*.txt`` of a fold; where a resumed training repeats an epoch, the later run counts.

    An epoch that was interrupted before its last value is left out. A folder without logs gives an empty curve.
    """
    epochs: dict[int, dict[str, float]] = {}
    for log in sorted(fold_folder.glob("training_log_*.txt"), key=lambda path: path.stat().st_mtime):
        current: dict[str, float] = {}
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if started := _EPOCH.search(line):
                current = epochs[int(started.group(1))] = {}
            for name, pattern in _VALUES.items():
                if found := pattern.search(line):
                    current[name] = _mean(found.group(1))
    complete = sorted(number for number, values in epochs.items() if len(values) == len(_VALUES))
    columns = {name: tuple(epochs[number][name] for number in complete) for name in _VALUES}
    return Curve(epochs=tuple(complete), **columns)


def _mean(text: str) -> float:
    numbers = [float(number) for number in _NUMBER.findall(text.replace("(", " "))]
    return sum(numbers) / len(numbers) if numbers else float("nan")
