"""The cases that a simulated prompt file lists without a prompt because no click could be had, beside that file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json


def skipped_file(prompts: Path | str) -> Path:
    """``prompts.json`` -> ``prompts.skipped.json`` in the same folder."""
    path = Path(prompts)
    return path.with_name(path.name.removesuffix(".json") + ".skipped.json")


def write_skipped(prompts: Path | str, reasons: Mapping[str, str]) -> None:
    """Write which cases were left out of a prompt file; without any, an older such file is removed.

    Args:
        prompts: The prompt file.
        reasons: Case identifier -> why, in a sentence.
    """
    if reasons:
        write_json(dict(reasons), skipped_file(prompts))
    else:
        skipped_file(prompts).unlink(missing_ok=True)


def skipped_cases(prompts: Path | str) -> dict[str, str]:
    """The cases that were left out of a prompt file, with the reason; empty if there are none.

    A prompt file lists such a case with no prompt, as it does a case without an object; only the latter is right with
    an empty mask, so scores leave the former out.

    Raises:
        UserError: If the file beside the prompt file cannot be read.
    """
    path = skipped_file(prompts)
    if not path.is_file():
        return {}
    reasons = read_json(path)
    if not isinstance(reasons, dict) or not all(isinstance(reason, str) for reason in reasons.values()):
        raise UserError(f"{path} does not map cases to reasons; simulate the prompts again.")
    return reasons
