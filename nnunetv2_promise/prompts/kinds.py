"""The kinds of prompts, and refusing those that a model does not take."""

from __future__ import annotations

from collections.abc import Collection

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.prompts.schema import Prompt, PromptFile

KINDS = {
    "points": "points",
    "negative_points": "negative points",
    "box": "a box",
    "scribbles": "scribbles",
    "previous_mask": "a previous mask",
}
"""Field of a prompt -> what it is called."""


def kinds_of(prompt: Prompt) -> list[str]:
    """The fields of a prompt that are in use; keys of ``KINDS``."""
    return [kind for kind in KINDS if getattr(prompt, kind) not in ((), None)]


def require_kinds(prompt_file: PromptFile, taken: Collection[str], *, model: str) -> None:
    """Refuse a prompt file with a kind of prompt that a model does not take.

    Args:
        prompt_file: The prompt file.
        taken: The kinds that the model takes; keys of ``KINDS``.
        model: What the model is called in the sentence, such as ``"ProMISeTrainer"``.

    Raises:
        UserError: That names file, case and object of the first such prompt, and what the model takes.
    """
    for case, prompts in prompt_file.cases.items():
        for number, prompt in enumerate(prompts, start=1):
            refused = [name for kind, name in KINDS.items() if kind in kinds_of(prompt) and kind not in taken]
            if refused:
                raise UserError(
                    f"Prompt file {prompt_file.path}, case {case!r}, object {number} has {' and '.join(refused)}, but "
                    f"{model} takes {listed_kinds(taken)} only; remove the rest or use a model that takes it."
                )


def listed_kinds(taken: Collection[str]) -> str:
    """Kinds of prompts in words, such as ``points, negative points and scribbles``."""
    *most, last = [name for kind, name in KINDS.items() if kind in taken] or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last
