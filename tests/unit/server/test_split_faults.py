"""Whatever the candidate does under load, no caller sees it, and all of it is counted as the candidate's."""

import http.client
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from artifacts import Made
from fronting import Answering, answer
from serving import Server
from splitting import (
    CANDIDATE,
    INFER,
    STABLE,
    Caller,
    Stable,
    between,
    candidate,
    load,
    one_row,
    relay,
    stable,
    through,
    to,
    until,
)

from modelmill_contracts.counters import FALLBACKS, Rollout


def assert_unnoticed(callers: list[Caller], seen: Rollout) -> None:
    """Every caller was answered, and what was the candidate's stayed its own."""
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    versions = [version for caller in callers for version in caller.versions]
    fell_back = sum(seen.fallbacks.values())
    assert seen.stable.requests + seen.candidate.requests == len(versions)
    assert versions.count(CANDIDATE) == seen.candidate.requests - fell_back == sum(seen.candidate.compute.counts)
    assert versions.count(STABLE) == seen.stable.requests + fell_back
    assert set(seen.fallbacks) <= set(FALLBACKS)
    failures = sum(n for reason, n in seen.fallbacks.items() if reason not in ("Refused", "Stale", "Overflow"))
    assert seen.candidate.failures == failures
    assert seen.stable.failures == 0


def late(port: int, seconds: float, share: float = 1.0) -> Answering:
    def work(connection: socket.socket, request: bytes) -> None:
        if chance.random() < share:
            time.sleep(seconds)
        connection.sendall(through(port, request))

    chance = random.Random(7)
    return work


def says(data: bytes) -> Any:
    return lambda connection, _: connection.sendall(data)


def closes_after(port: int, size: int) -> Answering:
    """Closes in the middle of an answer."""

    def work(connection: socket.socket, request: bytes) -> None:
        connection.sendall(through(port, request)[:size])
        connection.close()

    return work


NO_VERSION = b'{"outputs": [{"name": "predict", "shape": [1], "datatype": "INT64", "data": [1]}]}'
OURS = ("modelmill-model-version: 8", "modelmill-compute-us: 10.0")
# (what it does, the reason that is counted)
FAULTS: list[tuple[str, Callable[[int], Answering], str]] = [
    ("500", lambda _: says(answer(b"{}", 500)), "Failed"),
    ("503", lambda _: says(answer(b"{}", 503)), "Failed"),
    ("429", lambda _: says(answer(b"{}", 429)), "Busy"),
    ("404", lambda _: says(answer(b"{}", 404)), "Rejected"),
    ("301", lambda _: says(answer(b"", 301, "location: http://127.0.0.1/")), "Invalid"),
    ("200 ms late", lambda port: late(port, 0.2), "Late"),
    ("30 % late", lambda port: late(port, 0.2, 0.3), "Late"),
    ("it hangs", lambda _: lambda *_: time.sleep(60), "Late"),
    ("it closes", lambda _: lambda connection, _: connection.close(), "Lost"),
    ("it closes in the head", lambda port: closes_after(port, 30), "Lost"),
    ("it closes in the body", lambda port: closes_after(port, 300), "Lost"),
    ("it is another server", lambda _: says(answer(NO_VERSION)), "Invalid"),
    ("no prediction", lambda _: says(answer(b'{"error": ""}', 200, *OURS)), "Invalid"),
    ("half of the JSON", lambda _: says(answer(NO_VERSION[:-1], 200, *OURS)), "Invalid"),
    ("no time", lambda _: says(answer(NO_VERSION, 200, OURS[0], "modelmill-compute-us: nan")), "Invalid"),
    ("too large", lambda _: says(answer(b"", 200, *OURS, size=1 << 30)), "TooLarge"),
    ("no HTTP", lambda _: says(b"\x00\xff nonsense\r\n\r\n"), "Invalid"),
]


