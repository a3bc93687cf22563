"""Seeds that make runs repeatable and resumable."""

from __future__ import annotations

import random

import numpy as np
import torch

from nnunetv2_promise.images.objects import seed_of_case


def seed_everything(*parts: object) -> None:
    """Seed Python, numpy and torch from the parts.

    Called with the epoch's number when an epoch starts, so that a resumed run draws what an undisturbed one draws.
    """
    seed = seed_of_case("/".join(str(part) for part in parts), 0)
    random.seed(seed)
    np.random.seed(seed)  # nnU-Net's loader draws from numpy's global state
    torch.manual_seed(seed)
