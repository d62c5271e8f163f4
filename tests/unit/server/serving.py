"""A real server process on loopback, and a plain client for it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from artifacts import Made


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        size = self.headers.get("inference-header-content-length")
        return json.loads(self.body if size is None else self.body[: int(size)])

    @property
    def tensors(self) -> dict[str, bytes]:
        """The binary outputs by name."""
        position, found = int(self.headers["inference-header-content-length"]), {}
        for output in self.json["outputs"]:
            if "parameters" in output:
                size = output["parameters"]["binary_data_size"]
                found[output["name"]] = self.body[position : position + size]
                position += size
        assert position == len(self.body)
        return found


class Process:
    """`python -m modelmill_server ...`, or another command, with its log lines."""

    def __init__(
        self, *arguments: str, variables: dict[str, str] | None = None, command: list[str] | None = None
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="modelmill-")  # what is killed leaves something there
        self._process = subprocess.Popen(
            command or [sys.executable, "-m", "modelmill_server", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": self._temporary.name, **(variables or {})},
        )
        self.lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, message: str, seconds: float = 60) -> dict[str, Any]:
        """The first log line with `message`."""

        def found() -> dict[str, Any] | None:
            return next((line for line in self.lines if line["message"].startswith(message)), None)

        with self._changed:
            ended = self._changed.wait_for(lambda: found() or not self._reader.is_alive(), seconds)
            line = found()
        assert line is not None, f"no {message!r} {'before the end' if ended else 'in time'}: {self.lines}"
        return line

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        code = self._process.wait(seconds)
        self._reader.join(10)
        return code

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        self._temporary.cleanup()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                document = json.loads(line)
            except ValueError:
                document = {"message": line.decode(errors="replace").rstrip()}
            with self._changed:
                self.lines.append(document)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


class Server(Process):
    """A server that listens; `name` and `version` are its model's."""

    def __init__(
        self, folder: Path, *options: str, name: str = "model", variables: dict[str, str] | None = None
    ) -> None:
        ports = ("--port", "0", "--grpc-port", "0", "--metrics-port", "0", "--host", "127.0.0.1")
        super().__init__("serve", str(folder), "--name", name, "--version", "7", *ports, *options, variables=variables)
        self.name = name

    @property
    def port(self) -> int:
        return int(self.wait_for("listening")["port"])

    @property
    def metrics_port(self) -> int:
        return int(self.wait_for("listening")["metrics_port"])

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own.  A body that is not bytes is sent as JSON."""
        return ask(self.port, method, path, body, headers)

    def infer(self, *inputs: dict[str, Any], **more: Any) -> Answer:
        return self.ask("POST", f"/v2/models/{self.name}/infer", {"inputs": list(inputs), **more})

    def infer_binary(self, document: dict[str, Any], *raw: bytes, path: str = "", size: int | None = None) -> Answer:
        """A request with binary tensors; `size` is what the header says, where it is to be wrong."""
        head = msgspec.json.encode(document)
        headers = {"Inference-Header-Content-Length": str(len(head) if size is None else size)}
        return self.ask("POST", path or f"/v2/models/{self.name}/infer", b"".join([head, *raw]), headers)

    def raw(self, data: bytes, seconds: float = 10) -> bytes:
        """Send bytes as they are, and read until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), seconds) as connection:
            connection.settimeout(seconds)
            connection.sendall(data)
            return read_all(connection)

    def metrics(self) -> dict[str, float]:
        text = ask(self.metrics_port, "GET", "/metrics").body.decode()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def refusals(self) -> dict[str, float]:
        """Refusals by reason."""
        start = "modelmill_refusals_total{"
        found = {name: value for name, value in self.metrics().items() if name.startswith(start)}
        return {name.split('reason="')[1].split('"')[0]: value for name, value in found.items()}


@contextmanager
def serving(made: Made, *options: str, **more: Any) -> Iterator[Server]:
    """A ready server of `made`, verified against its digest."""
    server = Server(made.folder, "--digest", made.digest, *options, **more)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.end()


def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except TimeoutError:
        pass
    return b"".join(parts)


def binary(rows: Any, datatype: str = "FP32", name: str = "input") -> tuple[dict[str, Any], bytes]:
    """A tensor whose values follow the JSON, and these."""
    raw = rows.tobytes()
    tensor = {"name": name, "shape": list(rows.shape), "datatype": datatype}
    return {**tensor, "parameters": {"binary_data_size": len(raw)}}, raw


def matrix(rows: Any, datatype: str = "FP32", name: str = "input") -> dict[str, Any]:
    """A tensor with `rows`, nested."""
    return {"name": name, "shape": list(rows.shape), "datatype": datatype, "data": rows.tolist()}
