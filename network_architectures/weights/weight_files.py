"""Reading weight files without running what is pickled in them, and checking them key by key."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError

SAFE_TYPES: list[Any] = [
    # The function that makes NumPy's scalars: checkpoints keep their best score as one. NumPy 1 wrote its module by
    # another name than NumPy 2.
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
"""What may stand in a weight file beside tensors and plain containers."""


def read_weight_file(path: Path | str, *, remedy: str = "download it again", mapped: bool = False) -> Any:
    """Read a file that ``torch.save`` wrote; only tensors, plain containers and NumPy numbers are accepted.

    Args:
        path: The file.
        remedy: What the user can do about a bad one.
        mapped: Leave tensors on the disk until they are used.

    Raises:
        UserError: If the file is missing, truncated, not a PyTorch file, or would need code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; check the path.")
    try:
        with torch.serialization.safe_globals(SAFE_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is not a PyTorch weight file, or holds more than weights, which could run code when loaded; "
            f"{remedy}."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or is not a PyTorch weight file; {remedy}.") from error


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
