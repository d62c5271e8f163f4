"""Progress: how far this process is with its training, for whoever asks on the metrics port.

A training says first which phases there will be; from then on `log.phase` tells when each begins.  Who asks reads what
was said last: no request reaches the training, and none takes more than a moment of it.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Mapping

import msgspec

from modelmill_contracts.progress import PATH, Progress, encode

_HEAD = 2048  # bytes of a request: what is longer is not read on
_PATIENCE = 1.0  # seconds for a request and its answer
_PAUSE = 0.05  # seconds after each: who asks without end must not take the CPU from the training


class Meter:
    """Where this process is in its plan.  One thread moves it, any may read `now`."""

    def __init__(self) -> None:
        self.now = Progress(0)
        self._ahead: tuple[tuple[str, float], ...] = ()
        self._total = 0.0

    def plan(self, *phases: tuple[str, float]) -> None:
        """Begin anew: these phases are ahead, each with about how long it takes, in any unit."""
        self._ahead, self._total = phases, sum(weight for _, weight in phases)
        self.now = Progress(0)

    def begin(self, name: str) -> None:
        """This phase begins, and those before it are over.  One that is not in the plan is part of the present one."""
        names = [planned for planned, _ in self._ahead]
        if name not in names:
            return
        place = names.index(name)
        left = sum(weight for _, weight in self._ahead[place:])
        self._ahead = self._ahead[place + 1 :]
        percent = int(100 * (self._total - left) / self._total)
        self.now = msgspec.structs.replace(self.now, percent=percent, phase=name)

    def measured(self, metrics: Mapping[str, float]) -> None:
        """What is known of the metrics by now."""
        self.now = msgspec.structs.replace(self.now, metrics=dict(metrics))


METER = Meter()


def serve(port: int) -> None:
    """From now on answer who asks on this port, in a thread; OSError where it cannot be had."""
    listening = _listen(port)
    threading.Thread(target=_answer_all, args=(listening,), name="progress", daemon=True).start()


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _answer_all(listening: socket.socket) -> None:
    while True:
        # Whoever asks may be gone, slow, or speak something else: that is their matter alone.
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                _answer(connection)
        time.sleep(_PAUSE)


def _answer(connection: socket.socket) -> None:
    end = time.monotonic() + _PATIENCE
    head = b""
    while b"\r\n\r\n" not in head:
        left = end - time.monotonic()
        if left <= 0 or len(head) > _HEAD:
            return
        connection.settimeout(left)
        received = connection.recv(_HEAD)
        if not received:
            return
        head += received
    connection.sendall(_reply(head))


def _reply(head: bytes) -> bytes:
    if not head.startswith(f"GET {PATH} ".encode()):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = encode(METER.now)
    described = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 200 OK\r\n{described}\r\n\r\n".encode() + body