@pytest.mark.parametrize(("does", "reason"), [pytest.param(*fault[1:], id=fault[0]) for fault in FAULTS])
def test_a_fault_under_load(
    cancer: Made, other: Server, server: Stable, does: Callable[[int], Answering], reason: str
) -> None:
    with between(other.port) as proxy:
        for attempt in range(8):
            proxy.answering = relay(other.port)
            server.follow(to(proxy.port, 50, epoch=f"90ab11c2.{attempt}"))
            with load(server.port, one_row(cancer)) as callers:
                time.sleep(0.3)
                proxy.answering = does(other.port)
                until(lambda: server.counted().fallbacks.get("BreakerOpen", 0) > 20, "the breaker opens")
                time.sleep(0.5)
            seen = server.counted()
            assert_unnoticed(callers, seen)
            if reason in seen.fallbacks:
                break
            assert seen.fallbacks["Late"] > 0  # on a busy machine it opens for that, perhaps before the fault is there
    assert seen.fallbacks[reason] > 0, seen.fallbacks
    # It was asked a few times, and then only by copies.
    waited = sum(count for why, count in seen.fallbacks.items() if why not in ("BreakerOpen", "Overflow"))
    assert waited < 100
    assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_a_candidate_that_hangs_costs_few_callers_the_wait(cancer: Made, other: Server, server: Stable) -> None:
    with between(other.port) as proxy:
        proxy.answering = lambda *_: time.sleep(60)
        server.follow(to(proxy.port, 100))
        with load(server.port, one_row(cancer), callers=40) as callers:
            until(lambda: server.counted().fallbacks.get("BreakerOpen", 0) > 500, "the breaker opens")
            time.sleep(1)
        seen = server.counted()
    assert_unnoticed(callers, seen)
    assert seen.fallbacks["Late"] <= 2 * 16
    assert seen.open_breakers == 1


def test_the_candidate_has_few_requests_at_once(cancer: Made, other: Server, server: Stable) -> None:
    with between(other.port) as proxy:
        proxy.answering = lambda *_: time.sleep(60)
        server.follow(to(proxy.port, 100))
        callers = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(40)]
        for caller in callers:
            caller.connect()
        server.signal(signal.SIGSTOP)  # so that it finds all of them at the same time
        try:
            for caller in callers:
                caller.request("POST", INFER, one_row(cancer), {"content-type": "application/json"})
        finally:
            server.signal(signal.SIGCONT)
        assert [caller.getresponse().status for caller in callers] == [200] * len(callers)
        for caller in callers:
            caller.close()
    seen = server.counted()
    assert seen.fallbacks["Late"] == 16
    assert seen.fallbacks["Overflow"] == len(callers) - 16


def test_a_candidate_that_is_to_get_nothing_is_not_tried(cancer: Made, other: Server, server: Stable) -> None:
    """What fails is tried again and again, but not after its weight went to zero: there may be nobody any more."""
    with between(other.port) as proxy:
        proxy.answering = says(answer(b"{}", 500))
        server.follow(to(proxy.port, 50))
        with load(server.port, one_row(cancer)) as callers:
            until(lambda: server.counted().open_breakers == 1, "the breaker opens")
            tried = len(proxy.requests)
            until(lambda: len(proxy.requests) > tried, "it is tried")
            server.mounted.write(to(proxy.port, 0))
            fell_back = -1
            while fell_back != (fell_back := sum(server.counted().fallbacks.values())):
                time.sleep(1)  # until no request is the candidate's
            tried = len(proxy.requests)
            time.sleep(9)  # the longest pause, and one second
            assert len(proxy.requests) == tried
            server.mounted.write(to(proxy.port, 50))
            until(lambda: len(proxy.requests) > tried, "it is tried again")
        assert_unnoticed(callers, server.counted())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_the_candidate_dies_or_stops_and_comes_back(cancer: Made, server: Stable, number: signal.Signals) -> None:
    with candidate(cancer) as other:
        port = other.port
        server.follow(to(port, 50))
        with load(server.port, one_row(cancer)) as callers:
            until(lambda: server.counted().candidate.requests > 100, "it answers")
            other.signal(number)
            until(lambda: server.counted().open_breakers == 1, "the breaker opens")
            answered = [len(caller.versions) for caller in callers]
            with candidate(cancer, "--port", str(port)) if number is signal.SIGKILL else continued(other):
                until(lambda: all_answered_since(callers, answered), "it answers again")
        assert_unnoticed(callers, server.counted())
        server.wait_for("the candidate fails")
        server.wait_for("the candidate answers again")


@contextmanager
def continued(stopped: Server) -> Iterator[None]:
    stopped.signal(signal.SIGCONT)
    yield


