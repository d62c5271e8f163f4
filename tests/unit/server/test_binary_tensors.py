"""The binary tensor extension: raw tensors behind the JSON, in requests and in answers."""

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from artifacts import Made
from serving import Answer, Server, ask, binary, matrix, serving

from modelmill_server import model
from modelmill_server.model import Servable
from modelmill_server.v2 import Codec

MODEL = "/v2/models/model/infer"
SECRET = b"Zq7secret"


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def test_the_extension_is_announced(cancer_server: Server) -> None:
    assert cancer_server.ask("GET", "/v2").json["extensions"] == ["binary_tensor_data"]


# On the short cut, on the ordinary way, and a body that comes in pieces.
@pytest.mark.parametrize(("count", "path"), [(1, MODEL), (3, MODEL), (1, f"{MODEL}?x=1"), (8000, MODEL)])
@pytest.mark.parametrize("padding", ["", " ", "  ", "   "])
def test_a_matrix(cancer_server: Server, cancer: Made, count: int, path: str, padding: str) -> None:
    rows = np.resize(cancer.rows, (count, 30)).astype(np.float32)
    tensor, raw = binary(rows)
    # The padding shifts the numbers: wherever they lie in memory, they are read right.
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True, "padding": padding}}

    answer = cancer_server.infer_binary(document, raw, path=path)

    assert answer.status == 200, answer.json
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["modelmill-model-version"] == "7"
    labels, probabilities = answer.json["outputs"]
    assert labels == {
        "name": "predict",
        "datatype": "INT64",
        "shape": [count],
        "parameters": {"binary_data_size": 8 * count},
    }
    assert probabilities["shape"] == [count, 2]
    found = answer.tensors
    expected = cancer.estimator.predict_proba(rows)
    np.testing.assert_allclose(np.frombuffer(found["predict_proba"], "<f4").reshape(-1, 2), expected, atol=1e-5)
    assert np.frombuffer(found["predict"], "<i8").tolist() == cancer.estimator.predict(rows).tolist()


def test_each_output_is_as_it_was_asked_for(cancer_server: Server, cancer: Made) -> None:
    tensor, raw = binary(cancer.rows[:2].astype(np.float32))
    names = ("predict", "predict_proba")

    def answer(default: bool | None, **wanted: bool | None) -> Answer:
        parameters = {} if default is None else {"parameters": {"binary_data_output": default}}
        outputs = [
            {"name": name, **({} if value is None else {"parameters": {"binary_data": value}})}
            for name, value in wanted.items()
        ]
        document = {"inputs": [tensor], **parameters, **({"outputs": outputs} if outputs else {})}
        return cancer_server.infer_binary(document, raw)

    def raw_ones(answer: Answer) -> list[str]:
        return [output["name"] for output in answer.json["outputs"] if "parameters" in output]

    assert answer(None).headers["content-type"] == "application/json"
    assert [output["name"] for output in answer(None).json["outputs"]] == list(names)
    assert raw_ones(answer(True)) == list(names)
    assert raw_ones(answer(True, predict=None)) == ["predict"]
    mixed = answer(True, predict_proba=None, predict=False)
    assert [output["name"] for output in mixed.json["outputs"]] == ["predict_proba", "predict"]
    assert raw_ones(mixed) == ["predict_proba"]
    assert mixed.json["outputs"][1]["data"] == cancer.estimator.predict(cancer.rows[:2]).tolist()
    assert len(mixed.tensors["predict_proba"]) == 16
    assert raw_ones(answer(None, predict=True)) == ["predict"]
    assert answer(True, predict=False).headers["content-type"] == "application/json"


def test_json_in_and_binary_out(cancer_server: Server, cancer: Made) -> None:
    tensor = matrix(cancer.rows[:2])
    answer = cancer_server.infer(tensor, parameters={"binary_data_output": True}, id="x")
    assert answer.json["id"] == "x"
    assert (
        np.frombuffer(answer.tensors["predict"], "<i8").tolist() == cancer.estimator.predict(cancer.rows[:2]).tolist()
    )


