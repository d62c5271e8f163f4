"""Front mode: the same answers as from the server behind it, with what every server of ours has around them."""

import concurrent.futures
import http.client
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from artifacts import Made
from fronting import Foreign, Front, answer, fronting, scripted, until, v1_server
from serving import Server, ask, binary, matrix, serving
from tritonclient.utils import np_to_triton_dtype

LABELS = '{model="model",version="7"}'


@pytest.fixture(scope="module")
def front(cancer_server: Server) -> Iterator[Front]:
    with fronting(cancer_server.port) as front:
        yield front


@pytest.fixture(scope="module")
def foreign() -> Iterator[Foreign]:
    with v1_server() as server:
        yield server


@pytest.fixture(scope="module")
def v1_front(foreign: Foreign) -> Iterator[Front]:
    with fronting(foreign.port, protocol="V1") as front:
        yield front


def tensor(rows: Any, *, raw: bool) -> triton.InferInput:
    made = triton.InferInput("input", list(rows.shape), np_to_triton_dtype(rows.dtype))
    made.set_data_from_numpy(rows, binary_data=raw)
    return made


@pytest.mark.parametrize("count", [1, 3, 5000])
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("asked", [True, False, None])
def test_tritonclient_gets_what_it_gets_without_a_front(
    cancer_server: Server, front: Front, cancer: Made, count: int, raw: bool, asked: bool | None
) -> None:
    if count == 5000 and not raw:
        count = 1000  # JSON takes more of the limit
    rows = np.resize(cancer.rows, (count, 30)).astype(np.float32)
    outputs = None if asked is None else [triton.InferRequestedOutput("predict_proba", binary_data=asked)]
    found = []
    for server in (cancer_server, front):
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            found.append(client.infer("model", [tensor(rows, raw=raw)], "7", outputs, request_id="n1"))
    direct, through = found
    assert through.get_response() == direct.get_response()
    np.testing.assert_array_equal(through.as_numpy("predict_proba"), direct.as_numpy("predict_proba"))


def test_tritonclient_asks_what_is_there(cancer_server: Server, front: Front) -> None:
    def asked(server: Server) -> list[Any]:
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            return [
                *(client.is_server_live(), client.is_server_ready()),
                *(client.is_model_ready("model"), client.is_model_ready("model", "7"), client.is_model_ready("other")),
                *(client.get_server_metadata(), client.get_model_metadata("model", "7")),
                client.get_model_repository_index(),
            ]

    assert asked(front) == asked(cancer_server)


def test_the_bytes_of_a_prediction_are_not_touched(cancer_server: Server, front: Front, cancer: Made) -> None:
    tensor, raw = binary(cancer.rows[:3].astype(np.float32))
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    direct, through = (server.infer_binary(document, raw) for server in (cancer_server, front))
    assert through.body == direct.body
    for header in ("content-type", "inference-header-content-length", "modelmill-model-version"):
        assert through.headers[header] == direct.headers[header]
    assert float(through.headers["modelmill-compute-us"]) > float(direct.headers["modelmill-compute-us"])


def test_a_refusal_of_the_model_is_handed_on_and_counted(cancer_server: Server, front: Front) -> None:
    before = front.refusals().get("UpstreamRefused", 0)
    direct, through = (server.infer({"name": "x"}) for server in (cancer_server, front))
    assert (through.status, through.json) == (direct.status, direct.json)
    assert front.refusals()["UpstreamRefused"] == before + 1


