"""gRPC answers what REST answers, to tritonclient and to raw calls."""

import gzip
from typing import Any

import grpc
import numpy as np
import pytest
from artifacts import Made
from calls import SERVICE, call, channel, grpc_port, infer, raw, request, tensor, values
from serving import Server, matrix, serving
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.grpc import service_pb2 as pb


def as_in_rest(server: Server, *inputs: dict[str, Any]) -> list[Any]:
    return [(o["name"], o["datatype"], o["shape"], o["data"]) for o in server.infer(*inputs).json["outputs"]]


def outputs(answer: Any) -> list[Any]:
    found = enumerate(answer.outputs)
    return [(o.name, o.datatype, list(o.shape), values(answer, index)) for index, o in found]


def bits(answer: list[Any]) -> list[Any]:
    """Every float of a JSON answer as float32: JSON prints it as a double that means the same float32."""
    return [
        (
            n,
            d,
            s,
            np.array(v, np.float32).tobytes() if d == "FP32" else [x.decode() if type(x) is bytes else x for x in v],
        )
        for n, d, s, v in answer
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_a_matrix_is_answered_as_in_rest_bit_for_bit(
    cancer_server: Server, cancer: Made, count: int, is_raw: bool, datatype: str
) -> None:
    rows = cancer.rows[:count].astype(np.float32)
    if is_raw:
        message = request(tensor("input", datatype, [count, 30]), raw_input_contents=[raw(datatype, rows)])
    else:
        message = request(tensor("input", datatype, [count, 30], rows.ravel()))
    answer = infer(cancer_server, message)
    assert (answer.model_name, answer.model_version, answer.id) == ("model", "7", "")
    assert bool(answer.raw_output_contents) == is_raw
    assert bits(outputs(answer)) == bits(as_in_rest(cancer_server, matrix(rows, datatype)))


@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_columns_of_numbers_and_text_are_answered_as_in_rest(
    mixed_server: Server, mixed: Made, is_raw: bool, count: int
) -> None:
    rows = mixed.rows.iloc[[1, 0, 3][:count]]
    columns = [
        (name, kind, [count, 1] if kind == "BYTES" else [count], rows[name].tolist())
        for name, kind in (("city", "BYTES"), ("income", "FP32"), ("age", "FP64"))
    ]
    if is_raw:
        contents = [raw(kind, data) for _, kind, _, data in columns]
        message = request(*(tensor(n, k, s) for n, k, s, _ in columns), raw_input_contents=contents)
    else:
        message = request(*(tensor(*column) for column in columns))
    rest = [{"name": n, "datatype": k, "shape": s, "data": d} for n, k, s, d in columns]
    answer = outputs(infer(mixed_server, message))
    assert answer[0][:2] == ("predict", "BYTES")
    assert bits(answer) == bits(as_in_rest(mixed_server, *rest))


@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize(
    "datatype",
    ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"],
)
def test_every_numeric_datatype(cancer_server: Server, is_raw: bool, datatype: str) -> None:
    if datatype == "FP16" and not is_raw:
        return  # it has no field: see the refusals
    row = [index % 2 if datatype == "BOOL" else index for index in range(30)]
    if datatype.startswith(("I", "F")):
        row[3] = -100
    if is_raw:
        message = request(tensor("input", datatype, [1, 30]), raw_input_contents=[raw(datatype, row)])
    else:
        message = request(tensor("input", datatype, [1, 30], row))
    expected = as_in_rest(cancer_server, {"name": "input", "datatype": "FP32", "shape": [1, 30], "data": row})
    assert bits(outputs(infer(cancer_server, message))) == bits(expected)


@pytest.mark.parametrize("is_raw", [False, True])
def test_nan_where_the_model_allows_it(cancer_with_gaps: Made, is_raw: bool) -> None:
    rows = cancer_with_gaps.rows[:2].astype(np.float32)
    rows[0, 3] = rows[1, 29] = np.nan
    with serving(cancer_with_gaps) as server:
        if is_raw:
            message = request(tensor("input", "FP32", [2, 30]), raw_input_contents=[rows.tobytes()])
        else:
            message = request(tensor("input", "FP32", [2, 30], rows.ravel()))
        answer = infer(server, message)
    expected = cancer_with_gaps.estimator.predict_proba(rows.astype(np.float64)).ravel()
    np.testing.assert_allclose(values(answer, 1), expected, atol=1e-5)


def test_an_estimator_in_skops_in_threads(boosted: Made) -> None:
    rows = boosted.rows[:5].astype(np.float32)
    with serving(boosted) as server:
        answer = infer(server, request(tensor("input", "FP32", [5, 30], rows.ravel())))
        assert bits(outputs(answer)) == bits(as_in_rest(server, matrix(rows)))
        metrics = server.metrics()
    assert metrics['modelmill_predictions_total{model="model",version="7"}'] == 10
    assert metrics['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_tritonclient(cancer_server: Server, cancer: Made) -> None:
    rows = cancer.rows[:3].astype(np.float32)
    with InferenceServerClient(f"127.0.0.1:{grpc_port(cancer_server)}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("model")
        assert client.is_model_ready("model", "7")
        assert client.get_server_metadata().name == "modelmill"
        metadata = client.get_model_metadata("model")
        assert (metadata.name, metadata.versions, metadata.platform) == ("model", ["7"], "onnxruntime_onnx")
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("input", "FP32", [-1, 30])]
        assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [
            ("predict", "INT64", [-1]),
            ("predict_proba", "FP32", [-1, 2]),
        ]
        (found,) = client.get_model_repository_index().models
        assert (found.name, found.version, found.state) == ("model", "7", "READY")

        given = InferInput("input", [3, 30], "FP32")
        given.set_data_from_numpy(rows)
        wanted = [InferRequestedOutput("predict_proba"), InferRequestedOutput("predict")]
        for compression in (None, "gzip", "deflate"):
            answer = client.infer(
                "model", [given], "7", wanted, request_id="ü 1", client_timeout=30, compression_algorithm=compression
            )
            response = answer.get_response()
            assert response.id == "ü 1"
            assert [output.name for output in response.outputs] == ["predict_proba", "predict"]
            assert answer.as_numpy("predict").tolist() == cancer.estimator.predict(rows).tolist()


def test_tritonclient_with_text(mixed_server: Server, mixed: Made) -> None:
    rows = mixed.rows.iloc[[1, 0]]
    given = []
    for name, kind in (("age", "FP32"), ("income", "FP32"), ("city", "BYTES")):
        data = rows[name].to_numpy().astype(np.object_ if kind == "BYTES" else np.float32).reshape(2, 1)
        given.append(InferInput(name, [2, 1], kind))
        given[-1].set_data_from_numpy(data)
    with InferenceServerClient(f"127.0.0.1:{grpc_port(mixed_server)}") as client:
        answer = client.infer("model", given)
    assert [text.decode() for text in answer.as_numpy("predict")] == mixed.estimator.predict(rows).tolist()


def test_an_answer_says_who_computed_it(cancer_server: Server) -> None:
    message = request(tensor("input", "FP32", [1, 30], [1.0] * 30))
    with channel(cancer_server) as on:
        _, finished = call(on, f"{SERVICE}ModelInfer", message.SerializeToString())
        metadata = dict(finished.initial_metadata())
        assert metadata["modelmill-model-version"] == "7"
        assert float(metadata["modelmill-compute-us"]) > 0
        with pytest.raises(grpc.RpcError) as refused:
            call(on, f"{SERVICE}ModelInfer", b"")
        metadata = {**dict(refused.value.initial_metadata()), **dict(refused.value.trailing_metadata())}
        assert metadata["modelmill-model-version"] == "7"


def test_calls_are_counted_with_rests(cancer: Made) -> None:
    labels = 'model="model",version="7"'
    with serving(cancer) as server:
        infer(server, request(tensor("input", "FP32", [2, 30], [1.0] * 60)))
        server.infer(matrix(cancer.rows[:3]))
        with pytest.raises(grpc.RpcError):
            infer(server, request())
        metrics = server.metrics()
        assert metrics[f"modelmill_predictions_total{{{labels}}}"] == 5
        assert metrics[f'modelmill_requests_total{{{labels},code="200"}}'] == 2
        assert metrics[f'modelmill_requests_total{{{labels},code="400"}}'] == 1
        assert metrics[f"modelmill_compute_duration_seconds_count{{{labels}}}"] == 2
        assert metrics[f"modelmill_request_duration_seconds_count{{{labels}}}"] == 3
        assert metrics[f"modelmill_requests_in_flight{{{labels}}}"] == 0


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "grpc.health.v1.Health"])
def test_health(cancer_server: Server, service: str) -> None:
    asked = b"\n" + bytes((len(service),)) + service.encode() if service else b""
    with channel(cancer_server) as on:
        assert call(on, "/grpc.health.v1.Health/Check", asked)[0] == b"\x08\x01"


