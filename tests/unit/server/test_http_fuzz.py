"""However a caller cuts what it sends, and whatever it sends: the same answers, in order, and nothing is left over."""

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from artifacts import Made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import matrix

from modelmill_server import model
from modelmill_server.app import App
from modelmill_server.counters import Counters
from modelmill_server.limits import Limits
from modelmill_server.model import Servable
from modelmill_server.outbox import Outbox
from modelmill_server.protocol import Connection, Server

BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LIMIT = 20_000  # bytes of a body
PATH = "/v2/models/model/infer"
UPGRADE = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAABAAMAAABk")


class Wire(asyncio.Transport):
    """What a connection writes, and whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.reads = True
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.data += bytes(data)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.closed

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


async def exchange(servable: Servable, data: bytes, cuts: list[int]) -> tuple[bytes, Counters]:
    """What is answered to `data`, which is cut at `cuts`, by the time that the caller goes away."""
    counters, limits = Counters(), Limits(body=LIMIT, swallow=3 * LIMIT)
    app = App("model", "1", limits, counters)
    app.set_date("now")
    app.serve(servable)
    loop = asyncio.get_running_loop()
    server = Server(app, limits, app.short_cut)
    server.date = b"now"
    connection, wire = Connection(server, Outbox(loop), loop), Wire()
    connection.connection_made(wire)
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        while not wire.reads:
            await asyncio.sleep(0)
        if wire.closed:
            break
        connection.data_received(data[start:stop])
    for _ in range(3):
        await asyncio.sleep(0)
    while not wire.reads:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    assert counters.in_flight == 0
    assert not server.connections
    return wire.data, counters


def request(line: str, body: bytes = b"", *headers: str) -> bytes:
    length = () if any("chunked" in header for header in headers) else (f"content-length: {len(body)}",)
    return "\r\n".join([f"{line} HTTP/1.1", "host: x", *length, *headers, "", ""]).encode() + body


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


def prediction(rows: int, number: int) -> bytes:
    return msgspec.json.encode({"inputs": [matrix(np.ones((rows, 3)))], "id": f"n{number}"})


@st.composite
def a_request(draw: st.DrawFn) -> bytes:
    body = prediction(draw(st.sampled_from([1, 2, 500, 3000])), draw(st.integers(0, 99)))
    small = prediction(1, draw(st.integers(0, 99)))
    return draw(
        st.sampled_from(
            [
                request(f"POST {PATH}", body),
                request(f"POST {PATH}", small),
                request(f"POST {PATH}", small),
                request(f"POST {PATH}?x=1", body),
                request(f"POST {PATH}", chunked(small, 7, b"x: y\r\n"), "transfer-encoding: chunked"),
                request(f"POST {PATH}", chunked(body, 5000), "transfer-encoding: chunked"),
                request(f"POST {PATH}", small, *UPGRADE),
                request(f"POST {PATH}", small, "connection: keep-alive"),
                request(f"POST {PATH}", b"nonsense"),
                request("POST /v2/models/model/versions/1/infer", small),
                request("POST /v2/repository/index"),
                request("POST /nothing", body),
                request("GET /v2"),
                request("GET /v2", b"a body that nobody wants"),
                request("GET /v2", b"", *UPGRADE),
                request("HEAD /v2/models/model"),
                b"\r\n" + request("GET /v2/health/live"),
            ]
        )
    )


@pytest.fixture(scope="module")
def servable(regression: Made) -> Servable:
    return model.load(regression.folder, regression.digest, "model", "1")


def comparable(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\r\n") if not line.startswith(b"modelmill-compute-us")]


@BOUNDED
@given(st.data())
def test_the_answers_do_not_depend_on_how_the_requests_are_cut(servable: Servable, data: st.DataObject) -> None:
    sent = data.draw(st.lists(a_request(), min_size=1, max_size=12))
    whole = b"".join(sent)
    cuts = sorted(set(data.draw(st.lists(st.integers(1, max(1, len(whole) - 1)), max_size=6))))
    together, counted = asyncio.run(exchange(servable, whole, []))
    apart, counted_apart = asyncio.run(exchange(servable, whole, cuts))
    assert together.count(b"HTTP/1.1 ") == len(sent)
    assert comparable(together) == comparable(apart)
    assert (counted.refusals, counted.read().requests) == (counted_apart.refusals, counted_apart.read().requests)


@BOUNDED
@given(st.data())
def test_any_damage_is_answered_and_forgotten(servable: Servable, data: st.DataObject) -> None:
    message = bytearray(b"".join(data.draw(st.lists(a_request(), min_size=1, max_size=4))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(message) - 1, 400)))
        message[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    cuts = sorted(set(data.draw(st.lists(st.integers(1, max(1, len(message) - 1)), max_size=3))))
    answer, counters = asyncio.run(exchange(servable, bytes(message), cuts))
    assert b"HTTP/1.1 500 " not in answer or b"is not finite" in answer
    assert "InternalError" not in counters.refusals
