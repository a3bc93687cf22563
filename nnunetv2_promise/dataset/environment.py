"""nnU-Net's folders and dataset identifiers."""

from __future__ import annotations

import os
from pathlib import Path

from nnunetv2_promise.errors import UserError

FOLDS = 5
"""Into which nnU-Net splits a dataset that comes without splits."""


def nnunet_folder(variable: str) -> Path:
    """The folder that an environment variable of nnU-Net names; made if it does not exist.

    Args:
        variable: ``nnUNet_raw``, ``nnUNet_preprocessed`` or ``nnUNet_results``.

    Raises:
        UserError: If the variable is not set, or names a file.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(f"The environment variable {variable} is not set; export it with a folder for nnU-Net's data.")
    folder = Path(value).absolute()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} (environment variable {variable}) is a file; name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def known_datasets(dataset_id: int) -> list[str]:
    """Names of the datasets with this number in nnU-Net's folders (raw, preprocessed, results)."""
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    return [str(name) for name in find_candidate_datasets(dataset_id)]


def dataset_name_of(dataset_id: int) -> str:
    """The name of the one dataset with this number.

    Raises:
        UserError: If there is none, or more than one.
    """
    names = known_datasets(dataset_id)
    if not names:
        raise UserError(
            f"No dataset {dataset_id:03d} in {nnunet_folder('nnUNet_raw')}; give the MSD folder with -i, or check -d."
        )
    if len(names) > 1:
        raise UserError(f"Dataset number {dataset_id:03d} has several names ({', '.join(names)}); remove all but one.")
    return names[0]
