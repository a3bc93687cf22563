"""How commands fail."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_promise.cli.common import run_command
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.files import atomic_path, read_json, write_json


def failing(error: BaseException) -> int:
    def command() -> None:
        raise error

    return run_command(command)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("a.json is\n  wrong; fix it."), 2, "Error: a.json is wrong; fix it.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.nii"), 2, "Error: x.nii: No space left on device. "),
        (OSError(errno.EACCES, "Permission denied", "y"), 2, "Error: y: Permission denied. "),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_user_errors_are_one_line(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error) == code
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EIO, "broken disk"), ValueError("a bug")])
def test_our_own_mistakes_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(error)


def test_success_is_zero() -> None:
    assert run_command(lambda: None) == 0


def test_reader_that_goes_away_is_no_traceback() -> None:
    program = (
        "import sys; from nnunetv2_promise.cli.common import run_command\n"
        "sys.exit(run_command(lambda: [print('x' * 1000) for _ in range(10000)] and None))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_atomic_path_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "a.nii.gz"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:  # noqa: PT012
        assert temporary.name == "a.nii.gz"
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_round_trip_and_its_sentences(tmp_path: Path) -> None:
    write_json({"b": 1, "a": [2]}, tmp_path / "new" / "x.json")
    assert read_json(tmp_path / "new" / "x.json") == {"b": 1, "a": [2]}
    for path, sentence in (("no.json", "does not exist"), ("new", "is a folder")):
        with pytest.raises(UserError, match=sentence):
            read_json(tmp_path / path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")