def test_predictions_are_counted_by_the_same_names(cancer_server: Server, cancer: Made) -> None:
    with fronting(cancer_server.port, "--digest", cancer.digest, "--arm", "stable") as front:
        for raw in (False, True):
            tensor, data = binary(cancer.rows[:5].astype(np.float32))
            document = {"inputs": [tensor], "parameters": {"binary_data_output": raw}}
            assert front.infer_binary(document, data).status == 200
        assert front.ask("POST", "/v2/models/model/infer", b"nonsense").status == 400
        names, ours = front.metrics(), cancer_server.metrics()
        labels = '{model="model",version="7",arm="stable"}'
        assert names[f"modelmill_predictions_total{labels}"] == 10
        assert names[f'modelmill_requests_total{labels[:-1]},code="200"}}'] == 2
        assert names[f'modelmill_requests_total{labels[:-1]},code="400"}}'] == 1
        assert names[f"modelmill_request_duration_seconds_count{labels}"] == 3
        assert names[f"modelmill_compute_duration_seconds_count{labels}"] == 2
        assert names[f"modelmill_ready{labels}"] == 1
        snapshot = ask(front.metrics_port, "GET", "/snapshot").json
        assert (snapshot["rows"], snapshot["requests"], snapshot["arm"]) == (10, {"200": 2, "400": 1}, "stable")
        assert (snapshot["digest"], snapshot["edges"], snapshot["ready"]) == (cancer.digest, "", True)

        def families(metrics: dict[str, float]) -> set[str]:
            return {name.partition("{")[0] for name in metrics}

        of_a_model = {"modelmill_feature_rows_total", "modelmill_prediction_rows_total", "modelmill_score_rows_total"}
        assert families(names) == families(ours) - of_a_model


def test_another_path_model_or_version_is_refused_here(front: Front, v1_front: Front) -> None:
    cases = [
        (front, "POST", "/v2/models/other/infer", 404, "one model"),
        (front, "POST", "/v2/models/model/versions/6/infer", 404, "version '7'"),
        (front, "GET", "/v2/models/model/infer", 405, "only POST"),
        (front, "POST", "/v1/models/model:predict", 404, "speaks V2, and predictions are at /v2/models/model/infer"),
        (front, "GET", "/v2/docs/openapi.json", 404, "/v2/models/model/infer"),
        (v1_front, "POST", "/v2/models/model/infer", 404, "speaks V1, and predictions are at /v1/models/model:predict"),
        (v1_front, "GET", "/v2", 404, "speaks V1"),
        (v1_front, "GET", "/v1/models/model:predict", 405, "only POST"),
    ]
    for server, method, path, status, text in cases:
        found = server.ask(method, path, b"{}" if method == "POST" else None)
        assert found.status == status, path
        assert text in found.json["error"]


def test_labels_are_not_taken_here(front: Front) -> None:
    found = front.ask("POST", "/v2/models/model/labels", {"labels": [{"id": "a", "label": 1}]})
    assert found.status == 404
    assert "spec.capture" in found.json["error"]


def test_v1_through_a_front(foreign: Foreign, v1_front: Front) -> None:
    body = {"instances": [[1, 2], [3, 4], [5, 6]]}
    direct = ask(foreign.port, "POST", "/v1/models/model:predict", body)
    through = v1_front.ask("POST", "/v1/models/model:predict", body)
    assert through.body == direct.body
    assert through.json == {"predictions": [3, 7, 11]}
    assert through.headers["modelmill-model-version"] == "7"
    assert v1_front.metrics()[f"modelmill_predictions_total{LABELS}"] == 3
    assert v1_front.ask("GET", "/v1/models").json == {"models": ["model"]}
    for path in ("/v1/models/model", "/v2/health/ready", "/v2/models/model/ready"):
        assert v1_front.ask("GET", path).json == {"name": "model", "ready": True}
    refused = v1_front.ask("POST", "/v1/models/model:predict", {"rows": []})
    assert (refused.status, refused.json) == (400, {"error": "instances are missing"})


def test_limits_are_kept_before_the_model_is_asked(cancer: Made) -> None:
    with scripted() as upstream, fronting(upstream.port, "--max-body", "1000", "--max-in-flight", "2") as front:
        assert front.ask("POST", "/v2/models/model/infer", b" " * 2000).status == 413
        compressed = front.ask("POST", "/v2/models/model/infer", b"{}", {"content-encoding": "gzip"})
        assert compressed.status == 415
        wrong = front.ask("POST", "/v2/models/model/infer", b"{}", {"Inference-Header-Content-Length": "3"})
        assert (wrong.status, "body's 2 bytes" in wrong.json["error"]) == (400, True)
        assert front.raw(b"GET /v2 HTTP/1.1\r\n" + b"x: y\r\n" * 40_000, 2).startswith(b"HTTP/1.1 431 ")
        assert upstream.requests == []
        free = threading.Event()
        upstream.answering = lambda connection, _: (free.wait(30), connection.sendall(answer(b'{"outputs": []}')))[1]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(front.infer, matrix(cancer.rows[:1])) for _ in range(2)]
            until(lambda: len(upstream.requests) == 2, "two requests are on their way")
            busy = front.infer(matrix(cancer.rows[:1]))
            assert (busy.status, busy.headers["retry-after"]) == (429, "1")
            assert front.ask("GET", "/v2/health/live").status == 200
            free.set()
            assert [one.result().status for one in waiting] == [200, 200]
        assert front.refusals()["QueueFull"] == 1