def all_answered_since(callers: list[Caller], before: list[int]) -> bool:
    """Whether the candidate has answered every caller since there were so many answers."""
    return all(CANDIDATE in caller.versions[count:] for caller, count in zip(callers, before, strict=True))


def test_nobody_listens(cancer: Made, server: Stable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server.follow(to(port, 50))
    with load(server.port, one_row(cancer)) as callers:
        until(lambda: server.counted().candidate.requests > 100, "it is its turn")
    seen = server.counted()
    assert_unnoticed(callers, seen)
    assert set(seen.fallbacks) <= {"Unreachable", "BreakerOpen", "Late"}


def test_a_name_that_nobody_knows(cancer: Made, server: Stable) -> None:
    server.follow(to(80, 50, host="nobody.invalid"))
    with load(server.port, one_row(cancer)) as callers:
        until(lambda: server.counted().candidate.requests > 100, "it is its turn")
    assert_unnoticed(callers, server.counted())


def test_a_candidate_with_another_shape_is_found_out(cancer: Made, regression: Made, server: Stable) -> None:
    with candidate(regression) as other:
        server.follow(to(other.port, 50))
        with load(server.port, one_row(cancer)) as callers:
            until(lambda: server.counted().candidate.requests > 100, "it is its turn")
        seen = server.counted()
    assert_unnoticed(callers, seen)
    assert seen.fallbacks["Rejected"] > 0
    # On a busy machine some were late instead; the breaker opens by both.
    assert seen.fallbacks["Rejected"] + seen.fallbacks.get("Late", 0) >= 8
    assert seen.candidate.failures == seen.candidate.requests - seen.fallbacks.get("Overflow", 0)


def test_a_connection_that_was_closed_when_it_was_used_again_is_no_failure(
    cancer: Made, other: Server, server: Stable
) -> None:
    def once(connection: socket.socket, request: bytes) -> None:
        relay(other.port)(connection, request)
        answered.set()
        if not again.wait(10):
            return
        connection.recv(1, socket.MSG_PEEK)  # the next request is there ...
        connection.close()  # ... and is not read

    answered, again = threading.Event(), threading.Event()
    with between(other.port) as proxy:
        proxy.answering = once
        server.follow(to(proxy.port, 100))
        with_candidate = server.ask("POST", "/v2/models/model/infer", one_row(cancer))
        assert with_candidate.headers["modelmill-model-version"] == CANDIDATE
        again.set()
        second = server.ask("POST", "/v2/models/model/infer", one_row(cancer))
    seen = server.counted()
    assert (second.status, second.headers["modelmill-model-version"]) == (200, STABLE)
    assert (seen.fallbacks, seen.candidate.failures, seen.candidate.requests) == ({"Stale": 1}, 0, 2)


def test_callers_that_leave_are_counted_too(cancer: Made, other: Server, server: Stable) -> None:
    body = one_row(cancer)
    with between(other.port) as proxy:
        proxy.answering = lambda *_: time.sleep(60)
        server.follow(to(proxy.port, 100))
        request = b"POST /v2/models/model/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port)) as caller:
                caller.sendall(request)
        until(lambda: server.counted().candidate.requests == 5, "all are counted")
    seen = server.counted()
    assert seen.fallbacks == {"Late": 5}
    assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_pipelined_requests_are_answered_in_order(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 50))
    body = one_row(cancer)
    parts = []
    for number in range(40):
        own = b'{"id": "n%d", ' % number + body[1:]
        parts.append(
            b"POST /v2/models/model/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(own), own)
        )
    found = server.raw(b"".join(parts), 2)
    ids = [int(part.split(b'"')[0]) for part in found.split(b'"id":"n')[1:]]
    assert ids == list(range(40))
    assert found.count(b"HTTP/1.1 200 OK") == 40


def test_it_drains_in_the_middle_of_a_rollout(cancer: Made, other: Server, tmp_path: Path) -> None:
    with stable(cancer, tmp_path / "routes", "--drain-seconds", "1") as server:
        server.follow(to(other.port, 50))
        with load(server.port, one_row(cancer)) as callers:
            server.signal(signal.SIGTERM)
            time.sleep(0.5)
        assert server.wait(30) == 0
    assert [caller.failures for caller in callers] == [[]] * len(callers)
