"""What a result was made from: digests of files, versions of programs. Paths and times do not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("nnunetv2-promise", "nnunetv2")


def digest(file: Path) -> str:
    """Digest of a file's content; ``""`` if there is no such file."""
    if not file.is_file():
        return ""
    state = file.stat()
    return _digest(str(file.resolve()), state.st_size, state.st_mtime_ns)


@cache
def _digest(path: str, size: int, time_ns: int) -> str:
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def digest_of(files: Iterable[Path]) -> str:
    """One digest of several files: their names and contents, whatever their order."""
    lines = sorted(f"{file.name} {digest(file)}" for file in files)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    """Versions that a prediction or score depends on."""
    return {name: version(name) for name in PACKAGES}
