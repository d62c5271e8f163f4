"""A server behind a front that is down, hangs, or answers something else: a clear 502 or 504, and never a hang."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from artifacts import Made
from fronting import Front, Scripted, answer, fronting, scripted, until, v1_server
from serving import Server, matrix, serving

SECRET = "Zq7secret"
GOOD = b'{"outputs": []}'
DEADLINE = 2.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture(scope="module")
def front(upstream: Scripted) -> Iterator[Front]:
    with fronting(upstream.port, "--deadline", str(DEADLINE), "--max-answer", "100000") as front:
        yield front


def infer(front: Server) -> Any:
    return front.infer({"name": SECRET, "shape": [1], "datatype": "BYTES", "data": [SECRET]})


def slowly(connection: socket.socket, data: bytes) -> None:
    """A byte now and then, for longer than anybody waits."""
    for byte in data:
        connection.sendall(bytes((byte,)))
        time.sleep(0.2)


def without_end(connection: socket.socket, start: bytes, more: bytes) -> None:
    connection.sendall(start)
    while True:
        connection.sendall(more)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
JSON_SIZE = "inference-header-content-length"
RAW = b'{"outputs": [{"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}'


def says(data: bytes) -> Any:
    """Answers with these bytes, and keeps the connection open."""
    return lambda connection, _: connection.sendall(data)


def closes_after(data: bytes) -> Any:
    return lambda connection, _: (connection.sendall(data), connection.close())


# (what it does, the caller's status, the reason)
FAULTS: list[tuple[str, Any, int, str]] = [
    ("it closes", lambda c, _: c.close(), 502, "UpstreamLost"),
    ("it closes in the head", closes_after(HEAD), 502, "UpstreamLost"),
    ("it closes in the body", closes_after(answer(GOOD, size=100)), 502, "UpstreamLost"),
    ("it closes in a chunk", closes_after(CHUNKED + b"f\r\n{"), 502, "UpstreamLost"),
    ("it closes between chunks", closes_after(CHUNKED + b"f\r\n" + GOOD + b"\r\n"), 502, "UpstreamLost"),
    ("it resets", lambda c, _: (c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"), c.close()),
     502, "UpstreamLost"),
    ("it says nothing", lambda *_: time.sleep(60), 504, "UpstreamLate"),
    ("it says a head only", lambda c, _: (c.sendall(HEAD), time.sleep(60)), 504, "UpstreamLate"),
    ("it says less than its content-length", lambda c, _: (c.sendall(answer(GOOD, size=100)), time.sleep(60)),
     504, "UpstreamLate"),
    ("it drips", lambda c, _: slowly(c, answer(GOOD)), 504, "UpstreamLate"),
    ("no HTTP", says(b"\x00\xff nonsense \r\n\r\n"), 502, "UpstreamInvalid"),
    ("another protocol", says(b"+PONG\r\n"), 502, "UpstreamInvalid"),
    ("a content-length of words", says(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"), 502, "UpstreamInvalid"),
    ("two content-lengths", says(HEAD + b"content-length: 15\r\ncontent-length: 16\r\n\r\n" + GOOD),
     502, "UpstreamInvalid"),
    ("a bad chunk", says(CHUNKED + b"zz\r\n"), 502, "UpstreamInvalid"),
    ("it switches protocols", says(b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"),
     502, "UpstreamInvalid"),
    ("too long a content-length", says(answer(b"", size=10**9)), 502, "UpstreamTooLarge"),
    ("an absurd content-length", says(answer(b"", size=10**40)), 502, "UpstreamInvalid"),
    ("more than the limit", says(answer(b" " * 100_001)), 502, "UpstreamTooLarge"),
    ("chunks without end", lambda c, _: without_end(c, CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"),
     502, "UpstreamTooLarge"),
    ("headers without end", lambda c, _: without_end(c, HEAD, b"x: y\r\n"), 502, "UpstreamTooLarge"),
    ("hints without end", lambda c, _: without_end(c, b"", b"HTTP/1.1 103 x\r\n\r\n"), 502, "UpstreamTooLarge"),
    ("no JSON", says(answer(SECRET.encode())), 502, "UpstreamInvalid"),
    ("half of the JSON", says(answer(GOOD[:-1])), 502, "UpstreamInvalid"),
    ("less than all of its JSON", says(answer(GOOD, size=7)), 502, "UpstreamInvalid"),
    ("JSON of another kind", says(answer(b'["outputs"]')), 502, "UpstreamInvalid"),
    ("JSON without outputs", says(answer(b"{}")), 502, "UpstreamInvalid"),
    ("outputs without shapes", says(answer(b'{"outputs": [{"name": "a"}]}')), 502, "UpstreamInvalid"),
    ("deep JSON", says(answer(b'{"outputs": ' + b"[" * 50_000)), 502, "UpstreamInvalid"),
    ("nothing", says(answer(b"")), 502, "UpstreamInvalid"),
    ("another size of JSON", says(answer(RAW + b"abcd", 200, f"{JSON_SIZE}: x")), 502, "UpstreamInvalid"),
    ("a size of JSON that is too large", says(answer(RAW, 200, f"{JSON_SIZE}: 10000")), 502, "UpstreamInvalid"),
    ("too few raw bytes", says(answer(RAW + b"abc", 200, f"{JSON_SIZE}: {len(RAW)}")), 502, "UpstreamInvalid"),
    ("too many raw bytes", says(answer(RAW + b"abcde", 200, f"{JSON_SIZE}: {len(RAW)}")), 502, "UpstreamInvalid"),
    ("compressed", says(answer(GOOD, 200, "content-encoding: gzip")), 502, "UpstreamInvalid"),
    ("500", says(answer(SECRET.encode(), 500)), 502, "UpstreamFailed"),
    ("501", says(answer(b"{}", 501)), 502, "UpstreamFailed"),
    ("404", says(answer(b'{"error": "unknown"}', 404)), 502, "UpstreamFailed"),
    ("401", says(answer(b"{}", 401)), 502, "UpstreamFailed"),
    ("302", says(answer(b"", 302, "location: http://169.254.169.254/")), 502, "UpstreamFailed"),
    ("204", says(b"HTTP/1.1 204 No Content\r\n\r\n"), 502, "UpstreamFailed"),
    ("503", says(answer(SECRET.encode(), 503)), 503, "UpstreamNotReady"),
    ("429", says(answer(SECRET.encode(), 429)), 429, "UpstreamBusy"),
    ("504", says(answer(SECRET.encode(), 504)), 504, "UpstreamLate"),
    ("400 without words", says(answer(b"", 400)), 400, "UpstreamRefused"),
    ("422 with words", says(answer(b'{"detail": "too many rows"}', 422)), 422, "UpstreamRefused"),
    ("400 with too many words", says(answer(b'{"error": "%b"}' % (SECRET.encode() * 1000), 400)),
     400, "UpstreamRefused"),
    ("400 with words of another kind", says(answer(b'{"error": [1]}', 400)), 400, "UpstreamRefused"),
]  # fmt: skip


@pytest.mark.parametrize(("does", "status", "reason"), [pytest.param(*fault[1:], id=fault[0]) for fault in FAULTS])
def test_a_fault_is_answered_and_counted_by_reason(
    upstream: Scripted, front: Front, does: Any, status: int, reason: str
) -> None:
    before = front.refusals().get(reason, 0)
    upstream.answering = does
    found = infer(front)
    assert found.status == status, found.json
    assert list(found.json) == ["error"]
    assert SECRET not in found.json["error"]
    assert len(found.json["error"]) < 300
    assert found.headers["modelmill-model-version"] == "7"
    assert ("retry-after" in found.headers) == (status in (429, 503))
    assert front.refusals().get(reason, 0) == before + 1, front.refusals()
    # The next request is not disturbed: nothing of the former answer is taken for its own.
    upstream.answering = says(answer(GOOD))
    good = infer(front)
    assert (good.status, good.body) == (200, GOOD)


def test_of_what_fastapi_says_the_input_is_left_out(upstream: Scripted, front: Front) -> None:
    problem = b'{"type": "missing", "loc": ["body", "inputs", 0, "shape"], "msg": "Field required", "input": "%b"}'
    upstream.answering = says(answer(b'{"detail": [%b]}' % (problem % SECRET.encode()), 422))
    found = infer(front)
    assert (found.status, found.json) == (422, {"error": "body.inputs.0.shape: Field required"})


GOOD_ANSWERS: list[tuple[str, Any]] = [
    ("without a length, to the end", closes_after(HEAD + b"\r\n" + GOOD)),
    ("HTTP/1.0", closes_after(b"HTTP/1.0 200 OK\r\ncontent-length: 15\r\n\r\n" + GOOD)),
    ("in chunks with a trailer",
     says(CHUNKED + b"5\r\n" + GOOD[:5] + b"\r\na\r\n" + GOOD[5:] + b"\r\n0\r\nx: y\r\n\r\n")),
    ("byte by byte", lambda c, _: [c.sendall(bytes((byte,))) for byte in answer(GOOD)]),
    ("100 Continue first", says(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(GOOD))),
    ("hints first", says(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 3 + answer(GOOD))),
    ("another answer behind it", says(answer(GOOD) + answer(b'{"outputs": [1]}', 500))),
    ("nonsense behind it", says(answer(GOOD) + b"\x00nonsense")),
    ("another answer a moment later", lambda c, _: (c.sendall(answer(GOOD)), time.sleep(0.05), c.sendall(answer(b"")))),
    ("connection: close", closes_after(answer(GOOD, 200, "connection: close"))),
    ("connection: close, and it stays", says(answer(GOOD, 200, "connection: close"))),
    ("just below the limit", says(answer(GOOD + b" " * (100_000 - len(GOOD))))),
]  # fmt: skip


@pytest.mark.parametrize("does", [pytest.param(case[1], id=case[0]) for case in GOOD_ANSWERS])
def test_what_is_odd_and_right(upstream: Scripted, front: Front, does: Any) -> None:
    upstream.answering = does
    for _ in range(3):
        found = infer(front)
        assert (found.status, found.body.strip()) == (200, GOOD), found.json
        time.sleep(0.1)


@pytest.mark.parametrize("shape", ["[-5]", "[100000000000000000000000000]", "[1000000]", "[]"])
def test_what_claims_to_be_rows_is_not_counted_blindly(upstream: Scripted, front: Front, shape: str) -> None:
    rows = 'modelmill_predictions_total{model="model",version="7"}'
    before = front.metrics()[rows]
    upstream.answering = says(answer(b'{"outputs": [{"shape": %b}]}' % shape.encode()))
    assert infer(front).status in (200, 502)
    assert front.metrics()[rows] <= before + 1


def test_a_connection_that_was_closed_when_it_was_used_again_is_no_failure(upstream: Scripted, front: Front) -> None:
    def once(connection: socket.socket, _: bytes) -> None:
        if closing:
            closing.pop()
            connection.close()
        else:
            connection.sendall(answer(GOOD))

    closing: list[int] = []
    upstream.answering = once
    failures = front.refusals().get("UpstreamLost", 0)
    assert infer(front).status == 200
    closing.append(1)
    sent = len(upstream.requests)
    assert infer(front).status == 200
    # Readiness may have been asked for on the connection in between: then it was a fresh one that was closed.
    assert len(upstream.requests) == sent + 2
    assert front.refusals().get("UpstreamLost", 0) == failures


@pytest.mark.parametrize("header", ["X-Request-Timeout: 0.3", "x-envoy-expected-rq-timeout-ms: 300"])
def test_a_caller_with_less_patience_waits_no_longer(upstream: Scripted, front: Front, header: str) -> None:
    upstream.answering = lambda *_: time.sleep(60)
    name, _, value = header.partition(": ")
    found = front.ask("POST", "/v2/models/model/infer", b"{}", {name: value})
    assert (found.status, "before the request's deadline" in found.json["error"]) == (504, True)
    assert front.ask("POST", "/v2/models/model/infer", b"{}", {name: "0"}).status == 504
    assert front.ask("POST", "/v2/models/model/infer", b"{}", {name: "soon"}).status == 400


@pytest.mark.parametrize("path", ["/v2", "/v2/models/model"])
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (says(answer(b"[]")), "UpstreamInvalid"),
        (says(answer(b'{"x": ' + b"[" * 50_000)), "UpstreamInvalid"),
        (says(answer(b"{}", 404)), "UpstreamFailed"),
        (lambda c, _: c.close(), "UpstreamLost"),
    ],
)
def test_metadata_of_another_kind(path: str, does: Any, reason: str) -> None:
    with scripted() as upstream, fronting(upstream.port) as front:
        upstream.getting = lambda c, r: does(c, r) if r.split(b" ")[1] == path.encode() else c.sendall(answer(b""))
        found = front.ask("GET", path)
        assert (found.status, list(found.json)) == (502, ["error"])
        assert front.refusals() == {reason: 1}


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"[[[", b'{"predictions": 1', b'{"outputs": []}', b"\xff", b"nonsense"]
)  # fmt: skip
def test_what_is_no_answer_of_v1(body: bytes) -> None:
    with scripted() as upstream, fronting(upstream.port, protocol="V1") as front:
        upstream.answering = says(answer(body))
        found = front.ask("POST", "/v1/models/model:predict", {"instances": [[1]]})
        assert (found.status, front.refusals()) == (502, {"UpstreamInvalid": 1})
        upstream.answering = says(answer(b'{"predictions": {"a": 1}}'))
        assert front.ask("POST", "/v1/models/model:predict", {"instances": [[1]]}).json == {"predictions": {"a": 1}}


@pytest.mark.parametrize("body", [b'{"ready": false}', b'{"name": "model", "ready": "False"}'])
def test_a_server_that_says_that_it_is_not_ready(body: bytes) -> None:
    with scripted() as upstream:
        upstream.getting = says(answer(body))
        with fronting(upstream.port, ready=False) as front:
            front.wait_for("waiting for the upstream")
            assert "it says that it is not" in front.ask("GET", "/v2/health/ready").json["error"]


class Caller(threading.Thread):
    """Predicts again and again, and writes down each status."""

    def __init__(self, front: Front, body: dict[str, Any], path: str, stop: threading.Event) -> None:
        super().__init__()
        self._front, self._body, self._path, self._enough = front, body, path, stop
        self.statuses: list[int] = []

    def run(self) -> None:
        while not self._enough.is_set():
            self.statuses.append(self._front.ask("POST", self._path, self._body).status)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
@pytest.mark.parametrize("protocol", ["V2", "V1"])
def test_the_server_dies_or_stops_under_load(cancer: Made, number: signal.Signals, protocol: str) -> None:
    stop = threading.Event()
    behind = serving(cancer) if protocol == "V2" else v1_server()
    body: dict[str, Any] = {"inputs": [matrix(cancer.rows[:1])]} if protocol == "V2" else {"instances": [[1, 2]]}
    path = "/v2/models/model/infer" if protocol == "V2" else "/v1/models/model:predict"
    with behind as upstream, fronting(upstream.port, "--deadline", "1", protocol=protocol) as front:
        callers = [Caller(front, body, path, stop) for _ in range(4)]
        for caller in callers:
            caller.start()
        until(lambda: all(caller.statuses for caller in callers), "all callers have been answered")
        upstream.signal(number)
        failed = {502} if number is signal.SIGKILL else {504}
        until(lambda: all(caller.statuses[-1] in failed for caller in callers), "all callers have seen it")
        if number is signal.SIGSTOP:
            upstream.signal(signal.SIGCONT)
            until(lambda: all(caller.statuses[-1] == 200 for caller in callers), "it goes on")
        stop.set()
        for caller in callers:
            caller.join(30)
        assert {status for caller in callers for status in caller.statuses} <= {200, *failed}
        reasons = set(front.refusals())
        assert reasons <= {"UpstreamLost", "UpstreamUnreachable"} if number is signal.SIGKILL else {"UpstreamLate"}
        assert front.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0
        assert front.ask("GET", "/v2/health/live").status == 200