def test_json_and_binary_columns_in_one_request(mixed_server: Server, mixed: Made) -> None:
    rows = mixed.rows.iloc[[0, 1, 3]]
    age, raw_age = binary(rows["age"].to_numpy(np.float64), "FP64", "age")
    city = {"name": "city", "shape": [3, 1], "datatype": "BYTES"}
    raw_city = texts(*rows["city"])
    inputs = [
        age,
        {"name": "income", "shape": [3], "datatype": "FP32", "data": rows["income"].tolist()},
        {**city, "parameters": {"binary_data_size": len(raw_city)}},
    ]
    outputs = [{"name": "predict", "parameters": {"binary_data": True}}, {"name": "predict_proba"}]

    answer = mixed_server.infer_binary({"inputs": inputs, "outputs": outputs}, raw_age, raw_city)

    assert answer.status == 200, answer.json
    assert answer.tensors["predict"] == texts(*mixed.estimator.predict(rows))
    expected = mixed.estimator.predict_proba(rows).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-5)


@pytest.mark.parametrize("datatype", ["FP16", "FP64", "INT32", "UINT8", "BOOL"])
def test_other_numbers_are_converted(cancer_server: Server, cancer: Made, datatype: str) -> None:
    from modelmill_server.signature import NUMPY_TYPES

    rows = np.round(cancer.rows[:4] % 2).astype(NUMPY_TYPES[datatype])
    tensor, raw = binary(rows, datatype)
    answer = cancer_server.infer_binary({"inputs": [tensor]}, raw)
    assert answer.status == 200, answer.json
    expected = cancer.estimator.predict_proba(rows.astype(np.float32)).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-5)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_a_missing_value_is_nan_where_the_model_allows_it(cancer_with_gaps: Made, datatype: str) -> None:
    from modelmill_server.signature import NUMPY_TYPES

    rows = (cancer_with_gaps.rows[:2] % 100).astype(NUMPY_TYPES[datatype])
    rows[0, 3] = rows[1, 29] = np.nan
    tensor, raw = binary(rows, datatype)
    with serving(cancer_with_gaps) as server:
        answer = server.infer_binary({"inputs": [tensor]}, raw)
        infinite = server.infer_binary({"inputs": [tensor]}, np.full_like(rows, np.inf).tobytes())
    assert answer.status == 200, answer.json
    expected = cancer_with_gaps.estimator.predict_proba(rows.astype(np.float64)).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-4)
    assert infinite.status == 400
    assert "must be finite" in infinite.json["error"]


ROW = np.full((1, 30), 1.5, np.float32)


def changed(position: int, value: float) -> bytes:
    row = ROW.copy()
    row[0, position] = value
    return row.tobytes()


def tensor(**changes: Any) -> dict[str, Any]:
    good = {"name": "input", "shape": [1, 30], "datatype": "FP32", "parameters": {"binary_data_size": 120}}
    return {**good, **changes}


def sized(size: Any) -> dict[str, Any]:
    return tensor(parameters={"binary_data_size": size})


