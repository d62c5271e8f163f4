"""Bad requests: each is a 4xx that names the field, is counted by its reason, and repeats nothing of the input."""

import http.client
from typing import Any

import msgspec
import numpy as np
import pytest
from artifacts import Made
from serving import Server, matrix, serving

SECRET = "Zq7secret"
ROW = [1.5] * 30


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "input", "shape": [1, 30], "datatype": "FP32", "data": ROW, **changes}


def column(name: str, **changes: Any) -> dict[str, Any]:
    data = {"age": [30], "income": [2.5], "city": ["Bern"]}[name]
    datatype = "BYTES" if name == "city" else "FP32"
    return {"name": name, "shape": [1], "datatype": datatype, "data": data, **changes}


def body(*inputs: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"inputs": list(inputs), **more})


MATRIX_CASES: list[tuple[str, bytes, str, str]] = [
    ("empty", b"", "JsonInvalid", "JSON"),
    ("not json", SECRET.encode(), "JsonInvalid", "JSON"),
    ("NaN", b'{"inputs":[NaN]}', "JsonInvalid", "NaN"),
    ("two documents", body(tensor()) + b"{}", "JsonInvalid", "JSON"),
    ("not utf-8", b'{"inputs":[],"id":"\xff\xfe"}', "JsonInvalid", "JSON"),
    ("an array", b"[]", "RequestInvalid", "not an inference request"),
    ("no inputs", b"{}", "RequestInvalid", "inputs"),
    ("inputs a string", b'{"inputs":"%b"}' % SECRET.encode(), "RequestInvalid", "inputs"),
    ("inputs empty", body(), "TensorMissing", "inputs"),
    ("id a number", body(tensor(), id=7), "RequestInvalid", "id"),
    ("no shape", body({"name": "input", "datatype": "FP32", "data": ROW}), "RequestInvalid", "shape"),
    ("shape of floats", body(tensor(shape=[1.5, 30])), "RequestInvalid", "shape"),
    ("an unclosed array", b"[" * 100_000, "RequestInvalid", "not an inference request"),
    ("deep in an unknown field", b'{"x":' + b'{"x":' * 100_000, "JsonTooDeep", "deep"),
    ("deep in data", body(tensor()).replace(b"1.5", b"[" * 50_000, 1), "JsonTooDeep", "deep"),
    ("no data", body({"name": "input", "shape": [1, 30], "datatype": "FP32"}), "DataMissing", "data"),
    ("data a string", body(tensor(data=SECRET)), "DataInvalid", "inputs[0].data"),
    ("data null", body(tensor(data=None)), "DataInvalid", "inputs[0].data"),
    ("text in data", body(tensor(data=[SECRET, *ROW[1:]])), "DataInvalid", "inputs[0].data: value 0"),
    ("true in data", body(tensor(data=[True, *ROW[1:]])), "DataInvalid", "inputs[0].data: value 0"),
    ("object in data", body(tensor(data=[{SECRET: 1}, *ROW[1:]])), "DataInvalid", "inputs[0].data: value 0"),
    ("null in data", body(tensor(data=[*ROW[1:], None])), "MissingValue", "inputs[0].data: value 29"),
    ("too few values", body(tensor(data=ROW[1:])), "ShapeMismatch", "inputs[0].data: has 29 values"),
    ("too many values", body(tensor(data=[*ROW, 1.0])), "ShapeMismatch", "inputs[0].data: has 31 values"),
    ("empty data", body(tensor(data=[])), "ShapeMismatch", "inputs[0].data"),
    ("ragged", body(tensor(shape=[2, 30], data=[ROW[1:], [*ROW, 1]])), "ShapeMismatch", "nested"),
    ("too deep a nest", body(tensor(data=[[[1.5] for _ in ROW]])), "ShapeMismatch", "inputs[0].data"),
    ("two nested rows for one", body(tensor(data=[ROW, ROW])), "ShapeMismatch", "inputs[0].data"),
    ("features", body(tensor(shape=[1, 29], data=ROW[1:])), "ShapeMismatch", "[rows, 30]"),
    ("one dimension", body(tensor(shape=[30])), "ShapeMismatch", "[rows, 30]"),
    ("no dimension", body(tensor(shape=[])), "ShapeMismatch", "[rows, 30]"),
    ("no rows", body(tensor(shape=[0, 30], data=[])), "ShapeMismatch", "at least one row"),
    ("negative", body(tensor(shape=[-1, 30])), "ShapeMismatch", "[rows, 30]"),
    ("negative twice", body(tensor(shape=[-1, -30])), "ShapeMismatch", "[rows, 30]"),
    ("overflowing rows", body(tensor(shape=[2**62, 30])), "ShapeMismatch", "inputs[0].data"),
    ("huge rows", b'{"inputs":[%b]}' % body(tensor()).replace(b"[1,30]", b"[1%b,30]" % (b"0" * 400))[11:-2],
     "ShapeMismatch", "inputs[0].data"),
    ("too large for float32", body(tensor(data=[1e39, *ROW[1:]])), "ValueOutOfRange", "FP32"),
    ("too large in many rows", body(tensor(shape=[2, 30], data=[ROW, [1e39, *ROW[1:]]])), "ValueOutOfRange", "FP32"),
    ("too large for a double", body(tensor()).replace(b"1.5", b"1" * 400, 1), "ValueOutOfRange", "FP32"),
    ("unknown datatype", body(tensor(datatype=SECRET)), "DatatypeUnknown", "inputs[0].datatype"),
    ("FP16", body(tensor(datatype="FP16")), "DatatypeMismatch", "FP16"),
    ("BYTES", body(tensor(datatype="BYTES", data=[SECRET] * 30)), "DatatypeMismatch", "FP32"),
    ("fraction as INT32", body(tensor(datatype="INT32")), "ValueOutOfRange", "whole"),
    ("300 as INT8", body(tensor(datatype="INT8", data=[300] * 30)), "ValueOutOfRange", "-128"),
    ("-1 as UINT8", body(tensor(datatype="UINT8", data=[-1] * 30)), "ValueOutOfRange", "0 to 255"),
    ("2 as BOOL", body(tensor(datatype="BOOL", data=[2] * 30)), "ValueOutOfRange", "BOOL"),
    ("unknown tensor", body(tensor(name=SECRET)), "TensorUnknown", "inputs[0].name"),
    ("an additional tensor", body(tensor(), tensor(name=SECRET)), "TensorUnknown", "name"),
    ("a missing column", body(tensor(name="mean radius", shape=[1], data=[1])), "TensorMissing", "mean texture"),
    ("unknown output", body(tensor(), outputs=[{"name": SECRET}]), "OutputUnknown", "outputs[0].name"),
    ("an output twice", body(tensor(), outputs=[{"name": "predict"}] * 2), "OutputUnknown", "outputs[1].name"),
]  # fmt: skip