def test_the_health_of_an_unknown_service(cancer_server: Server) -> None:
    with channel(cancer_server) as on, pytest.raises(grpc.RpcError) as refused:
        call(on, "/grpc.health.v1.Health/Check", b"\n\x05other")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_parameters_are_ignored_wherever_they_stand(cancer_server: Server) -> None:
    message = request(tensor("input", "FP32", [1, 30], [1.0] * 30))
    for holder in (message, message.inputs[0], message.outputs.add(name="predict")):
        holder.parameters["content_type"].string_param = "np"
        holder.parameters["other"].int64_param = 3
    assert [output.name for output in infer(cancer_server, message).outputs] == ["predict"]


def test_many_calls_at_once_and_large_ones(cancer_server: Server) -> None:
    """Answers that do not fit into HTTP/2's first windows."""
    rows = np.ones((4000, 30), np.float32)
    message = request(tensor("input", "FP32", [4000, 30]), raw_input_contents=[rows.tobytes()]).SerializeToString()
    with channel(cancer_server) as on:
        ask = on.unary_unary(f"{SERVICE}ModelInfer")
        answers = [pb.ModelInferResponse.FromString(f.result(60)) for f in [ask.future(message) for _ in range(40)]]
    assert {len(answer.raw_output_contents[1]) for answer in answers} == {4000 * 2 * 4}
    assert len({answer.SerializeToString() for answer in answers}) == 1


def test_nothing_listens_where_it_is_off(regression: Made) -> None:
    with serving(regression, "--grpc-port", "") as server:
        assert "grpc_port" not in server.wait_for("listening")


def test_the_compressed_size_is_not_what_counts(cancer: Made) -> None:
    bomb = gzip.compress(bytes(1 << 20))
    with serving(cancer, "--max-body", "100000") as server, channel(server) as on:
        # grpc would compress it itself: here are its own bytes on the wire.
        with pytest.raises(grpc.RpcError) as refused:
            call(on, f"{SERVICE}ModelInfer", bytes(1 << 20), compression=grpc.Compression.Gzip)
        assert len(bomb) < 100_000
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.refusals() == {"BodyTooLarge": 1}
