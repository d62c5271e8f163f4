"""REST in JSON, binary tensors, V1 and gRPC split alike, and the field's clients work during a rollout.

An answer of the candidate's is byte for byte what it answers who asks it itself.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from artifacts import Made
from calls import INFER as METHOD
from calls import call, channel, grpc_port, infer, raw, request, tensor
from fronting import v1_server
from serving import Server, ask, binary, matrix
from splitting import CANDIDATE, INFER, STABLE, Stable, between, candidate, one_row, stable, to
from tritonclient.grpc import service_pb2 as pb

V1 = "/v1/models/model:predict"
VERSION = "modelmill-model-version"


@pytest.fixture
def server(server: Stable, other: Server) -> Stable:
    """All requests are the candidate's."""
    server.follow(to(other.port, 100))
    return server


def answered_by_candidate(ask_: Callable[[], Any], version: Callable[[Any], str]) -> Any:
    """An answer of the candidate's: on a busy machine one may be late."""
    for _ in range(50):
        found = ask_()
        if version(found) == CANDIDATE:
            return found
        time.sleep(0.2)
    raise AssertionError("the candidate never answered in time")


def rest(server: Server, path: str, body: bytes, headers: dict[str, str]) -> Any:
    return answered_by_candidate(
        lambda: ask(server.port, "POST", path, body, headers), lambda answer: answer.headers[VERSION]
    )


def bodies(made: Made) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    rows = made.rows[:3].astype(np.float32)
    head, data = binary(rows)
    document = msgspec.json.encode({"inputs": [head], "parameters": {"binary_data_output": True}})
    size = {"Inference-Header-Content-Length": str(len(document))}
    return {
        "JSON": (INFER, msgspec.json.encode({"id": "n1", "inputs": [matrix(rows)]}), {}),
        "JSON, the long way": (INFER, one_row(made), {"x-request-timeout": "60", "expect": "100-continue"}),
        "binary": (INFER, document + data, size),
        "V1": (V1, msgspec.json.encode({"instances": rows.tolist()}), {}),
    }


@pytest.mark.parametrize("form", ["JSON", "JSON, the long way", "binary", "V1"])
def test_rest(cancer: Made, other: Server, server: Stable, form: str) -> None:
    path, body, headers = bodies(cancer)[form]
    found = rest(server, path, body, headers)
    itself = ask(other.port, "POST", path, body, headers)
    assert (found.status, found.body) == (200, itself.body)
    changing = {"date", "modelmill-compute-us"}
    assert {n: v for n, v in found.headers.items() if n not in changing} == {
        n: v for n, v in itself.headers.items() if n not in changing
    }
    assert float(found.headers["modelmill-compute-us"]) > 0
    seen = server.counted()
    assert (seen.stable.requests, seen.candidate.requests >= 1) == (0, True)


def message(made: Made, **more: Any) -> bytes:
    made_ = tensor("input", "FP32", [1, 30], made.rows[0].tolist())
    return request(made_, **more).SerializeToString()


def grpc_answer(server: Server, data: bytes, **more: Any) -> tuple[bytes, dict[str, str]]:
    with channel(server) as on:
        found, done = call(on, METHOD, data, **more)
        return found, dict(done.initial_metadata())


@pytest.mark.parametrize("form", ["typed", "raw"])
def test_grpc(cancer: Made, other: Server, server: Stable, form: str) -> None:
    data = message(cancer, id="n1")
    if form == "raw":
        rows = cancer.rows[:2].astype(np.float32)
        shape = tensor("input", "FP32", [2, 30])
        data = request(shape, raw_input_contents=[raw("FP32", rows.ravel())]).SerializeToString()
    found, headers = answered_by_candidate(lambda: grpc_answer(server, data), lambda answer: answer[1][VERSION])
    assert found == grpc_answer(other, data)[0]
    assert float(headers["modelmill-compute-us"]) > 0
    assert pb.ModelInferResponse.FromString(found).model_version == CANDIDATE
    assert server.counted().stable.requests == 0


def test_a_grpc_call_falls_back_as_any_other(cancer: Made, other: Server, server: Stable) -> None:
    with between(other.port) as proxy:
        proxy.answering = lambda connection, _: connection.close()
        server.follow(to(proxy.port, 100, epoch="next"))
        for _ in range(20):
            assert infer(server, message(cancer)).model_version == STABLE
        seen = server.counted()
        assert (seen.candidate.requests, seen.candidate.failures, seen.stable.requests) == (20, 20, 0)
        assert set(seen.fallbacks) <= {"Lost", "BreakerOpen", "Late"}


