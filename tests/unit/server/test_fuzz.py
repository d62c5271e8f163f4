"""Whatever is sent: an answer or a 4xx, never a 500, and the server goes on."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import artifacts
import msgspec
import numpy as np
import pytest
from artifacts import Made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Server, matrix, serving

from fuzz import grpc_inputs, hpack_inputs, http1_inputs, http2_inputs
from fuzz.inputs import MODELS, Target, check
from fuzz.wire import Host
from modelmill_server import model
from modelmill_server.errors import RefusedError
from modelmill_server.model import Servable
from modelmill_server.signature import NUMPY_TYPES

BOUNDED = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
names = st.sampled_from(["input", "age", "income", "city", "predict"]) | st.text(max_size=6)
datatypes = st.sampled_from([*NUMPY_TYPES, "FP33", ""])
shapes = st.lists(st.integers(-2, 4) | st.integers(-(2**70), 2**70) | st.just(30), max_size=4)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names | values,
        "shape": shapes | values,
        "datatype": datatypes | values,
        "data": st.lists(scalars, max_size=35) | st.lists(st.lists(scalars, max_size=31), max_size=3) | values,
        "parameters": values,
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=4) | values},
    optional={
        "id": st.text(max_size=10) | values,
        "outputs": st.lists(st.fixed_dictionaries({"name": names}), max_size=3) | values,
        "parameters": values,
    },
)


def almost(width: int) -> st.SearchStrategy[dict[str, Any]]:
    """Right but for the values: these get far into the server."""
    rows = st.integers(1, 3)
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70) | st.none()
    return rows.flatmap(
        lambda count: st.fixed_dictionaries(
            {
                "name": st.just("input"),
                "shape": st.just([count, width]),
                "datatype": datatypes,
                "data": st.lists(numbers, min_size=count * width, max_size=count * width),
            }
        )
    ).map(lambda tensor: {"inputs": [tensor]})


@pytest.fixture(scope="module")
def servables(regression: Made, mixed: Made) -> list[Servable]:
    return [model.load(made.folder, made.digest, "model", "1") for made in (regression, mixed)]


def predict(servable: Servable, body: bytes) -> Any:
    """The answer's document, or the reason why the body was refused."""
    try:
        call = servable.codec.decode(body)
        answer, size = servable.codec.encode(call, servable.runtime.predict(call.feeds))
        return json.loads(answer[:size])
    except RefusedError as refusal:
        error = refusal
    assert 400 <= error.status < 500 or error.reason == "OutputNotFinite"
    assert error.message
    return error.reason


@BOUNDED
@given(requests)
def test_any_document(servables: list[Servable], request_: dict[str, Any]) -> None:
    for servable in servables:
        predict(servable, json.dumps(request_).encode())


@BOUNDED
@given(almost(3))
def test_any_number(servables: list[Servable], request_: dict[str, Any]) -> None:
    answer = predict(servables[0], json.dumps(request_).encode())
    tensor = request_["inputs"][0]
    with np.errstate(over="ignore"):
        good = tensor["datatype"] in ("FP32", "FP64") and all(
            value is not None and np.isfinite(np.float32(float(value))) for value in tensor["data"]
        )
    if good:
        assert answer == "OutputNotFinite" or answer["outputs"][0]["shape"][0] == tensor["shape"][0]
    elif tensor["datatype"] in ("FP32", "FP64"):
        assert isinstance(answer, str)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    made = [getattr(artifacts, name)(tmp_path_factory.mktemp(name) / "model") for name in MODELS]
    return [Target(one.folder, one.digest) for one in made]


@BOUNDED
@given(st.randoms(use_true_random=False), st.integers(0, len(MODELS) - 1))
def test_what_is_made_to_go_wrong(targets: list[Target], random: Random, index: int) -> None:
    check(random, targets[index])


def test_a_part_of_what_make_fuzz_sends(targets: list[Target]) -> None:
    statuses = {check(Random(number), targets[number % len(targets)]) for number in range(5000)}
    assert statuses - {500} == {200, 400, 404, 405, 415}
    over_grpc = {grpc_inputs.check(Random(number), targets[number % len(targets)]) for number in range(2000)}
    assert over_grpc - {500} == {200, 400, 404}


@pytest.fixture(scope="module")
def host(targets: list[Target]) -> Iterator[Host]:
    made = Host(targets[0].servable)
    yield made
    made.close()


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # an answer that is given up as it is begun
def test_a_part_of_the_connections_that_make_fuzz_makes(host: Host) -> None:
    http1, http2 = http1_inputs.Target(host), http2_inputs.Target(host)
    over_http1 = {http1_inputs.check(Random(number), http1) for number in range(1500)}
    assert {"200", "400", "404", "405", "408", "413", "431", "no answer"} <= over_http1
    over_http2 = {http2_inputs.check(Random(number), http2) for number in range(1500)}
    assert {"answered", "no answer", "end 1", "end 3", "end 5", "end 6", "end 9", "end 11"} <= over_http2
    assert {hpack_inputs.check(Random(number)) for number in range(500)} == {"decoded", "refused"}


@BOUNDED
@given(st.binary(max_size=300))
def test_any_bytes(servables: list[Servable], body: bytes) -> None:
    for servable in servables:
        predict(servable, body)


@BOUNDED
@given(st.data())
def test_any_damage_to_a_good_body(servables: list[Servable], data: st.DataObject) -> None:
    good = bytearray(msgspec.json.encode({"inputs": [matrix(np.ones((2, 3)))], "id": "x"}))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(good) - 1))
        good[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not good:
            break
    predict(servables[0], bytes(good))


@pytest.fixture(scope="module")
def regression_server(regression: Made) -> Any:
    with serving(regression) as server:
        yield server


@settings(BOUNDED, max_examples=100)
@given(st.data())
def test_any_damage_to_the_http_around_it(regression_server: Server, data: st.DataObject) -> None:
    body = msgspec.json.encode({"inputs": [matrix(np.ones((1, 3)))]})
    head = f"POST /v2/models/model/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    message = bytearray(head.encode() + b"connection: close\r\n\r\n" + body)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(message) - 1))
        message[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    answer = regression_server.raw(bytes(message), seconds=0.05)
    assert not answer.startswith(b"HTTP/1.1 500 ") or b"is not finite" in answer
    assert "InternalError" not in regression_server.refusals()
