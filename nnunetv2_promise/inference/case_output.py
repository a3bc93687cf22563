"""Writing the results of cases: each is published when it is complete, and never half of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from filelock import FileLock, Timeout
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.images.reading import check_stored_voxels
from nnunetv2_promise.inference.case_segmentation import CaseMasks, ObjectMask

PARTIAL_PREFIX = ".partial_"
INSTANCES_FOLDER = "instances"
TABLE_NAME = "objects.csv"


@dataclass(frozen=True)
class OutputFolder:
    """A folder of masks.

    Attributes:
        path: The folder.
        ending: File ending of masks.
        probabilities: Whether ``CASE.npz`` and ``CASE.pkl`` are written as well, in nnU-Net's form.
        instances: Whether each object gets a mask of its own and a row in ``objects.csv``.
    """

    path: Path
    ending: str
    probabilities: bool = False
    instances: bool = False

    def mask(self, case: str) -> Path:
        """The label map of a case."""
        return self.path / f"{case}{self.ending}"

    def is_complete(self, case: str) -> bool:
        """Whether everything that is wanted of a case is there."""
        wanted = [self.mask(case)]
        wanted += [self.path / f"{case}{suffix}" for suffix in (".npz", ".pkl")] if self.probabilities else []
        wanted += [self.path / INSTANCES_FOLDER / case / TABLE_NAME] if self.instances else []
        return all(file.is_file() for file in wanted)

    def write_table(self, cases: list[str]) -> Path:
        """Join the tables of cases to one.

        Returns:
            ``objects.csv`` in the folder.
        """
        tables = [pd.read_csv(self.path / INSTANCES_FOLDER / case / TABLE_NAME, dtype={"case": str}) for case in cases]
        target = self.path / TABLE_NAME
        temporary = target.with_name(f"{PARTIAL_PREFIX}{TABLE_NAME}")
        pd.concat(tables, ignore_index=True).to_csv(temporary, index=False)
        os.replace(temporary, target)
        return target


class CaseWriter:
    """Writes cases beside their place and moves them there; a context manager that cleans up behind it.

    Entering removes what killed runs left in the folder, but nothing of runs that are still alive.

    Args:
        output: Where to write.
        reader_writer: nnU-Net's writer for masks.
    """

    def __init__(self, output: OutputFolder, reader_writer: BaseReaderWriter) -> None:
        self._output = output
        self._writer = reader_writer

    def __enter__(self) -> CaseWriter:
        self._output.path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self._output.path)
        self._partial = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=self._output.path))
        self._lock = FileLock(self._partial / "lock")
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        shutil.rmtree(self._partial, ignore_errors=True)

    def write(self, case: str, masks: CaseMasks, properties: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
        """Write and publish a case; its label map comes last, so that it says that the case is complete.

        Args:
            case: Name of the case.
            masks: Its masks.
            properties: Properties of the image, as nnU-Net's reader gave them.
            labels: ``labels`` of ``dataset.json``.

        Raises:
            UserError: If a file could not be written completely.
        """
        folder = self._partial / case
        folder.mkdir()
        try:
            self._write_mask(masks.labels, folder / self._output.mask(case).name, properties)
            if masks.probabilities is not None:
                np.savez_compressed(folder / f"{case}.npz", probabilities=masks.probabilities)
                save_pickle(dict(properties), str(folder / f"{case}.pkl"))
            if self._output.instances:
                self._write_instances(case, masks, folder / INSTANCES_FOLDER, properties, labels)
            self._publish(case, folder)
        except RuntimeError as error:
            if "SimpleITK" not in str(error):
                raise
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(
                f"-o {self._output.path}: the mask of case {case!r} could not be written ({reason}); free space, or "
                "use another folder."
            ) from error

    def _publish(self, case: str, folder: Path) -> None:
        mask = self._output.mask(case)
        mask.unlink(missing_ok=True)
        if self._output.instances:
            target = self._output.path / INSTANCES_FOLDER / case
            target.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.rmtree(target)
            os.replace(folder / INSTANCES_FOLDER, target)
        for suffix in (".npz", ".pkl", self._output.ending):
            if (folder / f"{case}{suffix}").is_file():
                os.replace(folder / f"{case}{suffix}", self._output.path / f"{case}{suffix}")

    def _write_mask(self, mask: np.ndarray, path: Path, properties: Mapping[str, Any]) -> None:
        """Write a mask and read it back: ITK says nothing when a full disk cuts it off."""
        self._writer.write_seg(mask, str(path), properties)
        try:
            check_stored_voxels(path)
        except UserError as error:
            raise UserError(
                f"-o {self._output.path}: {path.name} could not be written completely; free space and run again with "
                "--continue_prediction."
            ) from error

    def _write_instances(
        self, case: str, masks: CaseMasks, folder: Path, properties: Mapping[str, Any], labels: Mapping[str, Any]
    ) -> None:
        folder.mkdir()
        rows = []
        for number, item in enumerate(masks.objects, start=1):
            name = f"object_{number:03d}{self._output.ending}"
            mask = np.zeros(masks.labels.shape, np.uint8)
            if item.found is not None:
                mask[item.found.slices_zyx] = item.found.mask
            self._write_mask(mask, folder / name, properties)
            row = {"case": case, "object": number, "label": _label_name(item.prompt.label_head, labels)}
            rows.append(row | measurements(item, properties["spacing"]) | {"file": f"{INSTANCES_FOLDER}/{case}/{name}"})
        pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / TABLE_NAME, index=False)


COLUMNS = [
    "case",
    "object",
    "label",
    "volume_ml",
    "extent_x_mm",
    "extent_y_mm",
    "extent_z_mm",
    "mean_probability",
    "expected_dice",
    "holds_click",
    "touches_edge",
    "file",
]
"""Columns of ``objects.csv``."""


def measurements(item: ObjectMask, spacing_zyx_mm: tuple[float, ...] | list[float]) -> dict[str, Any]:
    """What the table says of one mask: volume, extent along the image's axes, how sure the model is, two warnings."""
    shape = (0, 0, 0) if item.found is None else item.found.mask.shape
    voxels = 0 if item.found is None else item.found.size_voxels
    z, y, x = (round(n * float(mm), 3) for n, mm in zip(shape, spacing_zyx_mm, strict=True))
    return {
        "volume_ml": round(voxels * float(np.prod(spacing_zyx_mm)) / 1000, 6),
        "extent_x_mm": x,
        "extent_y_mm": y,
        "extent_z_mm": z,
        "mean_probability": round(item.mean_probability, 4),
        "expected_dice": round(item.expected_dice, 4),
        "holds_click": item.holds_click,
        "touches_edge": item.touches_edge,
    }


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left in an output folder; a run that is alive holds its lock."""
    for left in folder.glob(f"{PARTIAL_PREFIX}*"):
        if left.is_file():
            left.unlink(missing_ok=True)
            continue
        lock = FileLock(left / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        except FileNotFoundError:
            continue
        lock.release()
        shutil.rmtree(left, ignore_errors=True)


def _label_name(value: int, labels: Mapping[str, Any]) -> str:
    return next((name for name, number in labels.items() if number == value), str(value))