CASES: list[tuple[str, list[Any], bytes, int | None, str, str]] = [
    ("NaN", [tensor()], changed(7, np.nan), None, "MissingValue", "inputs[0].data: value 7"),
    ("inf", [tensor()], changed(29, np.inf), None, "ValueOutOfRange", "inputs[0].data: value 29"),
    ("-inf", [tensor()], changed(0, -np.inf), None, "ValueOutOfRange", "inputs[0].data: value 0"),
    ("too large for float32", [{**sized(240), "datatype": "FP64"}], np.full(30, 1e39).tobytes(), None,
     "ValueOutOfRange", "FP32"),
    ("BOOL of 2", [{**sized(30), "datatype": "BOOL"}], b"\x01" * 29 + b"\x02", None, "ValueOutOfRange", "value 29"),
    ("too few bytes", [tensor()], ROW.tobytes()[:-1], None, "BinarySizeMismatch", "119 bytes"),
    ("too many bytes", [tensor()], ROW.tobytes() + b"\0", None, "BinarySizeMismatch", "1 bytes"),
    ("size too small", [sized(116)], ROW.tobytes(), None, "BinarySizeMismatch", "4 bytes"),
    ("size and bytes too small", [sized(116)], ROW.tobytes()[4:], None, "BinarySizeMismatch", "120"),
    ("size too large", [sized(121)], ROW.tobytes(), None, "BinarySizeMismatch", "120 bytes"),
    ("size negative", [sized(-120)], ROW.tobytes(), None, "BinarySizeMismatch", "inputs[0].parameters"),
    ("size huge", [sized(2**64)], ROW.tobytes(), None, "BinarySizeMismatch", "inputs[0].parameters"),
    ("size a text", [sized("120")], ROW.tobytes(), None, "RequestInvalid", "binary_data_size"),
    ("size null", [sized(None)], ROW.tobytes(), None, "BinarySizeMismatch", "belong to no tensor"),
    ("no size", [tensor(parameters={})], ROW.tobytes(), None, "BinarySizeMismatch", "belong to no tensor"),
    ("data, too", [tensor(data=[1.5] * 30)], ROW.tobytes(), None, "DataInvalid", "one of them"),
    ("the same bytes twice", [tensor(), tensor()], ROW.tobytes(), None, "BinarySizeMismatch", "inputs[1]"),
    ("rows negative", [tensor(shape=[-1, 30])], ROW.tobytes(), None, "ShapeMismatch", "[rows, 30]"),
    ("rows huge", [tensor(shape=[2**62, 30])], ROW.tobytes(), None, "ShapeMismatch", "inputs[0]"),
    ("other features", [tensor(shape=[2, 15])], ROW.tobytes(), None, "ShapeMismatch", "[rows, 30]"),
    ("other rows", [tensor(shape=[2, 30])], ROW.tobytes(), None, "BinarySizeMismatch", "240"),
    ("BYTES for numbers", [tensor(datatype="BYTES")], texts(*"a" * 24), None, "BinarySizeMismatch", "24"),
    ("numbers as BYTES", [{**sized(150), "datatype": "BYTES"}], texts(*"a" * 30), None, "DatatypeMismatch", "FP32"),
    ("unknown datatype", [tensor(datatype="BF16")], ROW.tobytes(), None, "DatatypeUnknown", "inputs[0].datatype"),
    ("header zero", [tensor()], ROW.tobytes(), 0, "JsonInvalid", "Inference-Header-Content-Length"),
    ("header too small", [tensor()], ROW.tobytes(), 20, "JsonInvalid", "Inference-Header-Content-Length"),
    ("header too large", [tensor()], ROW.tobytes(), 10_000, "BinarySizeMismatch", "Inference-Header-Content-Length"),
    ("header in the numbers", [tensor()], ROW.tobytes(), 130, "JsonInvalid", "Inference-Header-Content-Length"),
]  # fmt: skip


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}?x=1"])
@pytest.mark.parametrize(
    ("inputs", "raw", "size", "reason", "text"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_what_does_not_fit_together_is_refused(
    cancer_server: Server, inputs: list[Any], raw: bytes, size: int | None, reason: str, text: str, path: str
) -> None:
    before = cancer_server.refusals().get(reason, 0)
    answer = cancer_server.infer_binary({"inputs": inputs, "id": SECRET.decode()}, raw, size=size, path=path)
    assert answer.status == 400, answer.json
    assert answer.headers["content-type"] == "application/json"
    assert text in answer.json["error"]
    assert SECRET not in answer.body
    assert cancer_server.refusals().get(reason, 0) == before + 1, (answer.json, cancer_server.refusals())


def test_binary_data_without_the_header_is_refused(cancer_server: Server) -> None:
    for body in (msgspec.json.encode({"inputs": [tensor()]}), msgspec.json.encode({"inputs": [tensor()]}) + b"x" * 120):
        answer = cancer_server.ask("POST", MODEL, body)
        assert answer.status == 400
        assert "Inference-Header-Content-Length" in answer.json["error"]


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "9" * 30, "9" * 5000, "0x10", "1_0", "+5"])
def test_a_header_that_is_no_size(cancer_server: Server, value: str) -> None:
    before = cancer_server.refusals().get("HeaderInvalid", 0)
    headers = {"Inference-Header-Content-Length": value}
    answer = ask(cancer_server.port, "POST", MODEL, {"inputs": [tensor()]}, headers)
    assert answer.status == 400
    assert "must be a number of bytes" in answer.json["error"]
    assert cancer_server.refusals()["HeaderInvalid"] == before + 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", SECRET.decode()])