def test_what_grpc_callers_name(cancer: Made, server: Stable) -> None:
    _, headers = grpc_answer(server, message(cancer), metadata=[("modelmill-arm", "stable")])
    assert headers[VERSION] == STABLE
    _, headers = grpc_answer(server, message(cancer, model_version=STABLE))
    assert headers[VERSION] == STABLE
    seen = server.counted()
    assert (seen.steered, seen.stable.requests, seen.candidate.requests) == (1, 0, 0)
    with pytest.raises(grpc.RpcError) as error:
        infer(server, message(cancer, model_version="99"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as error:
        infer(server, b"\xff\xff")
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert server.counted().candidate.requests == 0


def test_grpc_keys_are_sticky(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 50, sticky_header="x-user-id", epoch="next"))
    users = [f"user {number}" for number in range(30)]
    rest_ = {u: server.ask("POST", INFER, one_row(cancer), {"x-user-id": u}).headers[VERSION] for u in users}
    late = sum(server.counted().fallbacks.values())
    server.follow(to(other.port, 50, sticky_header="x-user-id", epoch="another"))  # where all are counted again
    grpc_ = {u: grpc_answer(server, message(cancer), metadata=[("x-user-id", u)])[1][VERSION] for u in users}
    different = sum(rest_[user] != grpc_[user] for user in users)
    assert different <= late + sum(server.counted().fallbacks.values())
    assert set(rest_.values()) == {STABLE, CANDIDATE}


def test_tritonclient_over_http(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 50, epoch="next"))
    rows = cancer.rows[:4].astype(np.float32)
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        for is_binary in (True, False):
            sent = tritonclient.http.InferInput("input", list(rows.shape), "FP32")
            sent.set_data_from_numpy(rows, binary_data=is_binary)
            answers = [client.infer("model", [sent]) for _ in range(20)]
            versions = {answer.get_response()["model_version"] for answer in answers}
            assert versions == {STABLE, CANDIDATE}
            for answer in answers:
                assert answer.as_numpy("predict").tolist() == cancer.estimator.predict(cancer.rows[:4]).tolist()
    assert server.counted().stable.failures == 0


def test_tritonclient_over_grpc(cancer: Made, other: Server, server: Stable) -> None:
    server.follow(to(other.port, 50, epoch="next"))
    rows = cancer.rows[:4].astype(np.float32)
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{grpc_port(server)}") as client:
        sent = tritonclient.grpc.InferInput("input", list(rows.shape), "FP32")
        sent.set_data_from_numpy(rows)
        answers = [client.infer("model", [sent]) for _ in range(30)]
    assert {answer.get_response().model_version for answer in answers} == {STABLE, CANDIDATE}
    for answer in answers:
        assert answer.as_numpy("predict").tolist() == cancer.estimator.predict(cancer.rows[:4]).tolist()
    seen = server.counted()
    assert (seen.stable.requests + seen.candidate.requests, seen.stable.failures) == (30, 0)


def test_a_slow_model_splits_and_falls_back_too(boosted: Made, tmp_path: Path) -> None:
    document = {"inputs": [matrix(boosted.rows[:1])]}
    with candidate(boosted) as other, stable(boosted, tmp_path / "routes") as server, between(other.port) as proxy:
        before = json.loads(server.ask("POST", INFER, document).body)["outputs"]
        server.follow(to(proxy.port, 50))
        answers = [server.ask("POST", INFER, document) for _ in range(30)]
        assert {answer.headers[VERSION] for answer in answers} == {STABLE, CANDIDATE}
        proxy.answering = lambda connection, _: connection.close()
        answers += [server.ask("POST", INFER, document) for _ in range(30)]
        assert [answer.json["outputs"] for answer in answers] == [before] * 60
        seen = server.counted()
        assert seen.stable.requests + seen.candidate.requests == 60
        assert seen.candidate.failures > 5


def test_a_front_splits_too(tmp_path: Path) -> None:
    from fronting import fronting  # the server with a model is somebody else's
    from splitting import Mounted, until

    document = {"instances": [[1, 2], [3, 4]]}
    mounted = Mounted(tmp_path / "routes")
    with (
        v1_server() as upstream,
        fronting(upstream.port, "--version", CANDIDATE, protocol="V1") as other,
        fronting(upstream.port, "--routes", str(mounted.folder), protocol="V1") as front,
        between(other.port) as proxy,
    ):
        snapshot = lambda: ask(front.metrics_port, "GET", "/snapshot").json.get("rollout")  # noqa: E731
        mounted.write(to(proxy.port, 100))
        until(snapshot, "the routes are followed")
        headers = {"x-of-the-caller": "1"}
        found = answered_by_candidate(
            lambda: front.ask("POST", V1, document, headers), lambda answer: answer.headers[VERSION]
        )
        assert (found.status, found.json) == (200, {"predictions": [3, 7]})
        assert b"x-of-the-caller: 1\r\n" in proxy.requests[-1]
        proxy.answering = lambda connection, _: connection.close()
        answers = [front.ask("POST", V1, document) for _ in range(10)]
        assert {(a.status, a.headers[VERSION]) for a in answers} == {(200, STABLE)}
        assert snapshot()["fallbacks"]["Lost"] >= 8
