"""nnU-Net's dataset fingerprint, extended with the objects that prompts will point at."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunetv2_promise.dataset.environment import nnunet_folder
from nnunetv2_promise.dataset.parallel import map_cases
from nnunetv2_promise.dataset.sources import stamp_of_dataset
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import read_json, write_json
from nnunetv2_promise.planning.object_sizes import LabelFile, measure_file, summarize_objects

_logger = logging.getLogger(__name__)

OBJECTS_KEY = "objects"


class ObjectFingerprintExtractor(DatasetFingerprintExtractor):
    """Adds the key ``objects`` to nnU-Net's ``dataset_fingerprint.json``; stock nnU-Net reads the file as before.

    ``objects`` holds digests of the ``dataset.json`` and of the files that it was made from, and per label what
    ``planning.object_sizes.summarize_objects`` returns.
    """

    def run(self, overwrite_existing: bool = False) -> dict[str, Any]:
        """Extract the fingerprint, or reuse the one that was made of this very dataset.

        Args:
            overwrite_existing: Extract even if it exists.

        Returns:
            The content of ``dataset_fingerprint.json``.
        """
        file = nnunet_folder("nnUNet_preprocessed") / self.dataset_name / "dataset_fingerprint.json"
        digest = hashlib.sha256((Path(self.input_folder) / "dataset.json").read_bytes()).hexdigest()
        stamp = stamp_of_dataset(Path(self.input_folder))
        if not overwrite_existing and _is_made_from(file, digest, stamp, sorted(self.dataset)):
            _logger.info("Using the existing %s.", file)
            return read_json(file)
        super().run(overwrite_existing=True)
        fingerprint = read_json(file)
        fingerprint[OBJECTS_KEY] = {
            "dataset_json_sha256": digest,
            "files_sha256": stamp,
            "axes": "z, y, x",
            "labels": self._objects(),
        }
        write_json(fingerprint, file)
        return fingerprint

    def _objects(self) -> dict[str, Any]:
        names = list(self.dataset)
        example = self.dataset[names[0]]["images"][0]
        reader_writer = determine_reader_writer_from_dataset_json(self.dataset_json, example, verbose=False)
        values_of_label = foreground_values(self.dataset_json["labels"])
        files = [LabelFile(self.dataset[name]["label"], reader_writer) for name in names]
        measured = map_cases(
            partial(measure_file, values_of_label=values_of_label),
            files,
            num_processes=self.num_processes,
            description="Measuring objects",
        )
        return summarize_objects(dict(zip(names, measured, strict=True)), values_of_label)


def foreground_values(labels: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Label name to its values (several for a region), without background and nnU-Net's ignore label."""
    return {
        name: tuple(int(value) for value in entry) if isinstance(entry, list | tuple) else (int(entry),)
        for name, entry in labels.items()
        if name not in ("background", "ignore")
    }


def _is_made_from(file: Path, digest: str, stamp: str, case_names: list[str]) -> bool:
    if not file.is_file():
        return False
    try:
        objects = read_json(file)[OBJECTS_KEY]
        cases = next(iter(objects["labels"].values()))["cases"]
    except (UserError, KeyError, TypeError, StopIteration):
        return False  # stock nnU-Net's fingerprint, or an interrupted write
    made_from = objects.get("dataset_json_sha256"), objects.get("files_sha256"), sorted(cases)
    return made_from == (digest, stamp, case_names)
