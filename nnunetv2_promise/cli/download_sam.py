"""``nnUNetv2_promise_download_sam``: fetch the official SAM weights."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from nnunetv2_promise.cli.common import run_command

_logger = logging.getLogger(__name__)

_EXAMPLE = """example:
  nnUNetv2_promise_download_sam vit_b

The file goes to ~/.cache/nnunetv2_promise, where training looks for it. Elsewhere (-o), name the place in the
environment variable nnUNet_promise_sam. An interrupted download resumes where it stopped.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and download."""
    parser = argparse.ArgumentParser(
        prog="nnUNetv2_promise_download_sam",
        description="Download the weights of Segment Anything (SAM) and check their SHA-256.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=("vit_b", "vit_l", "vit_h"), help="375 MB, 1.2 GB or 2.6 GB")
    parser.add_argument("-o", metavar="FOLDER", type=Path, help="where to put the file")
    args = parser.parse_args(argv)
    return run_command(lambda: _download(args.name, args.o))


def _download(name: str, folder: Path | None) -> None:
    from nnunetv2_promise.sam_weights import ENVIRONMENT_VARIABLE, default_folder, download_sam

    file = download_sam(name, folder)
    if file.parent.absolute() != default_folder().absolute():
        _logger.info("Let training find it: export %s=%s", ENVIRONMENT_VARIABLE, file.absolute())
