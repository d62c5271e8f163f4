"""Whatever is sent over gRPC: an answer or a refusal, never INTERNAL; and protobuf's own runtime as the oracle."""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from artifacts import Made
from calls import FIELDS, INFER, call, channel, grpc_port, raw, request, tensor
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Server, serving
from tritonclient.grpc import service_pb2 as pb

from modelmill_server import http2, model, protobuf
from modelmill_server.errors import RefusedError
from modelmill_server.grpc_codec import Codec

BOUNDED = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))

floats = st.floats(width=32) | st.sampled_from([0.0, 1.5, float("nan"), float("inf")])
NUMBERS = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1),
    "int64_contents": st.integers(-(2**63), 2**63 - 1),
    "uint_contents": st.integers(0, 2**32 - 1),
    "uint64_contents": st.integers(0, 2**64 - 1),
    "fp32_contents": floats,
    "fp64_contents": st.floats(),
    "bytes_contents": st.binary(max_size=5) | st.sampled_from([b"Bern", b"Chur", b""]),
}
names = st.sampled_from(["input", "age", "income", "city", "predict", "a", "b"]) | st.text(max_size=5)
shapes = st.lists(st.integers(-2, 4) | st.integers(-(2**63), 2**63 - 1) | st.just(3), max_size=4)


@st.composite
def tensors(draw: Any) -> Any:
    made = pb.ModelInferRequest.InferInputTensor(
        name=draw(names), datatype=draw(st.sampled_from([*FIELDS, "FP33", ""])), shape=draw(shapes)
    )
    for field in draw(st.lists(st.sampled_from(list(NUMBERS)), max_size=2)):
        getattr(made.contents, field).extend(draw(st.lists(NUMBERS[field], max_size=12)))
    return made


@st.composite
def requests(draw: Any) -> Any:
    made = request(*draw(st.lists(tensors(), max_size=4)), id=draw(st.text(max_size=6)))
    made.raw_input_contents.extend(draw(st.just([]) | st.lists(st.binary(max_size=40), max_size=4)))
    for name in draw(st.just([]) | st.lists(names, max_size=2)):
        made.outputs.add(name=name)
    if draw(st.booleans()):
        made.parameters[draw(st.text(max_size=5))].int64_param = 7
    return made


@st.composite
def almost(draw: Any) -> Any:
    """Right but for the values: these get far into the server."""
    rows = draw(st.integers(1, 3))
    datatype = draw(st.sampled_from([name for name in FIELDS if name not in ("BYTES", "FP16")]))
    values = draw(st.lists(NUMBERS[FIELDS[datatype][0]], min_size=rows * 3, max_size=rows * 3))
    return request(tensor("input", datatype, [rows, 3], values))


@pytest.fixture(scope="module")
def codecs(regression: Made, mixed: Made) -> list[tuple[Any, Codec]]:
    loaded = [model.load(made.folder, made.digest, "model", "7") for made in (regression, mixed)]
    return [(servable, servable.grpc_codec) for servable in loaded]


def predict(servable: Any, codec: Codec, data: bytes) -> Any:
    """The answer, or None where the request was refused."""
    try:
        asked = codec.decode(data)
        answer = pb.ModelInferResponse.FromString(codec.encode(asked, servable.runtime.predict(asked.feeds))[0])
    except RefusedError as refusal:
        error = refusal
    else:
        return answer
    assert 400 <= error.status < 500
    assert error.message
    return None


@BOUNDED
@given(requests() | almost())
def test_any_request(codecs: Any, message: Any) -> None:
    for servable, codec in codecs:
        answer = predict(servable, codec, message.SerializeToString())
        if answer is not None:
            assert answer.id == message.id
            assert bool(answer.raw_output_contents) == bool(message.raw_input_contents)


