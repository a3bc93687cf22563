"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nnunetv2_promise.errors import UserError

_END = 2**16
_BLOCK = 2**20


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that is renamed to it on success and removed on failure.

    The temporary name keeps the suffixes of ``target`` (``.nii.gz``), since writers choose formats by them.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".partial_", dir=target.parent))
    temporary = folder / target.name
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        # A full disk is noticed while writing, where Python names no file; the user knows only the target.
        if error.filename is None or error.filename == str(temporary):
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
        folder.rmdir()


def write_json(content: Any, target: Path | str) -> None:
    """Write JSON atomically, keys in the given order."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read JSON; a byte order mark, as Windows editors write it, is passed over.

    Raises:
        UserError: If the file is missing, unreadable or not JSON; the sentence names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path.") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder where a JSON file is needed; name the file.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); fix or recreate the file.") from error


def file_stamp(*paths: Path | str) -> str:
    """A digest of names and contents of files; copying them to another place or machine does not change it.

    A gzip file ends with a checksum of what it holds, so its size and its end stand for the whole.
    """
    digest = hashlib.sha256()
    for path in map(Path, paths):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if path.suffix == ".gz":
                file.seek(max(size - _END, 0))
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, *, wait_seconds: float, doing: str) -> Iterator[None]:
    """Keep other processes out while the block runs; the lock ends with the process, however it ends.

    Args:
        path: Lock file.
        wait_seconds: How long to wait for another holder.
        doing: What the holder does, for the message.

    Raises:
        UserError: If another process still holds the lock then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"Another process is {doing} (lock {path}); wait for it or stop it.") from error
    try:
        yield
    finally:
        lock.release()
