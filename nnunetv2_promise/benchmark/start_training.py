"""Trains as ``nnUNetv2_train`` does, without the final validation: other models start from this one, nobody scores it.

``python -m nnunetv2_promise.benchmark.start_training DATASET CONFIGURATION FOLD TRAINER PLANS DEVICE [--c]``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nnunetv2_promise.benchmark.measure import end_with_parent
from nnunetv2_promise.errors import UserError


def train(arguments: Sequence[str]) -> None:
    """Train one fold; ``--c`` resumes.

    Raises:
        UserError: If the trainer refuses.
    """
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    dataset, configuration, fold, name, plans, device = arguments[:6]
    resume = "--c" in arguments[6:]
    trainer = get_trainer_from_args(dataset, configuration, int(fold), name, plans, resume, torch.device(device))
    maybe_load_checkpoint(trainer, resume, validation_only=False)
    if device == "cuda":
        torch.backends.cudnn.benchmark = True  # as nnUNetv2_train
    trainer.run_training()


if __name__ == "__main__":
    end_with_parent()
    try:
        train(sys.argv[1:])
    except UserError as error:
        sys.exit(f"Error: {error}")