@BOUNDED
@given(almost())
def test_typed_and_raw_get_the_same_answer(codecs: Any, message: Any) -> None:
    servable, codec = codecs[0]
    (given_,) = message.inputs
    values = list(getattr(given_.contents, FIELDS[given_.datatype][0]))
    typed = predict(servable, codec, message.SerializeToString())
    if given_.datatype in ("INT8", "INT16", "UINT8", "UINT16"):
        limits = np.iinfo(FIELDS[given_.datatype][1])
        if not all(limits.min <= value <= limits.max for value in values):
            assert typed is None  # nothing raw says this
            return
    bare = request(tensor("input", given_.datatype, list(given_.shape)))
    bare.raw_input_contents.append(raw(given_.datatype, values))
    answer = predict(servable, codec, bare.SerializeToString())
    assert (typed is None) == (answer is None)
    if typed is not None:
        found = np.array(typed.outputs[0].contents.fp32_contents, np.float32)
        assert found.tobytes() == answer.raw_output_contents[0]


@BOUNDED
@given(st.binary(max_size=60) | requests().map(lambda message: message.SerializeToString()), st.data())
def test_any_bytes_mean_what_they_mean_to_protobuf(codecs: Any, good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3)) if good else 0):
        position = data.draw(st.integers(0, len(damaged)))
        damaged[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    body = bytes(damaged)
    for servable, codec in codecs:
        answer = predict(servable, codec, body)
        if answer is not None:
            assert answer.id == pb.ModelInferRequest.FromString(body).id
    try:
        message = pb.ModelInferRequest.FromString(body)
        found = list(protobuf.fields(body))
    except (DecodeError, protobuf.WireError):
        return
    raws = [value for mark, value in found if mark == protobuf.tag(7, protobuf.BYTES)]
    assert raws == list(message.raw_input_contents)
    assert sum(mark == protobuf.tag(5, protobuf.BYTES) for mark, _ in found) == len(message.inputs)


@pytest.fixture(scope="module")
def server(regression: Made) -> Iterator[Server]:
    with serving(regression) as made:
        yield made


@settings(BOUNDED, max_examples=150)
@given(requests().map(lambda message: message.SerializeToString()) | st.binary(max_size=60))
def test_no_call_is_answered_internal(kept: grpc.Channel, message: bytes) -> None:
    code = kept.unary_unary(INFER).future(message, timeout=30).code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


@pytest.fixture(scope="module")
def kept(server: Server) -> Iterator[grpc.Channel]:
    with channel(server) as made:
        yield made


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


kinds = st.integers(0, 10)
frames = st.builds(
    frame,
    kinds,
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 2, 3, 2**31]),
    st.binary(max_size=40) | st.just(b"\0" * 4),
)
HEADERS = b"\x83\x86\x44\x2a/inference.GRPCInferenceService/ModelInfer\x5f\x10application/grpc"


@settings(BOUNDED, max_examples=150)
@given(
    st.lists(frames | st.just(frame(1, 4, 1, HEADERS)) | st.just(frame(1, 4, 3, HEADERS)), max_size=8),
    st.binary(max_size=9),
)
def test_any_frames(server: Server, sent: list[bytes], rest: bytes) -> None:
    """Nothing that a connection sends fails in the server, or leaves something in flight."""
    with socket.create_connection(("127.0.0.1", grpc_port(server)), 10) as connection:
        connection.settimeout(0.02)
        try:
            connection.sendall(http2.PREFACE + frame(4, 0, 0, b"") + b"".join(sent) + rest)
            while connection.recv(65536):
                pass
        except (TimeoutError, ConnectionError):
            pass
    assert "InternalError" not in server.refusals()
    assert not [line for line in server.lines if line.get("level") != "info"]


def test_after_all_that_nothing_is_in_flight(server: Server, kept: grpc.Channel) -> None:
    call(kept, INFER, request(tensor("input", "FP32", [1, 3], [1.0] * 3)).SerializeToString())
    assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_http_1_is_told_where_it_is(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", grpc_port(server)), 10) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert connection.recv(1) == b""
