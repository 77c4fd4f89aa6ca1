"""An HTTP server on this machine that serves files well or badly."""

import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from genmodels.data import downloads
from genmodels.data.downloads import Resource


class FileServer:
    """Serves files by path; `behaviours` says how it answers the next requests.

    A behaviour is "serve", an HTTP status such as "404", or:
    break off: send half of what is asked for.
    stall: send a little, then nothing for a second.
    no ranges: send the whole file, whatever part is asked for.
    other range: send the whole file as if it were a part.
    no length: do not say how much comes.
    endless: send zeros first, without saying how many.
    lie: send another file of the same length.
    page: send a page that says why not.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.behaviours: list[str] = []  # of the next requests; then it serves
        self.requests: list[tuple[str, str | None]] = []  # (path, range)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range")))
                behaviour = server.behaviours.pop(0) if server.behaviours else "serve"
                server.answer(self, behaviour)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def publish(self, name: str, content: bytes, *mirrors: str) -> Resource:
        """Serve a file, also as if from mirrors; returns what downloads need to know of it."""
        self.files.setdefault(name, content)
        return Resource(name, [self.url + name, *mirrors], hashlib.md5(content).hexdigest())

    def answer(self, request: http.server.BaseHTTPRequestHandler, behaviour: str) -> None:
        content = self.files.get(request.path.lstrip("/"))
        if behaviour.isdigit():
            return request.send_error(int(behaviour))
        if content is None:
            return request.send_error(404)
        start = 0
        asked = request.headers.get("Range")
        if asked and behaviour not in ("no ranges", "other range"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return request.send_error(416)
        if behaviour == "lie":
            content = content[::-1]
        if behaviour == "page":
            content, start = b"<html>Quota exceeded</html>", 0
        is_part = start > 0 or behaviour == "other range"
        request.send_response(206 if is_part else 200)
        if is_part:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if behaviour not in ("no length", "endless"):
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        with contextlib.suppress(ConnectionError):
            self.send(request, content[start:], behaviour)
        return None

    def send(
        self, request: http.server.BaseHTTPRequestHandler, content: bytes, behaviour: str
    ) -> None:
        if behaviour == "stall":
            request.wfile.write(content[:1000])
            time.sleep(1)
            return
        if behaviour == "break off":
            content = content[: len(content) // 2]
        if behaviour == "endless":
            for _ in range(200):
                request.wfile.write(bytes(100_000))
        request.wfile.write(content)


@contextlib.contextmanager
def running_server() -> Iterator[FileServer]:
    """A server in a thread of its own; meanwhile downloads are impatient and use no proxy."""
    server = FileServer()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads, "TIMEOUT", 0.3)
        patch.setattr(downloads, "PAUSE", 0.001)
        for protocol in ("http", "https", "all"):
            patch.delenv(f"{protocol}_proxy", raising=False)
            patch.delenv(f"{protocol}_proxy".upper(), raising=False)
        yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()