def test_only_what_is_about_a_request_is_handed_on() -> None:
    with scripted() as upstream, fronting(upstream.port) as front:
        upstream.answering = lambda connection, _: connection.sendall(answer(b'{"outputs": []}'))
        handed_on = {"X-Request-Id": "n1", "Content-Type": "application/json"}
        about_the_connection = {"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Expect": "100-continue"}
        headers = {**handed_on, **about_the_connection, "Accept-Encoding": "gzip", "X-Request-Timeout": "7"}
        assert front.ask("POST", "/v2/models/model/versions/7/infer?a=b", b"{}", headers).status == 200
        (request,) = upstream.requests
        line, *rest = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        sent = dict(header.split(": ") for header in rest)
        assert line == "POST /v2/models/model/infer HTTP/1.1"
        seconds = float(sent.pop("x-request-timeout"))
        assert 0 < seconds <= 7
        assert sent == {
            "host": f"127.0.0.1:{upstream.port}",
            "content-length": "2",
            "x-request-id": "n1",
            "content-type": "application/json",
        }


def test_connections_are_used_again_the_last_one_first() -> None:
    with scripted() as upstream, fronting(upstream.port) as front:
        upstream.answering = lambda connection, _: connection.sendall(answer(b'{"outputs": []}'))
        caller = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
        for _ in range(50):
            caller.request("POST", "/v2/models/model/infer", b"{}")
            assert caller.getresponse().read() == b'{"outputs": []}'
        caller.close()
        assert len(upstream.requests) == 50
        # One, or another one where readiness was just asked for on the first.
        assert upstream.connections <= 2


def test_it_is_ready_when_the_model_is(cancer: Made) -> None:
    with serving(cancer) as upstream, fronting(upstream.port) as front:
        port = upstream.port
        upstream.signal(signal.SIGSTOP)
        until(lambda: front.ask("GET", "/v2/health/ready").status == 503, "a stopped server is not ready")
        said = front.ask("GET", "/v2/models/model/ready")
        assert (said.status, "did not answer" in said.json["error"]) == (503, True)
        assert front.ask("GET", "/v2/health/live").status == 200
        assert front.metrics()[f"modelmill_ready{LABELS}"] == 0
        upstream.signal(signal.SIGCONT)
        until(lambda: front.ask("GET", "/v2/health/ready").status == 200, "it goes on")
        upstream.signal(signal.SIGKILL)
        until(lambda: front.ask("GET", "/v2/health/ready").status == 503, "a dead server is not ready")
        (index,) = front.ask("POST", "/v2/repository/index").json
        assert (index["state"], index["reason"]) == ("UNAVAILABLE", "it takes no connections")
        assert front.ask("POST", "/v2/repository/index", {"ready": True}).json == []
        front.wait_for("the upstream is not ready any more")
        with serving(cancer, "--port", str(port)):
            until(lambda: front.ask("GET", "/v2/health/ready").status == 200, "it was started again")
            assert front.infer(matrix(cancer.rows[:1])).status == 200


def test_before_the_model_was_ever_ready_nothing_is_sent_to_it(cancer: Made) -> None:
    with scripted() as closed:
        port = closed.port
    with fronting(port, ready=False) as front:
        front.wait_for("waiting for the upstream")
        refused = front.infer(matrix(cancer.rows[:1]))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "not ready: it takes no connections" in refused.json["error"]
        assert front.refusals() == {"NotReady": 1}
        assert front.ask("GET", "/v2/health/live").status == 200
        with serving(cancer, "--port", str(port)):
            front.wait_for("ready")
            assert front.infer(matrix(cancer.rows[:1])).status == 200
        front.signal(signal.SIGTERM)