AGE, INCOME, CITY = column("age"), column("income"), column("city")
COLUMN_CASES: list[tuple[str, bytes, str, str]] = [
    ("a matrix", body(tensor()), "TensorUnknown", "one tensor per feature column"),
    ("missing", body(AGE, CITY), "TensorMissing", "income"),
    ("twice", body(AGE, AGE, INCOME, CITY), "TensorUnknown", "inputs[1].name: sent twice"),
    ("null where not allowed", body(column("age", data=[None]), INCOME, CITY), "MissingValue", "inputs[0].data"),
    ("empty text", body(AGE, INCOME, column("city", data=[""])), "MissingValue", "inputs[2].data"),
    ("null text", body(AGE, INCOME, column("city", data=[None])), "MissingValue", "inputs[2].data"),
    ("number as text", body(AGE, INCOME, column("city", data=[1])), "DataInvalid", "strings"),
    ("numbers for text", body(AGE, INCOME, column("city", datatype="FP32", data=[1])), "DatatypeMismatch", "BYTES"),
    ("text for numbers", body(column("age", datatype="BYTES", data=["1"]), INCOME, CITY), "DatatypeMismatch", "FP32"),
    ("other rows", body(AGE, column("income", shape=[2], data=[1, 2]), CITY), "ShapeMismatch", "same number"),
    ("two wide", body(column("age", shape=[1, 2], data=[1, 2]), INCOME, CITY), "ShapeMismatch", "[rows, 1]"),
    ("null shape", body(column("age", shape=[]), INCOME, CITY), "ShapeMismatch", "[rows]"),
]  # fmt: skip


