"""The content types of MLServer's clients: what its codecs send is understood, or refused with a reason."""

import base64
from typing import Any

import numpy as np
import pytest
from artifacts import Made
from calls import infer, request, values
from calls import tensor as grpc_tensor
from serving import Answer, Server, matrix

SECRET = "Zq7secret"


def person(**content_types: str) -> list[dict[str, Any]]:
    """One row, as MLServer's PandasCodec writes it: a column is [rows, 1]."""
    values: dict[str, Any] = {"age": 70.0, "income": None, "city": "Bern"}
    tensors = []
    for name, value in values.items():
        kind = content_types.get(name)
        datatype = "BYTES" if name == "city" else "FP64"
        tensor = {"name": name, "shape": [1, 1], "datatype": datatype, "data": [value]}
        tensors.append({**tensor, "parameters": {"content_type": kind}} if kind else tensor)
    return tensors


def label(answer: Answer) -> Any:
    assert answer.status == 200, answer.json
    return answer.json["outputs"][0]["data"]


def test_pandas(mixed_server: Server, mixed: Made) -> None:
    expected = mixed.estimator.predict(mixed.rows.iloc[[5]].assign(income=np.nan)).tolist()
    answer = mixed_server.infer(*person(age="np", city="str"), parameters={"content_type": "pd"})
    assert label(answer) == expected


@pytest.mark.parametrize("kind", ["np", "pd", None])
@pytest.mark.parametrize("count", [1, 3])
def test_a_matrix(cancer_server: Server, cancer: Made, kind: str | None, count: int) -> None:
    tensor = {**matrix(cancer.rows[:count]), "parameters": {"content_type": kind, "headers": {"x": "y"}}}
    answer = cancer_server.infer(tensor, parameters={"content_type": kind})
    assert label(answer) == cancer.estimator.predict(cancer.rows[:count]).tolist()


@pytest.mark.parametrize(
    ("kind", "value"),
    [("base64", base64.b64encode(b"Bern").decode()), ("str", "Bern"), ("datetime", "2026-11-23T22:00:00")],
)
def test_text(mixed_server: Server, mixed: Made, kind: str, value: str) -> None:
    rows = mixed.rows.iloc[[5]].assign(income=np.nan, city="Bern" if kind != "datetime" else value)
    tensors = person(city=kind)
    tensors[2]["data"] = [value]
    answer = mixed_server.infer(*tensors)
    assert label(answer) == mixed.estimator.predict(rows).tolist()
    expected = mixed.estimator.predict_proba(rows).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-5)


@pytest.mark.parametrize("of_the_request", [True, False])
def test_text_over_grpc(mixed_server: Server, mixed: Made, *, of_the_request: bool) -> None:
    encoded = base64.b64encode(b"Bern").decode()
    sent = [grpc_tensor(t["name"], t["datatype"], [1], [encoded if t["name"] == "city" else 70.0]) for t in person()]
    message = request(*sent)
    if of_the_request:
        message.parameters["content_type"].string_param = "base64"
        for holder in message.inputs[:2]:
            holder.parameters["content_type"].string_param = "np"
    else:
        message.inputs[2].parameters["content_type"].string_param = "base64"
    rows = mixed.rows.iloc[[5]].assign(age=70.0, income=70.0, city="Bern")
    assert values(infer(mixed_server, message), 0) == mixed.estimator.predict(rows).tolist()


def city(value: Any, kind: str) -> list[dict[str, Any]]:
    tensors = person(city=kind)
    tensors[2]["data"] = [value]
    return tensors


@pytest.mark.parametrize(
    ("tensors", "request_wide", "reason", "text"),
    [
        (person(city=SECRET), None, "ContentTypeUnknown", "inputs[2].parameters.content_type"),
        (person(), SECRET, "ContentTypeUnknown", "inputs[0].parameters.content_type"),
        (person(age="str"), None, "ContentTypeMismatch", "inputs[0].parameters.content_type: str needs"),
        (person(age="datetime"), None, "ContentTypeMismatch", "datetime needs"),
        (person(), "base64", "ContentTypeMismatch", "inputs[0].parameters.content_type: base64 needs"),
        (city("Zq7secret!", "base64"), None, "DataInvalid", "inputs[2].data: value 0 is not text in UTF-8 in base64"),
        (city("Zür", "base64"), None, "DataInvalid", "base64"),
        (city("/w==", "base64"), None, "DataInvalid", "base64"),
        (city("", "base64"), None, "MissingValue", "inputs[2].data: value 0"),
        (city(SECRET, "datetime"), None, "DataInvalid", "inputs[2].data: value 0 is not a time"),
    ],
)
def test_refusals(
    mixed_server: Server, tensors: list[dict[str, Any]], request_wide: str | None, reason: str, text: str
) -> None:
    before = mixed_server.refusals().get(reason, 0)
    more = {"parameters": {"content_type": request_wide}} if request_wide else {}
    answer = mixed_server.infer(*tensors, **more)
    assert answer.status == 400, answer.json
    assert text in answer.json["error"]
    assert SECRET not in answer.json["error"]
    assert mixed_server.refusals()[reason] == before + 1


def test_a_matrix_with_a_content_type_of_text_is_refused(cancer_server: Server, cancer: Made) -> None:
    for tensor_wide, request_wide in (("str", None), (None, "datetime"), (SECRET, None), (None, SECRET)):
        tensor = {**matrix(cancer.rows[:1]), "parameters": {"content_type": tensor_wide}}
        answer = cancer_server.infer(tensor, parameters={"content_type": request_wide})
        assert answer.status == 400
        assert "inputs[0].parameters.content_type" in answer.json["error"]
        assert SECRET not in answer.json["error"]


@pytest.mark.parametrize(
    ("tensor", "outputs", "text"),
    [
        ({"parameters": {"shared_memory_region": SECRET}}, [], "shared memory"),
        ({}, [{"name": "predict", "parameters": {"shared_memory_region": SECRET}}], "shared memory"),
        ({}, [{"name": "predict", "parameters": {"classification": 2}}], "classification"),
    ],
)
def test_tritons_other_extensions_are_refused(
    cancer_server: Server, cancer: Made, tensor: dict[str, Any], outputs: list[Any], text: str
) -> None:
    answer = cancer_server.infer({**matrix(cancer.rows[:1]), **tensor}, outputs=outputs)
    assert answer.status == 400
    assert text in answer.json["error"]
    assert SECRET not in answer.json["error"]
