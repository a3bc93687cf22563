"""SAM weights are found where the documentation says, and downloads resume and are checked."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_promise import sam_weights
from nnunetv2_promise.cli.download_sam import main
from nnunetv2_promise.errors import UserError
from nnunetv2_promise.sam_weights import SAM_FILES, default_folder, download_sam, find_sam_weights

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file; knows ranges; can break off."""

    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.headers.get("Range"))
        if self.path != self.server.path:
            self.send_error(404)
            return
        content, start = self.server.content, self._start()
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = self.server.break_after if self.server.break_after is not None else len(content)
        self.wfile.write(content[start:stop])

    def _start(self) -> int:
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.knows_ranges else 0

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


class Server(http.server.ThreadingHTTPServer):
    path = ""
    content = CONTENT
    break_after: int | None = None
    knows_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local server whose file is right for the name of ViT-B."""
    monkeypatch.setitem(SAM_FILES, "vit_b", f"sam_vit_b_{hashlib.sha256(CONTENT).hexdigest()[:6]}.pth")
    server = Server()
    server.path = "/" + SAM_FILES["vit_b"]
    monkeypatch.setattr(sam_weights, "BASE_URL", server.url)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv(sam_weights.ENVIRONMENT_VARIABLE, raising=False)
    return tmp_path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_official_names_and_address() -> None:
    assert SAM_FILES == {
        "vit_b": "sam_vit_b_01ec64.pth",
        "vit_l": "sam_vit_l_0b3195.pth",
        "vit_h": "sam_vit_h_4b8939.pth",
    }
    assert sam_weights.BASE_URL == "https://dl.fbaipublicfiles.com/segment_anything/"


# --- download --------------------------------------------------------------------------------------------------------


def test_download_gives_the_file_that_training_finds(server: Server) -> None:
    file = download_sam("vit_b")
    assert file.read_bytes() == CONTENT
    assert names_in(default_folder()) == [SAM_FILES["vit_b"]]
    assert find_sam_weights("vit_b") == file


def test_download_again_asks_no_server(server: Server, tmp_path: Path) -> None:
    download_sam("vit_b", tmp_path / "sam")
    download_sam("vit_b", tmp_path / "sam")
    assert len(server.requests) == 1


def test_download_resumes_after_broken_connection(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    server.break_after = 1_200_000
    with pytest.raises(UserError, match="broke after 1200000 bytes; run the command again"):
        download_sam("vit_b", folder)
    assert names_in(folder) == [SAM_FILES["vit_b"] + ".part"]
    server.break_after = None
    assert download_sam("vit_b", folder).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1200000-"]
    assert names_in(folder) == [SAM_FILES["vit_b"]]


def test_download_starts_over_where_the_server_knows_no_ranges(server: Server, tmp_path: Path) -> None:
    partial = tmp_path / (SAM_FILES["vit_b"] + ".part")
    partial.write_bytes(b"x" * 1000)
    server.knows_ranges = False
    assert download_sam("vit_b", tmp_path).read_bytes() == CONTENT


def test_download_of_complete_part_only_checks_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / (SAM_FILES["vit_b"] + ".part")).write_bytes(CONTENT)
    assert download_sam("vit_b", tmp_path).read_bytes() == CONTENT


def test_download_with_wrong_content_is_an_error_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match=r"SHA-256 of .*instead of .* run the command again"):
        download_sam("vit_b", tmp_path / "sam")
    assert names_in(tmp_path / "sam") == []


def test_download_over_damaged_file_is_an_error(server: Server, tmp_path: Path) -> None:
    file = tmp_path / SAM_FILES["vit_b"]
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged or another; remove"):
        download_sam("vit_b", tmp_path)
    assert file.read_bytes() == b"damaged"


def test_download_file_not_on_the_server_says_where_to_put_it(server: Server, tmp_path: Path) -> None:
    server.path = "/elsewhere"
    with pytest.raises(UserError, match=r"answers 404 .*put the file at .*sam_vit_b"):
        download_sam("vit_b", tmp_path)


def test_command_without_network_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(sam_weights, "BASE_URL", f"http://127.0.0.1:{port}/")
    assert main(["vit_b", "-o", str(tmp_path / "sam")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be downloaded" in error
    assert f"put the file at {tmp_path / 'sam' / SAM_FILES['vit_b']}" in error


def test_command_downloads_and_names_the_variable(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert main(["vit_b", "-o", str(tmp_path / "sam")]) == 0
    assert f"export nnUNet_promise_sam={tmp_path / 'sam' / SAM_FILES['vit_b']}" in caplog.text


def test_command_unknown_name_exits_with_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["vit_x"])
    assert caught.value.code == 2


# --- find ------------------------------------------------------------------------------------------------------------


def test_find_takes_an_existing_path(tmp_path: Path) -> None:
    file = tmp_path / "medsam_vit_b.pth"
    file.write_bytes(b"weights")
    assert find_sam_weights(str(file)) == file


@pytest.mark.parametrize("as_folder", [True, False])
def test_find_prefers_the_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_folder: bool
) -> None:
    default_folder().mkdir(parents=True)
    (default_folder() / SAM_FILES["vit_l"]).write_bytes(b"default")
    file = tmp_path / "mine" / SAM_FILES["vit_l"]
    file.parent.mkdir()
    file.write_bytes(b"mine")
    monkeypatch.setenv(sam_weights.ENVIRONMENT_VARIABLE, str(file.parent if as_folder else file))
    assert find_sam_weights("vit_l") == file


def test_find_falls_back_to_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sam_weights.ENVIRONMENT_VARIABLE, str(tmp_path))
    default_folder().mkdir(parents=True)
    file = default_folder() / SAM_FILES["vit_h"]
    file.write_bytes(b"weights")
    assert find_sam_weights("vit_h") == file


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_b", "nnUNetv2_promise_download_sam vit_b"),
        ("vit_b", "ProMISeTinyPlanner"),
        ("vit_b", "nnUNet_promise_sam"),
        ("nowhere/medsam.pth", "nowhere/medsam.pth do not exist"),
        ("vit_x", "one of vit_b, vit_l, vit_h"),
    ],
)
def test_find_missing_weights_says_how_to_get_them(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_sam_weights(name)


def test_find_variable_that_names_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sam_weights.ENVIRONMENT_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"gone \(environment variable nnUNet_promise_sam\) does not exist"):
        find_sam_weights("vit_b")
