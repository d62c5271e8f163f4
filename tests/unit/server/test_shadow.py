"""The candidate gets copies, its answers are compared with the stable's, and no caller gets one or waits for one."""

import socket
import time
from typing import Any

import msgspec
import numpy as np
from artifacts import Made
from calls import infer, request, tensor
from serving import Server, binary, matrix
from splitting import INFER, STABLE, Stable, between, candidate, load, one_row, through, to, until

from modelmill_contracts.counters import Shadow


def counted(server: Stable, copies: int) -> Shadow:
    """What is counted when so many copies are through."""

    def shadow() -> Shadow:
        found = server.counted().shadow
        assert found is not None
        return found

    until(lambda: shadow().stable.requests + shadow().dropped >= copies, "all copies are through")
    return shadow()


def ask_all(server: Stable, made: Made) -> int:
    """One request of each form; how many."""
    rows = made.rows[:3].astype(np.float32)
    tensor_, data = binary(rows)
    answers = [
        server.infer(matrix(rows)),
        server.infer_binary({"inputs": [tensor_], "parameters": {"binary_data_output": True}}, data),
        server.ask("POST", "/v1/models/model:predict", {"instances": rows.tolist()}),
    ]
    assert {(answer.status, answer.headers["modelmill-model-version"]) for answer in answers} == {(200, STABLE)}
    assert infer(server, request(tensor("input", "FP32", [3, 30], rows.ravel().tolist()))).model_version == STABLE
    return len(answers) + 1


def test_a_copy_of_the_same_model_agrees_in_each_form(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, shadow=100))
    asked = sum(ask_all(server, cancer) for _ in range(5))
    seen = counted(server, asked)
    late = seen.candidate.failures
    assert seen.stable.requests == seen.candidate.requests == asked - seen.dropped
    assert seen.compared == seen.agreed == sum(seen.candidate.compute.counts) == seen.stable.requests - late
    # Of V1, there are no scores.
    assert seen.differences[0] >= seen.compared - 5
    assert sum(seen.differences[1:]) == 0
    rollout = server.counted()
    assert (rollout.stable.requests, rollout.candidate.requests, rollout.fallbacks) == (asked, 0, {})


def changed(port: int, change: Any) -> Any:
    """A candidate that answers something else: `change` is given the decoded answer."""

    def work(connection: socket.socket, sent: bytes) -> None:
        head, _, body = through(port, sent).partition(b"\r\n\r\n")
        document = msgspec.json.decode(body)
        change(document)
        body = msgspec.json.encode(document)
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
        connection.sendall(b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body]))

    return work


def other_label(document: Any) -> None:
    document["outputs"][0]["data"] = [1 - label for label in document["outputs"][0]["data"]]


def other_scores(document: Any) -> None:
    document["outputs"][1]["data"] = [score + 0.02 for score in document["outputs"][1]["data"]]


def test_what_differs_is_counted(cancer: Made, other: Server, server: Stable) -> None:
    with between(other.port) as proxy:
        proxy.answering = changed(other.port, other_label)
        server.follow(to(proxy.port, shadow=100))
        for _ in range(10):
            server.infer(matrix(cancer.rows[:2]))
        seen = counted(server, 10)
        assert (seen.compared > 0, seen.agreed, seen.differences[0]) == (True, 0, seen.compared)
        proxy.answering = changed(other.port, other_scores)
        server.follow(to(proxy.port, shadow=100, epoch="next"))
        for _ in range(10):
            server.infer(matrix(cancer.rows[:2]))
        seen = counted(server, 10)
        assert (seen.compared > 0, seen.agreed) == (True, seen.compared)
        assert seen.differences[3] == seen.compared  # up to 0.03


def test_errors_of_the_candidate_are_counted_and_seen_by_nobody(cancer: Made, other: Server, server: Stable) -> None:
    with between(other.port) as proxy:
        proxy.answering = lambda connection, _: connection.close()
        server.follow(to(proxy.port, shadow=100))
        with load(server.port, one_row(cancer)) as callers:
            until(lambda: counted(server, 0).candidate.failures > 50, "copies fail")
        seen = server.counted()
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    assert {version for caller in callers for version in caller.versions} == {STABLE}
    assert seen.shadow is not None
    assert seen.shadow.candidate.failures == seen.shadow.candidate.requests
    assert (seen.shadow.compared, seen.shadow.stable.failures, seen.candidate.requests) == (0, 0, 0)


def test_a_share_of_requests_is_copied(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, shadow=20))
    for _ in range(300):
        server.ask("POST", INFER, one_row(cancer))
    seen = counted(server, 20)
    assert 20 <= seen.stable.requests + seen.dropped <= 105  # 60, and six deviations


def test_copies_are_few_at_once_and_dropped_beyond(cancer: Made, other: Server, server: Stable) -> None:
    with between(other.port) as proxy:
        proxy.answering = lambda *_: time.sleep(60)
        server.follow(to(proxy.port, shadow=100))
        with load(server.port, one_row(cancer), callers=16) as callers:
            until(lambda: counted(server, 0).dropped > 200, "copies are dropped")
            assert proxy.connections <= 8 + 8 * 50  # each is given up after 20 ms, and 8 are on their way
    assert [caller.failures for caller in callers] == [[]] * len(callers)
    assert {version for caller in callers for version in caller.versions} == {STABLE}


def test_bad_requests_are_no_failures(other: Server, server: Stable) -> None:
    server.follow(to(other.port, shadow=100))
    for _ in range(10):
        assert server.ask("POST", INFER, b"nonsense").status == 400
    seen = counted(server, 10)
    assert (seen.compared, seen.stable.failures) == (0, 0)
    assert seen.candidate.requests == seen.stable.requests


def test_a_candidate_of_another_shape_fails_its_copies(cancer: Made, regression: Made, server: Stable) -> None:
    with candidate(regression) as other:
        server.follow(to(other.port, shadow=100))
        for _ in range(10):
            assert server.infer(matrix(cancer.rows[:1])).status == 200
        seen = counted(server, 10)
        assert seen.candidate.failures == seen.candidate.requests > 0
