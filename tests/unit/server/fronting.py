"""A real front (`modelmill_server front`) before another server, and servers that are not ours."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving import Process, Server

PORTS = ("--port", "0", "--metrics-port", "0", "--host", "127.0.0.1")
Answering = Callable[[socket.socket, bytes], None]  # what a server does with a request: its connection, its bytes


class Front(Server):
    """A front that listens; `name` and `version` are the model's."""

    def __init__(self, upstream: int, *options: str, name: str = "model", protocol: str = "V2") -> None:
        target = ("--upstream", f"http://127.0.0.1:{upstream}", "--protocol", protocol)
        Process.__init__(self, "front", *target, "--name", name, "--version", "7", *PORTS, *options)
        self.name = name


@contextmanager
def fronting(upstream: int, *options: str, ready: bool = True, **more: str) -> Iterator[Front]:
    """A front before the server on port `upstream`, ready unless it is said that it will not be."""
    front = Front(upstream, *options, **more)
    try:
        front.wait_for("ready" if ready else "listening")
        yield front
    finally:
        front.end()


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Scripted:
    """A server on loopback that does with each prediction what a test says.  It is always ready."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.answering: Answering = lambda connection, _: connection.close()
        self.getting: Answering = lambda connection, _: connection.sendall(answer(b""))
        self.requests: list[bytes] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes up who accepts
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        asked = 0
        with contextlib.suppress(OSError), connection:
            while request := whole_request(connection):
                if request.startswith(b"GET "):
                    self.getting(connection, request)
                    continue
                self.connections += not asked
                asked += 1
                self.requests.append(request)
                self.answering(connection, request)


@contextmanager
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    try:
        yield server
    finally:
        server.close()


def whole_request(connection: socket.socket) -> bytes:
    """A request with its body, b"" where the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    sizes = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    size = int(sizes[0]) if sizes else 0
    while len(body) < size:
        part = connection.recv(65536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body


def answer(body: bytes, status: int = 200, *headers: str, size: int | None = None) -> bytes:
    """An HTTP answer; `size` is what its content-length says, where it is to be wrong."""
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body) if size is None else size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


# A server that speaks V1, and that nobody of us wrote: one thread for each connection, the sum of each row.
V1_SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        known = self.path == "/v1/models/model"
        self.reply(200 if known else 404, {"name": "model", "ready": True} if known else {"error": "unknown"})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/models/model:predict":
            self.reply(404, {"error": "unknown"})
        elif "instances" not in body:
            self.reply(400, {"error": "instances are missing"})
        else:
            self.reply(200, {"predictions": [sum(row) for row in body["instances"]]})
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"message": "listening", "port": server.server_port}), flush=True)
server.serve_forever()
"""


class Foreign(Process):
    """A process with a script of somebody else's."""

    def __init__(self, script: str) -> None:
        super().__init__(command=[sys.executable, "-c", script])

    @property
    def port(self) -> int:
        return int(self.wait_for("listening")["port"])


@contextmanager
def v1_server() -> Iterator[Foreign]:
    process = Foreign(V1_SERVER)
    try:
        yield process
    finally:
        process.end()
