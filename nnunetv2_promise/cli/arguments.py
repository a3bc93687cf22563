"""Values of command line options that argparse checks itself, so that a bad one ends with usage and exit code 2."""

from __future__ import annotations

import argparse
import math


def at_least_one(text: str) -> int:
    """A whole number, 1 or more."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def not_negative(text: str) -> float:
    """A finite number, 0 or more."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not math.isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative or not finite")
    return number


def name_or_number(text: str) -> str | int:
    """A label's name, or its value if only digits are given."""
    return int(text) if text.isdecimal() else text


def tolerance(text: str) -> tuple[str, float]:
    """``MM`` or ``LABEL=MM``: the label, empty for all others, and a finite number, 0 or more."""
    label, equals, number = text.rpartition("=")
    if equals and not label:
        raise argparse.ArgumentTypeError(f"{text!r} is not MM or LABEL=MM")
    return label, not_negative(number)
