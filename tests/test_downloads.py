"""Downloads from a server that serves, stalls, breaks off, and lies."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disk_limits import file_size_limit
from file_server import FileServer, running_server

from genmodels.data import downloads
from genmodels.data.downloads import DownloadError, Resource, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_server() as server:
        yield server


@pytest.mark.parametrize(
    ("behaviours", "requests"),
    [
        ([], 1),
        (["no length"], 1),
        (["break off"], 2),
        (["break off", "break off", "break off"], 4),
        (["stall"], 2),
        (["500", "503"], 3),
        (["break off", "no ranges"], 2),
        (["break off", "other range"], 2),
        (["break off", "lie"], 3),  # joined halves of two files: begun anew
    ],
)
def test_an_unreliable_server_gives_the_file_in_the_end(
    behaviours: list[str], requests: int, server: FileServer, tmp_path: Path
) -> None:
    resource = server.publish("file.bin", CONTENT)
    server.behaviours = list(behaviours)
    assert fetch(resource, tmp_path / "in/here").read_bytes() == CONTENT
    assert len(server.requests) == requests
    assert [path.name for path in (tmp_path / "in/here").iterdir()] == ["file.bin"]
    if behaviours == ["break off"]:
        assert server.requests == [("/file.bin", None), ("/file.bin", "bytes=150000-")]


def test_a_later_process_resumes(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:123_456])
    fetch(server.publish("file.bin", CONTENT), tmp_path)
    assert server.requests == [("/file.bin", "bytes=123456-")]


@pytest.mark.parametrize("leftover", [CONTENT, CONTENT + b"more", b"something else", b""])
def test_any_leftover_is_completed_or_replaced(
    leftover: bytes, server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "file.bin.part").write_bytes(leftover)
    assert fetch(server.publish("file.bin", CONTENT), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("behaviours", "reason"),
    [
        (["lie"], "sends another file (md5 "),
        (["page"], "sends another file (md5 "),
        (["404"], "HTTP 404"),
        (["403"], "HTTP 403"),
        (["500"] * 4, "HTTP 500"),
        (["stall"] * 4, "nothing came for 0.3 s"),
        (["endless"], "sends more than 1,000,000 bytes"),
    ],
)
def test_a_server_that_cannot_be_trusted(
    behaviours: list[str],
    reason: str,
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "MAX_BYTES", 1_000_000)
    server.behaviours = list(behaviours)
    with pytest.raises(DownloadError) as caught:
        fetch(server.publish("file.bin", CONTENT), tmp_path)
    assert str(caught.value).startswith("file.bin cannot be fetched (http://127.0.0.1")
    assert reason in str(caught.value)
    stays = ["file.bin.part"] if "stall" in behaviours else []  # the beginning is kept
    assert [path.name for path in tmp_path.iterdir()] == stays
    server.behaviours = list(behaviours)
    with_mirror = server.publish("file.bin", CONTENT, server.url + "file.bin")
    assert fetch(with_mirror, tmp_path).read_bytes() == CONTENT


def test_no_server(server: FileServer, tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:1/file.bin", "http://nowhere.invalid/file.bin"]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:1.*refused.*nowhere\.invalid"):
        fetch(Resource("file.bin", urls, "0" * 32), tmp_path)


def test_no_space_for_a_download(server: FileServer, tmp_path: Path) -> None:
    message = r"too large.*file\.bin\.part"
    with file_size_limit(10_000), pytest.raises(OSError, match=message):
        fetch(server.publish("file.bin", CONTENT), tmp_path)
    assert not list(tmp_path.iterdir())