def test_a_compressed_body_is_refused(cancer_server: Server, encoding: str) -> None:
    answer = ask(cancer_server.port, "POST", MODEL, b"\x1f\x8b", {"Content-Encoding": encoding})
    assert answer.status == 415
    assert SECRET not in answer.body


AGE = {"name": "age", "shape": [1], "datatype": "FP32", "data": [30]}
INCOME = {"name": "income", "shape": [1], "datatype": "FP32", "data": [2.5]}


@pytest.mark.parametrize(
    ("raw", "shape", "reason"),
    [
        (texts("Bern"), [2], "BinarySizeMismatch"),
        (texts("Bern", "Chur"), [1], "BinarySizeMismatch"),
        (texts("Bern")[:-1], [1], "BinarySizeMismatch"),
        (texts("Bern") + b"\0", [1], "BinarySizeMismatch"),
        (b"\xff\xff\xff\xffBern", [1], "BinarySizeMismatch"),
        (b"\0\0", [1], "BinarySizeMismatch"),
        (texts("Bern")[:-1] + b"\0\0", [2], "BinarySizeMismatch"),
        (b"", [1], "BinarySizeMismatch"),
        (texts("Bern"), [2**62], "ShapeMismatch"),
        (texts(""), [1], "MissingValue"),
        (b"\x02\0\0\0\xff\xfe", [1], "DataInvalid"),
        (b"\x03\0\0\0\xed\xa0\x80", [1], "DataInvalid"),  # a surrogate
    ],
)
def test_texts_that_do_not_fit(mixed_server: Server, raw: bytes, shape: list[int], reason: str) -> None:
    before = mixed_server.refusals().get(reason, 0)
    city = {"name": "city", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    answer = mixed_server.infer_binary({"inputs": [AGE, INCOME, city]}, raw)
    assert answer.status == 400, answer.json
    assert b"Bern" not in answer.body
    assert mixed_server.refusals().get(reason, 0) == before + 1, (answer.json, mixed_server.refusals())


@pytest.fixture(scope="module")
def servable(cancer: Made) -> Servable:
    return model.load(cancer.folder, cancer.digest, "model", "1")


def test_an_aligned_matrix_is_not_copied(servable: Servable, cancer: Made) -> None:
    tensor, raw = binary(cancer.rows[:5].astype(np.float32))
    head = msgspec.json.encode({"inputs": [tensor]})
    # A bytes object's content lies at a multiple of 4; so does what follows a head of such a size.
    head += b" " * (-len(head) % 4)
    body = head + raw
    array = servable.codec.decode(body, len(head)).feeds["input"]
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    shifted = servable.codec.decode(head + b" " + raw, len(head) + 1).feeds["input"]
    assert shifted.flags.aligned
    np.testing.assert_array_equal(array, shifted)


@pytest.mark.parametrize("count", [1, 3])
def test_a_matrix_takes_the_fast_path(servable: Servable, cancer: Made, count: int) -> None:
    tensor, raw = binary(cancer.rows[:count].astype(np.float32))
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    json = {**matrix(cancer.rows[:count]), "parameters": {"content_type": "np"}}
    for body, size in ((head + raw, len(head)), (msgspec.json.encode({"inputs": [json]}), None)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Codec, "_full", None)  # nobody asks for it
            assert servable.codec.decode(body, size).rows == count
