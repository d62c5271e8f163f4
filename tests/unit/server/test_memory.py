"""Memory stays flat over many requests, refused ones and scrapes included."""

import os
import re
import socket
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from artifacts import Made
from serving import Server, ask, matrix, serving

PATH = "/v2/models/model/infer"
START = b"HTTP/1.1 "  # of an answer
DEPTH = 50  # requests that are on their way on one connection


def resident(server: Server) -> int:
    """KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def send(server: Server, requests: list[bytes], count: int) -> None:
    """Send `requests` in turn, `count` in all, and read as many answers."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        position = 0
        for _ in range(count // DEPTH):
            burst = [requests[(position + index) % len(requests)] for index in range(DEPTH)]
            position += DEPTH
            connection.sendall(b"".join(burst))
            answered, rest = 0, b""
            while answered < DEPTH:
                received = connection.recv(1 << 16)
                assert received, f"the server closed the connection after {answered} of {DEPTH} answers"
                data = rest + received
                answered += data.count(START)
                rest = data[1 - len(START) :]  # too short for a start that was counted


def request(body: bytes, path: str = PATH) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.slow
def test_a_hundred_thousand_requests(cancer: Made) -> None:
    good = [
        request(msgspec.json.encode({"id": os.urandom(8).hex(), "inputs": [matrix(cancer.rows[index : index + 1])]}))
        for index in range(96)
    ]
    several = [request(msgspec.json.encode({"inputs": [matrix(cancer.rows[:7])]}))]
    bad = [request(b'{"inputs": [{"name": "input"}]}'), request(b"{}", "/v2/models/none/infer"), request(b"\xff")]
    with serving(cancer) as server:
        send(server, good + several + bad, 20_000)
        ask(server.metrics_port, "GET", "/metrics")
        found = [resident(server)]
        for _ in range(10):
            send(server, good + several + bad, 10_000)
            ask(server.metrics_port, "GET", "/metrics")
            ask(server.metrics_port, "GET", "/snapshot")
            found.append(resident(server))
        assert server.metrics()['modelmill_requests_total{model="model",version="7",code="200"}'] == 120_000 * 97 / 100
    steps = [after - before for before, after in pairwise(found)]
    # KiB: one that kept 8 bytes of each request would have 800, a step as large as the others.  An allocator that
    # takes a piece once, whenever that is, is none that keeps anything of each request.
    assert sum(steps) - max(steps) < 512, steps
