"""A store that takes, gives and deletes objects, but overwrites what is there, is none."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from trainer_tasks import run

from modelmill_contracts import environment
from modelmill_contracts.task import PreflightTask, StoreLocation


class _Forgetful(BaseHTTPRequestHandler):
    """An S3 server that ignores If-None-Match, as some do."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_GET(self) -> None:
        found = self.objects.get(self.path)
        self._answer(404 if found is None else 200, found or b"")

    def do_POST(self) -> None:
        """Of several objects, all at once: S3's DeleteObjects."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall("<Key>(.*?)</Key>", asked)
        for key in keys:
            del self.objects[f"/models/{key}"]
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    for name in (environment.STORE_ACCESS_KEY, environment.STORE_SECRET_KEY):
        monkeypatch.setenv(name, "any")
    _Forgetful.objects = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Forgetful)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield StoreLocation("s3://models", f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


def test_a_store_that_overwrites_is_refused_and_left_as_it_was(forgetful: StoreLocation) -> None:
    answer = run(PreflightTask(forgetful, "uid"))
    assert (answer.ok, answer.reason, answer.retryable) == (False, "StoreOverwrites", False), answer
    assert "use a store that honours them" in answer.message
    assert _Forgetful.objects == {}