def refused(server: Server, data: bytes, reason: str, text: str) -> None:
    before = server.refusals().get(reason, 0)
    answer = server.ask("POST", "/v2/models/model/infer", data)
    assert answer.status == 400, answer.json
    assert list(answer.json) == ["error"]
    message = answer.json["error"]
    assert text in message
    assert SECRET not in message
    assert len(message) < 500
    assert server.refusals().get(reason, 0) == before + 1, (reason, message, server.refusals())


@pytest.mark.parametrize(("data", "reason", "text"), [pytest.param(*c[1:], id=c[0]) for c in MATRIX_CASES])
def test_a_matrix_model(cancer_server: Server, data: bytes, reason: str, text: str) -> None:
    refused(cancer_server, data, reason, text)


@pytest.mark.parametrize(("data", "reason", "text"), [pytest.param(*c[1:], id=c[0]) for c in COLUMN_CASES])
def test_a_column_model(mixed_server: Server, data: bytes, reason: str, text: str) -> None:
    refused(mixed_server, data, reason, text)


def test_a_refusal_disturbs_nobody_else(cancer_server: Server, cancer: Made) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", cancer_server.port, timeout=30)
    good = body(matrix(cancer.rows[:1]))
    for data, status in ((good, 200), (b"nonsense", 400), (good, 200), (b"[" * 1000, 400), (good, 200)):
        connection.request("POST", "/v2/models/model/infer", data)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(cancer: Made, chunked: bool) -> None:
    with serving(cancer, "--max-body", "1000") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        large = b" " * 200_000
        data: Any = iter([large[:70_000], large[70_000:]]) if chunked else large
        connection.request("POST", "/v2/models/model/infer", data, encode_chunked=chunked)
        answer = connection.getresponse()
        assert answer.status == 413
        assert b"1000 bytes" in answer.read()
        # The connection goes on.
        connection.request("POST", "/v2/models/model/infer", body(tensor()))
        assert connection.getresponse().status == 200
        connection.close()
        assert server.refusals() == {"BodyTooLarge": 1}


def test_a_body_over_the_limit_is_refused_before_it_is_sent(cancer_server: Server) -> None:
    head = "POST /v2/models/model/infer HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2000000\r\n\r\n"
    assert cancer_server.raw(head.encode(), seconds=1).startswith(b"HTTP/1.1 413 ")


def test_more_requests_than_the_queue_holds(boosted: Made) -> None:
    import concurrent.futures

    rows = boosted.rows
    with serving(boosted, "--max-in-flight", "2") as server:
        data = body(matrix(rows))
        ask = lambda _: server.ask("POST", "/v2/models/model/infer", data)  # noqa: E731
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(64)))
        statuses = {answer.status for answer in answers}
        assert statuses == {200, 429}
        busy = next(answer for answer in answers if answer.status == 429)
        assert busy.headers["retry-after"] == "1"
        assert "in flight" in busy.json["error"]
        assert server.refusals() == {"QueueFull": sum(answer.status == 429 for answer in answers)}
        assert server.metrics()['modelmill_requests_in_flight{model="model",version="7"}'] == 0


def test_an_answer_that_is_not_finite_is_an_error_in_json(cancer_server: Server) -> None:
    row = [3e38, -3e38] * 15
    before = cancer_server.refusals().get("OutputNotFinite", 0)
    answer = cancer_server.infer(tensor(data=row))
    assert answer.status == 500
    assert "'predict_proba' is not finite" in answer.json["error"]
    assert cancer_server.refusals()["OutputNotFinite"] == before + 1
    # What was asked for is finite, or is not JSON.
    assert cancer_server.infer(tensor(data=row), outputs=[{"name": "predict"}]).status == 200
    assert cancer_server.ask("POST", "/v1/models/model:predict", {"instances": [row]}).status == 200
    raw = cancer_server.infer(tensor(data=row), parameters={"binary_data_output": True})
    assert not np.isfinite(np.frombuffer(raw.tensors["predict_proba"], np.float32)).all()


def test_a_number_that_is_not_finite_is_an_error_in_v1(regression: Made) -> None:
    with serving(regression) as server:
        answer = server.ask("POST", "/v1/models/model:predict", {"instances": [[3e38, 3e38, 3e38]]})
        assert (answer.status, "'predict' is not finite" in answer.json["error"]) == (500, True)
        assert server.refusals() == {"OutputNotFinite": 1}
