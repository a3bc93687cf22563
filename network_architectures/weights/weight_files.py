"""Reading weight files without running what is pickled in them, and checking them key by key."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError


def read_weight_file(path: Path | str) -> Any:
    """Read a file that ``torch.save`` wrote; only tensors, plain containers and NumPy numbers are accepted.

    Raises:
        UserError: If the file is missing, truncated, no PyTorch file, or would need code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; check the path.")
    try:
        with torch.serialization.safe_globals(_numpy_number()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a PyTorch weight file or holds more than weights; download it again."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged or no PyTorch weight file; download it again.") from error


def _numpy_number() -> list[Any]:
    """What a NumPy float is pickled with; the published checkpoints keep their best loss as one."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]


def check_weights(path: Path | str, part: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that every expected entry is there with its shape.

    Args:
        path: The file, for the message.
        part: Where in the file the entries are, for the message.
        found: The file's entries.
        expected: What the network has under the same names.

    Raises:
        UserError: Naming the first entry that is missing or misshapen.
    """
    for key, value in expected.items():
        if key not in found:
            raise UserError(f"{path} lacks '{key}' in {part}; it is a checkpoint of another model.")
        if not isinstance(found[key], Tensor) or found[key].shape != value.shape:
            shape = tuple(found[key].shape) if isinstance(found[key], Tensor) else type(found[key]).__name__
            raise UserError(
                f"{path} has '{key}' in {part} with shape {shape} where {tuple(value.shape)} is needed; "
                "it is a checkpoint of another model."
            )
