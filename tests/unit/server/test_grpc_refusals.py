"""Bad calls: each has the code and the message that REST's status has, is counted, and repeats nothing of the input."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, Self

import grpc
import numpy as np
import pytest
from artifacts import Made
from calls import INFER, SERVICE, call, channel, infer, raw, request, tensor
from serving import Server, matrix, serving
from tritonclient.grpc import service_pb2 as pb

SECRET = "Zq7secret"
ROW = [1.5] * 30
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def refusal(server: Server, message: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        infer(server, message)
    return raised.value


def row(datatype: str = "FP32", shape: Any = (1, 30), data: Any = ROW, name: str = "input") -> Any:
    return tensor(name, datatype, list(shape), data)


def both() -> Any:
    return request(row(), raw_input_contents=[raw("FP32", ROW)])


def mistyped() -> Any:
    made = row(data=())
    made.contents.int_contents.extend([1] * 30)
    return request(made)


def parameter(key: str, value: Any, *, of: str = "input") -> Any:
    """A call with a parameter of its input, its output or itself."""
    made = request(row(), outputs=[{"name": "predict"}])
    holder = {"input": made.inputs[0], "output": made.outputs[0], "request": made}[of]
    setattr(holder.parameters[key], "string_param" if isinstance(value, str) else "int64_param", value)
    return made


# The JSON with the same mistake, where there is one, gets the same message.
CASES: list[tuple[str, Any, str, str, Any]] = [
    ("nothing", b"", "ModelUnknown", "model", None),
    ("no message", SECRET.encode(), "ProtobufInvalid", "ModelInferRequest", None),
    ("a string that is not text", b"\x1a\x01\xff", "ProtobufInvalid", "UTF-8", None),
    ("another model", pb.ModelInferRequest(model_name=SECRET), "ModelUnknown", "'model'", None),
    ("another version", request(row(), model_version="8"), "VersionUnknown", "'7'", None),
    ("no inputs", request(), "TensorMissing", "inputs", []),
    ("no data", request(row(data=())), "DataMissing", "data", None),
    ("typed and raw", both(), "DataInvalid", "inputs[0].contents", None),
    ("fewer raw than inputs", request(row(data=()), row(data=()), raw_input_contents=[b""]), "DataInvalid", "2", None),
    ("in another field", mistyped(), "DataInvalid", "contents.fp32_contents", None),
    ("too few values", request(row(data=ROW[1:])), "ShapeMismatch", "has 29 values", {"data": ROW[1:]}),
    ("too few bytes", request(row(data=()), raw_input_contents=[b"1234"]), "BinarySizeMismatch", "120", None),
    ("features", request(row(shape=(1, 29), data=ROW[1:])), "ShapeMismatch", "[rows, 30]", {"shape": [1, 29]}),
    ("no rows", request(row(shape=(0, 30), data=())), "ShapeMismatch", "at least one", {"shape": [0, 30], "data": []}),
    ("negative", request(row(shape=(-1, 30))), "ShapeMismatch", "[rows, 30]", {"shape": [-1, 30]}),
    ("no shape", request(row(shape=())), "ShapeMismatch", "[rows, 30]", {"shape": []}),
    ("huge", request(row(shape=(2**62, 30))), "ShapeMismatch", "inputs[0].data", {"shape": [2**62, 30]}),
    ("NaN", request(row(data=[*ROW[1:], np.nan])), "MissingValue", "value 29 is NaN", None),
    ("infinite", request(row(data=[np.inf, *ROW[1:]])), "ValueOutOfRange", "FP32", None),
    ("infinite, raw", request(row(data=()), raw_input_contents=[raw("FP32", [np.inf] * 30)]), "ValueOutOfRange",
     "FP32", None),
    ("too large", request(row("FP64", data=[1e39, *ROW[1:]])), "ValueOutOfRange", "FP32",
     {"datatype": "FP64", "data": [1e39, *ROW[1:]]}),
    ("300 as INT8", request(row("INT8", data=[300] * 30)), "ValueOutOfRange", "-128 to 127",
     {"datatype": "INT8", "data": [300] * 30}),
    ("300 as UINT8", request(row("UINT8", data=[300] * 30)), "ValueOutOfRange", "0 to 255",
     {"datatype": "UINT8", "data": [300] * 30}),
    ("2 as BOOL, raw", request(row("BOOL", data=()), raw_input_contents=[b"\2" * 30]), "ValueOutOfRange", "BOOL", None),
    ("an unknown datatype", request(tensor("input", SECRET, [1, 30])), "DatatypeUnknown", "inputs[0].datatype",
     {"datatype": SECRET}),
    ("BYTES", request(row("BYTES", data=[SECRET] * 30)), "DatatypeMismatch", "FP32",
     {"datatype": "BYTES", "data": [SECRET] * 30}),
    ("FP16, typed", request(tensor("input", "FP16", [1, 30])), "DatatypeMismatch", "FP16", None),
    ("an unknown tensor", request(row(name=SECRET)), "TensorUnknown", "inputs[0].name", {"name": SECRET}),
    ("an unknown output", request(row(), outputs=[{"name": SECRET}]), "OutputUnknown", "outputs[0].name", None),
    ("a content type of text", parameter("content_type", "str"), "ContentTypeMismatch",
     "inputs[0].parameters.content_type: str needs", {"parameters": {"content_type": "str"}}),
    ("an unknown content type", parameter("content_type", SECRET, of="request"), "ContentTypeUnknown",
     "inputs[0].parameters.content_type", {"parameters": {"content_type": SECRET}}),
    ("a number as content type", parameter("content_type", 1), "RequestInvalid",
     "inputs[0].parameters.content_type: must be a string_param", None),
    ("shared memory", parameter("shared_memory_region", SECRET), "ExtensionUnknown",
     "inputs[0].parameters: shared memory", {"parameters": {"shared_memory_region": SECRET}}),
    ("shared memory for an output", parameter("shared_memory_region", SECRET, of="output"), "ExtensionUnknown",
     "outputs[0].parameters: shared memory", None),
    ("classification", parameter("classification", 2, of="output"), "ExtensionUnknown",
     "outputs[0].parameters: classification", None),
    ("an output twice", request(row(), outputs=[{"name": "predict"}] * 2), "OutputUnknown", "outputs[1].name", None),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason", "text", "json"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_a_bad_call(cancer_server: Server, message: Any, reason: str, text: str, json: Any) -> None:
    before = cancer_server.refusals().get(reason, 0)
    error = refusal(cancer_server, message)
    expected = NOT_FOUND if reason in ("ModelUnknown", "VersionUnknown") else INVALID
    assert (error.code(), cancer_server.refusals().get(reason, 0)) == (expected, before + 1), error.details()
    assert text in error.details()
    assert SECRET not in error.details()
    if json is not None:
        inputs = json if json == [] else [{"name": "input", "datatype": "FP32", "shape": [1, 30], "data": ROW, **json}]
        assert cancer_server.infer(*inputs).json["error"] == error.details()


NO_MESSAGE = b"\x0f"  # of a wire type that there is none of
EMPTY = request().SerializeToString()


@pytest.mark.parametrize(
    ("message", "reason", "text"),
    [
        (EMPTY + b"\x2a\0" * 9 + NO_MESSAGE, "ProtobufInvalid", "group"),
        (EMPTY + b"\x2a\0" * 500 + NO_MESSAGE, "TensorUnknown", "more than the model takes; it takes one tensor"),
        (EMPTY + b"\x3a\0" * 500 + NO_MESSAGE, "DataInvalid", "more tensors than the model takes"),
        (EMPTY + b"\x32\0" * 500 + NO_MESSAGE, "OutputUnknown", "more than the model gives"),
        (request(row(shape=[1] * 200)), "ShapeMismatch", "inputs[0].shape: must be at most 8 sizes"),
        (EMPTY + b"\x2a\xd0\x0f" + b"\x18\1" * 1000, "ShapeMismatch", "inputs[0].shape: must be at most 8 sizes"),
        (request(row("BYTES", data=[b""] * 500)), "ShapeMismatch", "more values than its shape means, 30"),
    ],
    ids=["a few too many", "inputs", "raw inputs", "outputs", "shape", "a shape in parts", "texts"],
)
def test_a_message_is_read_no_further_than_a_right_one_could_go(
    cancer_server: Server, message: Any, reason: str, text: str
) -> None:
    before = cancer_server.refusals().get(reason, 0)
    error = refusal(cancer_server, message)
    assert (error.code(), cancer_server.refusals().get(reason, 0)) == (INVALID, before + 1), error.details()
    assert text in error.details()


def test_a_message_in_parts_is_put_together_once(cancer: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelmill_server import grpc_codec, model

    codec = model.load(cancer.folder, cancer.digest, "model", "7").grpc_codec
    part = bytearray(tensor("input", "FP32", [300, 30]).SerializeToString())
    for value in cancer.rows[:300].astype("<f4").ravel():
        part += b"\x2a\x06\x32\x04" + value.tobytes()  # `contents` with one value each
    message = request(pb.ModelInferRequest.InferInputTensor.FromString(bytes(part)))
    copies: list[int] = []

    class Copy(bytes):
        def __new__(cls, *parts: Any) -> Self:
            copies.append(1)
            return super().__new__(cls, *parts)

    monkeypatch.setattr(grpc_codec, "bytes", Copy, raising=False)
    size = len(part)
    sizes = bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14))
    asked = codec.decode(EMPTY + b"\x2a" + sizes + part)
    whole = codec.decode(message.SerializeToString())
    assert asked.rows == whole.rows == 300
    np.testing.assert_array_equal(asked.feeds["input"], whole.feeds["input"])
    assert not copies


def test_text_that_is_not_utf_8(mixed_server: Server) -> None:
    columns = [
        tensor("age", "FP32", [1], [1]),
        tensor("income", "FP32", [1], [1]),
        tensor("city", "BYTES", [1], [b"\xff"]),
    ]
    assert "value 0 is not text" in refusal(mixed_server, request(*columns)).details()
    bare = [tensor(column.name, column.datatype, [1]) for column in columns]
    for data in (b"\1\0\0\0\xff", b"\2\0\0\0x", b"\1\0", b"\1\0\0\0xy"):
        contents = [raw("FP32", [1]), raw("FP32", [1]), data]
        error = refusal(mixed_server, request(*bare, raw_input_contents=contents))
        assert error.code() == INVALID
        assert error.details().startswith("inputs[2].data: ")


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata"])
def test_another_model_in_other_methods(cancer_server: Server, method: str) -> None:
    for message in (b"", b"\n\x05other", b"\n\x05model\x12\x018"):
        with channel(cancer_server) as on, pytest.raises(grpc.RpcError) as raised:
            call(on, SERVICE + method, message)
        assert raised.value.code() == NOT_FOUND


def test_what_is_not_there(cancer_server: Server) -> None:
    for method in (f"{SERVICE}ModelStreamInfer", "/other.Service/Infer"):
        with channel(cancer_server) as on, pytest.raises(grpc.RpcError) as raised:
            call(on, method, b"")
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "ModelInfer" in raised.value.details()


def test_what_is_not_there_is_refused_before_anything_is_sent(cancer_server: Server) -> None:
    done = threading.Event()

    def messages() -> Iterator[bytes]:
        assert done.wait(60)
        yield b""

    with channel(cancer_server) as on:
        answers = on.stream_stream(f"{SERVICE}ModelStreamInfer")(messages(), timeout=60)
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
        done.set()
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
        call(on, f"{SERVICE}ServerLive", b"")  # the connection goes on


def test_a_refusal_disturbs_nobody_else(cancer_server: Server) -> None:
    good, bad = request(row()).SerializeToString(), request(row(name=SECRET)).SerializeToString()
    with channel(cancer_server) as on:
        ask = on.unary_unary(INFER)
        futures = [ask.future(bad if index % 3 else good) for index in range(300)]
        codes = [future.code() for future in futures]
    assert codes == [INVALID if index % 3 else grpc.StatusCode.OK for index in range(300)]


def test_a_message_over_the_limit(cancer: Made) -> None:
    with serving(cancer, "--max-body", "1000") as server, channel(server) as on:
        for size in (1001, 200_000):
            with pytest.raises(grpc.RpcError) as raised:
                call(on, INFER, bytes(size))
            assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "1000 bytes" in raised.value.details()
        call(on, INFER, request(row()).SerializeToString())  # the connection goes on
        assert server.refusals() == {"BodyTooLarge": 2}


def test_more_calls_than_the_queue_holds(boosted: Made) -> None:
    message = request(row(shape=boosted.rows.shape, data=()), raw_input_contents=[raw("FP32", boosted.rows)])
    data = message.SerializeToString()
    with serving(boosted, "--max-in-flight", "2") as server, channel(server) as on:
        ask = on.unary_unary(INFER)
        codes = [future.code() for future in [ask.future(data) for _ in range(64)]]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert server.refusals() == {"QueueFull": codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED)}
        assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0
        # REST and gRPC are in one queue, and both are free again.
        assert server.infer(matrix(boosted.rows[:1])).status == 200
        call(on, INFER, data)


def test_a_deadline_that_passes_while_the_model_is_busy(boosted: Made) -> None:
    rows = np.tile(boosted.rows, (12, 1))[:8000].astype(np.float32)
    data = request(row(shape=rows.shape, data=()), raw_input_contents=[rows.tobytes()]).SerializeToString()
    with serving(boosted) as server, channel(server) as on:
        ask = on.unary_unary(INFER)
        codes = [future.code() for future in [ask.future(data, timeout=0.1) for _ in range(60)]]
        assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
        assert call(on, INFER, data)[0]
        # They were dropped before the model saw them.
        assert {"Disconnected", "DeadlinePassed"} & set(server.refusals())
        assert server.metrics()['modelmill_predictions_total{model="model",version="7"}'] < 61 * len(rows) / 2
        assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_before_the_model_is_there(boosted: Made) -> None:
    server = Server(boosted.folder, "--digest", boosted.digest)
    try:
        with channel(server) as on:
            codes: dict[str, Any] = {}
            for name, method in (("health", "/grpc.health.v1.Health/Check"), ("ready", f"{SERVICE}ServerReady")):
                codes[name] = call(on, method, b"")[0]
            try:
                call(on, INFER, request(row()).SerializeToString())
                early = None
            except grpc.RpcError as error:
                early = error
            live = call(on, f"{SERVICE}ServerLive", b"")[0]
        server.wait_for("ready")
    finally:
        server.end()
    assert live == b"\x08\x01"
    if early is not None:  # skops takes seconds to load, and the first call milliseconds
        assert codes == {"health": b"\x08\x02", "ready": b""}
        assert early.code() == grpc.StatusCode.UNAVAILABLE
        assert "not loaded yet" in early.details()
    assert early is not None


async def test_a_body_that_does_not_come(regression: Made) -> None:
    from modelmill_server import http2, model
    from modelmill_server.app import App
    from modelmill_server.counters import Counters
    from modelmill_server.grpc import Service
    from modelmill_server.limits import Limits
    from modelmill_server.outbox import Outbox

    app = App("model", "1", Limits(body_seconds=0.2), Counters())
    app.serve(model.load(regression.folder, regression.digest, "model", "1"))
    loop = asyncio.get_running_loop()
    calls, outbox = http2.Server(Service(app), 0.2), Outbox(loop)
    server = await loop.create_server(lambda: http2.Connection(calls, outbox, loop), "127.0.0.1", 0)

    async def silent() -> Any:
        await asyncio.sleep(30)
        yield b""

    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as on:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await on.stream_unary(INFER)(silent(), timeout=20)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "0.2 s" in (raised.value.details() or "")
    assert app.counters.refusals == {"BodyTimeout": 1}
    assert app.counters.in_flight == 0
    server.close()
