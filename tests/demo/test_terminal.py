"""What the demo shows while it runs."""

from __future__ import annotations

import pytest

from nnunetv2_promise.demo.terminal import Terminal


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("2026-11-25 10:00:00.1: Epoch 25 \n", 0.25),
        ("Preprocessing cases:  12%|█▎        | 1/8 [00:02<00:15,  2.26s/it]\n", 0.125),
        ("100%|██████████| 8/8 [00:00<00:00]\n", 1.0),
        ("Epoch time: 2.31 s\n", None),
        ("read data/3/8 [x]\n", None),
        ("0it: 0/0 [00:00, ?it/s]\n", None),
    ],
)
def test_share_of_a_line(line: str, share: float | None) -> None:
    assert Terminal([], epochs=100).share(line) == share


def test_a_step_is_one_bar_and_other_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(["Plan", "Train"], epochs=4)
    terminal.say("[1/2] Plan: done before, in 3 s")
    terminal.say("[2/2] Train")
    terminal.hear("Epoch 1\n")
    terminal.hear("loss 0.5\n")
    terminal.finish()
    said = capsys.readouterr()
    assert said.out == "[1/2] Plan: done before, in 3 s\n"
    last = said.err.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("[2/2] Train ")
    assert "100%" in last
    assert "loss" not in said.err


def test_a_failed_step_is_not_shown_as_complete(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(["Train"], epochs=4)
    terminal.say("[1/1] Train")
    terminal.hear("Epoch 1\n")
    terminal.stop()
    terminal.finish()
    assert "100%" not in capsys.readouterr().err
