"""Whether two answers say the same, in each protocol."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from calls import FIELDS
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from modelmill_server import answers, comparing
from modelmill_server.comparing import compare


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ([1, 0], [1, 0], True),
        ([1, 0], [1, 1], False),
        (["yes"], ["yes"], True),
        (["yes"], ["no"], False),
        ([1000.0], [1000.9], True),
        ([1000.0], [1001.1], False),
        ([1000], [1001], False),  # a label
        ([0.0], [1e-7], True),
        ([0.0], [1e-3], False),
        ([math.nan], [math.nan], True),
        ([math.nan], [1.0], False),
        ([None], [1.0], False),
        (["1"], [1.0], False),
        ([1.0], [1.0, 1.0], False),
        ([], [], True),
    ],
)
def test_predictions_agree_if_labels_are_equal_and_numbers_within_a_thousandth(
    one: list[Any], other: list[Any], agree: bool
) -> None:
    assert compare({"predict": one}, {"predict": other}) == (agree, None)


def test_the_output_predict_is_compared_or_else_the_first_one() -> None:
    assert compare({"a": [1], "predict": [1]}, {"a": [2], "predict": [1]})[0]
    assert compare({"a": [1], "b": [1]}, {"b": [2], "a": [1]})[0]
    assert not compare({"a": [1]}, {"b": [1]})[0]
    assert not compare({}, {})[0]


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [([0.1, 0.9], [0.3, 0.7], 0.2), ([0.5], [0.5], 0.0), ([0.5], [0.5, 0.5], None), ([0.5], [None], None)],
)
def test_the_largest_difference_of_scores(one: list[Any], other: list[Any], difference: float | None) -> None:
    found = compare({"predict": [1], "predict_proba": one}, {"predict": [1], "predict_proba": other})[1]
    assert found == (None if difference is None else pytest.approx(difference))


VALUES = {"BOOL": [True, False], "FP32": [0.5, -1.5], "FP64": [1 / 3, 2.0], "BYTES": ["a", "bc"]}
NUMBERS = {name: [1, 2] for name in FIELDS if name not in VALUES}
SIGNED = {name: [-1, 100] for name in ("INT8", "INT16", "INT32", "INT64")}
KNOWN = {**VALUES, **NUMBERS, **SIGNED}


def raw(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value.encode() for value in values)
    return np.array(values, FIELDS[datatype][1]).tobytes()


def plain(values: Any) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


@pytest.mark.parametrize("datatype", KNOWN)
def test_v2_in_json_and_raw(datatype: str) -> None:
    values = KNOWN[datatype]
    if datatype != "FP16":
        body = msgspec.json.encode({"outputs": [{"name": "x", "shape": [2], "datatype": datatype, "data": values}]})
        assert comparing.read_v2(body, None) == {"x": values}
    data = raw(datatype, values)
    outputs = [
        {"name": name, "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
        for name in ("x", "y")
    ]
    head = msgspec.json.encode({"outputs": outputs})
    found = comparing.read_v2(head + data + data, len(head))
    assert {name: plain(part) for name, part in found.items()} == {"x": values, "y": values}
    assert answers.rows_of_v2(head + data + data, len(head)) == 2


@pytest.mark.parametrize("datatype", KNOWN)
def test_grpc_typed_and_raw(datatype: str) -> None:
    values = KNOWN[datatype]
    output = pb.ModelInferResponse.InferOutputTensor(name="x", datatype=datatype, shape=[2])
    data = pb.ModelInferResponse(outputs=[output], raw_output_contents=[raw(datatype, values)]).SerializeToString()
    assert plain(comparing.read_grpc(data, None)["x"]) == values
    assert answers.outputs_of_grpc(data) == 1
    if datatype != "FP16":
        sent = [value.encode() if isinstance(value, str) else value for value in values]
        getattr(output.contents, FIELDS[datatype][0]).extend(sent)
        data = pb.ModelInferResponse(outputs=[output]).SerializeToString()
        assert plain(comparing.read_grpc(data, None)["x"]) == values


def test_v1_in_rows_and_columns() -> None:
    assert comparing.read_v1(b'{"predictions": [1, 2]}', None) == {"predict": [1, 2]}
    assert comparing.read_v1(b'{"predictions": [[1, 2], [3, 4]]}', None) == {"predict": [1, 2, 3, 4]}
    found = comparing.read_v1(b'{"predictions": [{"a": 1, "b": [2]}, {"a": 3, "b": [4]}]}', None)
    assert found == {"a": [1, 3], "b": [2, 4]}


@given(st.binary(max_size=60), st.none() | st.integers(0, 60))
def test_whatever_comes_is_read_or_found_unreadable(body: bytes, size: int | None) -> None:
    import struct

    readers = (comparing.read_v2, comparing.read_v1, comparing.read_grpc)
    checks = (answers.rows_of_v2, answers.rows_of_v1, answers.outputs_of_grpc)
    for work in (*readers, *checks):
        try:
            work(body, size)
        except (*answers.UNREADABLE, struct.error):
            pass


@pytest.mark.parametrize("body", [b"", b"\x08\x01", b"\x2a\x00\x32\x00\x32\x00", b"\xff"])
def test_what_is_no_answer_of_grpc(body: bytes) -> None:
    with pytest.raises(answers.UNREADABLE):
        answers.outputs_of_grpc(body)