@pytest.mark.parametrize("moment", ["before it is ready", "while it serves"])
def test_sigterm(cancer: Made, moment: str) -> None:
    with scripted() as upstream:
        if moment == "before it is ready":
            upstream.close()
        with fronting(upstream.port, "--drain-seconds", "600", ready=moment == "while it serves") as front:
            if moment == "while it serves":
                upstream.answering = lambda connection, _: connection.sendall(answer(b'{"outputs": []}'))
                front.signal(signal.SIGTERM)
                front.wait_for("draining")
                ready = front.ask("GET", "/v2/health/ready")
                assert (ready.status, "about to stop" in ready.json["error"]) == (503, True)
                answered = front.infer(matrix(cancer.rows[:1]))
                assert (answered.status, answered.headers["connection"]) == (200, "close")
                assert front.metrics()[f"modelmill_ready{LABELS}"] == 0
            front.signal(signal.SIGINT)
            assert front.wait(20) == 0


def test_what_is_with_the_model_when_the_drain_ends_is_finished(cancer: Made) -> None:
    with scripted() as upstream, fronting(upstream.port, "--drain-seconds", "0") as front:
        free = threading.Event()
        upstream.answering = lambda connection, _: (free.wait(30), connection.sendall(answer(b'{"outputs": []}')))[1]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(front.infer, matrix(cancer.rows[:1]))
            until(lambda: len(upstream.requests) == 1, "the request is on its way")
            front.signal(signal.SIGTERM)
            front.wait_for("draining")
            free.set()
            assert waiting.result().status == 200
        assert front.wait() == 0


@pytest.mark.parametrize("parameters", ["null", "{}", '{"binary_data_size": null}', '{"content_type": "np"}'])
def test_answers_of_other_servers(parameters: str) -> None:
    body = (
        b'{"model_version": null, "outputs": [{"shape": [2], "data": [1, 2], "parameters": %b}]}' % parameters.encode()
    )
    with scripted() as upstream, fronting(upstream.port) as front:
        upstream.answering = lambda connection, _: connection.sendall(answer(body))
        found = front.infer()
        assert (found.status, found.body) == (200, body)
        assert front.metrics()[f"modelmill_predictions_total{LABELS}"] == 2


def test_extensions_that_a_front_does_not_speak_are_not_named() -> None:
    told = {"name": "triton", "version": "2", "extensions": ["binary_tensor_data", "cuda_shared_memory"], "x": [[1]]}
    document = {"name": "theirs", "versions": ["1"], "platform": "p", "inputs": [], "outputs": []}

    def get(connection: Any, request: bytes) -> None:
        paths = {b"/v2": told, b"/v2/models/model": document, b"/v2/models/model/ready": {}}
        connection.sendall(answer(json.dumps(paths[request.split(b" ")[1]]).encode()))

    with scripted() as upstream:
        upstream.getting = get
        with fronting(upstream.port) as front:
            assert front.ask("GET", "/v2").json == {**told, "extensions": ["binary_tensor_data"]}
            assert front.ask("GET", "/v2/models/model").json == {**document, "name": "model", "versions": ["7"]}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--upstream", "https://a:1", "--name", "m"), "http://HOST:PORT"),
        (("--upstream", "http://a", "--name", "m"), "http://HOST:PORT"),
        (("--upstream", "http://a:1/x", "--name", "m"), "http://HOST:PORT"),
        (("--upstream", "http://a:99999", "--name", "m"), "http://HOST:PORT"),
        (("--upstream", "http://a:1"), "--name"),
        (("--name", "m"), "--upstream"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from modelmill_server.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(["front", *arguments])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_a_port_that_somebody_has() -> None:
    with scripted() as upstream:
        front = Front(upstream.port, "--port", str(upstream.port))
        try:
            assert front.wait() == 1
            assert front.lines[-1]["reason"] == "PortUnavailable"
        finally:
            front.end()


def test_what_a_caller_asked_is_answered_to_nobody_else() -> None:
    def echo(connection: Any, request: bytes) -> None:
        id_ = msgspec.json.decode(request.partition(b"\r\n\r\n")[2])["id"]
        connection.sendall(answer(msgspec.json.encode({"id": id_, "outputs": []})))

    with scripted() as upstream, fronting(upstream.port) as front:
        upstream.answering = echo
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda number: front.infer(id=str(number)).json["id"], range(300)))
        assert found == [str(number) for number in range(300)]
