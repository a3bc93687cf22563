"""Finding and downloading the weights of Segment Anything (SAM)."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunetv2_promise.errors import UserError

_logger = logging.getLogger(__name__)

BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
# The last part of each name is the start of the file's SHA-256.
SAM_FILES = {
    "vit_b": "sam_vit_b_01ec64.pth",
    "vit_l": "sam_vit_l_0b3195.pth",
    "vit_h": "sam_vit_h_4b8939.pth",
}
ENVIRONMENT_VARIABLE = "nnUNet_promise_sam"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_NETWORK_ERRORS = (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException)


def default_folder() -> Path:
    """Where downloaded weights are kept."""
    return Path.home() / ".cache" / "nnunetv2_promise"


def find_sam_weights(name_or_path: str) -> Path:
    """Find SAM weights on this machine.

    Looked at in this order: a file of that path; the environment variable ``nnUNet_promise_sam`` (a file, or a folder
    that holds the official file); the default folder of ``nnUNetv2_promise_download_sam``.

    Args:
        name_or_path: ``vit_b``, ``vit_l``, ``vit_h``, or the path of a file of that form (such as MedSAM's).

    Raises:
        UserError: If there is no such file; the sentence says how to get it.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if name_or_path not in SAM_FILES:
        raise UserError(
            f"The SAM weights {name_or_path} do not exist; give an existing file or one of {', '.join(SAM_FILES)}."
        )
    file_name = SAM_FILES[name_or_path]
    for candidate in _candidates(file_name):
        if candidate.is_file():
            return candidate
    raise UserError(
        f"The SAM weights {file_name} were not found; run 'nnUNetv2_promise_download_sam {name_or_path}', or put the "
        f"file into {default_folder()}, or name its place in the environment variable {ENVIRONMENT_VARIABLE}, or plan "
        "with -pl ProMISeTinyPlanner to train from scratch."
    )


def download_sam(name: str, folder: Path | None = None, *, base_url: str | None = None) -> Path:
    """Download official SAM weights; an interrupted download resumes where it stopped.

    Args:
        name: ``vit_b``, ``vit_l`` or ``vit_h``.
        folder: Where to put the file; the default folder if None.
        base_url: Address of the folder on the server.

    Returns:
        The file, whose SHA-256 starts as its name says.

    Raises:
        UserError: If the server cannot be reached, the connection breaks, or the content is wrong.
    """
    target = (folder or default_folder()) / SAM_FILES[name]
    if target.is_file():
        _check_hash(target, f"remove {target} and run the command again")
        _logger.info("%s exists already and its checksum is right.", target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    url = (base_url or BASE_URL) + target.name
    partial = target.with_name(target.name + ".part")
    _fetch(url, partial, target)
    try:
        _check_hash(partial, "run the command again")
    except UserError:
        partial.unlink()
        raise
    os.replace(partial, target)
    _logger.info("Wrote %s.", target)
    return target


def _candidates(file_name: str) -> Iterator[Path]:
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        place = Path(named).expanduser()
        if not place.exists():
            raise UserError(f"{place} (environment variable {ENVIRONMENT_VARIABLE}) does not exist; fix the variable.")
        yield place if place.is_file() else place / file_name
    yield default_folder() / file_name


def _fetch(url: str, partial: Path, target: Path) -> None:
    """Bring ``partial`` to the full length of the file on the server."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            resumes = response.status == http.HTTPStatus.PARTIAL_CONTENT
            start = have if resumes else 0
            total = start + int(response.headers.get("Content-Length", 0))
            _receive(response, partial, start=start, total=total)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise UserError(_elsewhere(url, target, f"the server answers {error.code} {error.reason}")) from error
        # There is nothing after what we have: the file is complete (or wrong, which its checksum tells).
        return
    except _NETWORK_ERRORS as error:
        if partial.is_file() and partial.stat().st_size > have:
            raise _broken(url, partial) from error
        raise UserError(_elsewhere(url, target, str(getattr(error, "reason", error)))) from error
    if partial.stat().st_size < total:
        raise _broken(url, partial)


def _receive(response: Any, partial: Path, *, start: int, total: int) -> None:
    with (
        open(partial, "ab" if start else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=partial.name) as progress,
    ):
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            progress.update(len(chunk))


def _broken(url: str, partial: Path) -> UserError:
    return UserError(
        f"The connection for {url} broke after {partial.stat().st_size} bytes; run the command again, it resumes there."
    )


def _elsewhere(url: str, target: Path, reason: str) -> str:
    return (
        f"{url} cannot be downloaded ({reason}); fetch it on a machine with access to it and put the file at {target}."
    )


def _check_hash(file: Path, remedy: str) -> None:
    expected = file.name.removesuffix(".part").removesuffix(".pth").rpartition("_")[2]
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    if not digest.hexdigest().startswith(expected):
        raise UserError(
            f"The SHA-256 of {file} starts with {digest.hexdigest()[: len(expected)]} instead of {expected}, so the "
            f"file is damaged or another; {remedy}."
        )
