"""What the demo shows while it runs: a line per step with a progress bar; everything else is in log files."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tqdm import tqdm

_COUNTED = re.compile(r"(?:^|\s|\|)(\d+)/(\d+) \[")  # another program's tqdm
_EPOCH = re.compile(r"\bEpoch (\d+)\s*$")
_BAR = "{desc:<58} {percentage:3.0f}% |{bar:20}| {elapsed}, {remaining} left"


class Terminal:
    """Draws the progress of the demo's steps from the lines that their commands print."""

    def __init__(self, titles: Iterable[str], *, epochs: int) -> None:
        """Nothing is drawn yet.

        Args:
            titles: Of all steps, in order.
            epochs: How many epochs the training has.
        """
        names = list(titles)
        self._headings = {f"[{number}/{len(names)}] {title}" for number, title in enumerate(names, start=1)}
        self._epochs = epochs
        self._bar: tqdm | None = None

    def say(self, text: str) -> None:
        """Print a line, or begin the bar of a step if the line is its heading."""
        self.finish()
        if text in self._headings:
            self._bar = tqdm(total=1.0, desc=text, bar_format=_BAR)
        else:
            tqdm.write(text)

    def hear(self, line: str) -> None:
        """Move the bar if the line says how far its command is."""
        share = self.share(line)
        if self._bar is None or share is None:
            return
        if share < self._bar.n:  # a command counts several things in turn
            self._bar.reset()
        self._bar.update(share - self._bar.n)

    def share(self, line: str) -> float | None:
        """How much of its work a command has done by a line that it printed, 0 to 1; None if the line does not say."""
        if epoch := _EPOCH.search(line):
            return min(int(epoch[1]) / self._epochs, 1.0)
        counted = _COUNTED.search(line)
        return min(int(counted[1]) / int(counted[2]), 1.0) if counted and int(counted[2]) else None

    def finish(self) -> None:
        """Complete the bar that is drawn, if there is one."""
        if self._bar is not None:
            self._bar.update(1.0 - self._bar.n)
            self._bar.close()
            self._bar = None

    def stop(self) -> None:
        """Leave an unfinished bar as it is, before an error is printed below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
