"""Parses a command line with the command's own argument parser, without running it."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from unittest import mock


class Parsed(Exception):  # noqa: N818 - it is good news
    """The arguments were accepted."""


def parse_error(command: Sequence[str]) -> str | None:
    """What the command says against its arguments; None if it accepts them or only shows its help.

    Raises:
        LookupError: If no installed package has the command.
    """
    name, *arguments = command
    found = entry_points(group="console_scripts", name=name)
    if not found:
        raise LookupError(f"{name} is not an installed command")
    # Some of nnU-Net's commands call this directly, and `parse_args` calls it.
    original = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self: argparse.ArgumentParser, args: object = None, namespace: object = None) -> object:
        parsed = original(self, args, namespace)
        if args is not None:  # a subcommand's parser, called by its parent
            return parsed
        if parsed[1]:
            self.error(f"unrecognized arguments: {' '.join(parsed[1])}")
        raise Parsed

    function = next(iter(found)).load()
    said = io.StringIO()
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse_and_stop),
        mock.patch.object(sys, "argv", [name, *arguments]),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            function()
        except Parsed:
            return None
        except SystemExit as error:
            return None if not error.code else said.getvalue().strip() or f"exit code {error.code}"
    raise AssertionError(f"{name} did not parse its arguments")
