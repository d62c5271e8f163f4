"""The V1 protocol: rows in, what scikit-learn's `predict` gives for them out."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from artifacts import Made
from serving import Answer, Server, serving

SECRET = "Zq7secret"


def predict(server: Server, instances: Any) -> Answer:
    return server.ask("POST", "/v1/models/model:predict", {"instances": instances})


def test_what_is_served(cancer_server: Server) -> None:
    assert cancer_server.ask("GET", "/v1/models").json == {"models": ["model"]}
    assert cancer_server.ask("GET", "/v1/models/model").json == {"name": "model", "ready": True}


@pytest.mark.parametrize("count", [1, 5])
def test_rows_of_numbers_to_labels(cancer_server: Server, cancer: Made, count: int) -> None:
    before = cancer_server.metrics()['modelmill_predictions_total{model="model",version="7"}']
    answer = predict(cancer_server, cancer.rows[:count].tolist())
    assert answer.json == {"predictions": cancer.estimator.predict(cancer.rows[:count]).tolist()}
    assert answer.headers["modelmill-model-version"] == "7"
    assert float(answer.headers["modelmill-compute-us"]) > 0
    assert cancer_server.metrics()['modelmill_predictions_total{model="model",version="7"}'] == before + count


def test_rows_by_column_name_in_any_order(cancer_server: Server, cancer: Made) -> None:
    names = cancer_server.ask("GET", "/v2/models/model").json["parameters"]["features"]
    rows = [dict(reversed(list(zip(names, row, strict=True)))) for row in cancer.rows[:4].tolist()]
    assert predict(cancer_server, rows).json == {"predictions": cancer.estimator.predict(cancer.rows[:4]).tolist()}


def test_a_pandas_frame_with_text_and_missing_values(mixed_server: Server, mixed: Made) -> None:
    rows = mixed.rows.iloc[:6]
    expected = {"predictions": mixed.estimator.predict(rows).tolist()}
    assert predict(mixed_server, json.loads(rows.to_json(orient="records"))).json == expected
    assert predict(mixed_server, json.loads(rows.to_json(orient="values"))).json == expected
    without = {"age": 30, "city": "Bern"}  # income may be missing
    assert predict(mixed_server, [without]).json == predict(mixed_server, [{**without, "income": None}]).json


def test_null_where_the_model_allows_it(cancer_with_gaps: Made) -> None:
    rows = cancer_with_gaps.rows[:2].copy()
    rows[0, 3] = np.nan
    with serving(cancer_with_gaps) as server:
        data = [[None if np.isnan(value) else value for value in row] for row in rows.tolist()]
        assert predict(server, data).json == {"predictions": cancer_with_gaps.estimator.predict(rows).tolist()}


def test_a_regressor_gives_one_number_for_each_row(regression: Made) -> None:
    with serving(regression) as server:
        answer = predict(server, regression.rows[:4].tolist())
        one = predict(server, [{"a": 1, "b": True, "c": 2.5}])
    expected = np.ravel(regression.estimator.predict(regression.rows[:4]))
    np.testing.assert_allclose(answer.json["predictions"], expected, rtol=1e-4)
    np.testing.assert_allclose(
        one.json["predictions"], np.ravel(regression.estimator.predict([[1, 1, 2.5]])), rtol=1e-4
    )


def test_a_model_in_a_thread(boosted: Made) -> None:
    with serving(boosted) as server:
        answer = predict(server, boosted.rows[:3].tolist())
    assert answer.json == {"predictions": boosted.estimator.predict(boosted.rows[:3]).tolist()}


def test_a_model_without_predict_gives_all_its_outputs_by_name(every_datatype_server: Server) -> None:
    document = every_datatype_server.ask("GET", "/v2/models/model").json
    row: dict[str, Any] = {entry["name"]: [0, 1] for entry in document["inputs"]}
    row |= {"bool": [True, False], "bytes": ["", "x"]}
    answer = predict(every_datatype_server, [row, row, row])
    assert answer.status == 200, answer.json
    assert answer.json["predictions"] == [{f"{name}_out": values for name, values in row.items()}] * 3


ROW = [1.5] * 30
PERSON = {"age": 30, "income": 2.5, "city": "Bern"}


@pytest.mark.parametrize(
    ("model", "document", "reason", "text"),
    [
        ("cancer", {}, "RequestInvalid", "instances"),
        ("cancer", {"instances": SECRET}, "RequestInvalid", "instances"),
        ("cancer", {"instances": []}, "ShapeMismatch", "at least one row"),
        ("cancer", {"instances": [ROW[1:]]}, "ShapeMismatch", "instances[0]: has 29 values"),
        ("cancer", {"instances": [ROW, [*ROW, 1]]}, "ShapeMismatch", "instances[1]: has 31 values"),
        ("cancer", {"instances": [[*ROW[1:], SECRET]]}, "DataInvalid", "column 'worst fractal dimension': value 0"),
        ("cancer", {"instances": [ROW, [*ROW[1:], None]]}, "MissingValue", "'worst fractal dimension': value 1"),
        ("cancer", {"instances": [[*ROW[1:], 1e39]]}, "ValueOutOfRange", "'worst fractal dimension'"),
        ("cancer", {"instances": [[ROW]]}, "ShapeMismatch", "instances[0]: has 1 values"),
        ("cancer", {"instances": [1.5]}, "DataInvalid", "instances[0]: must be a list of 30 values"),
        ("cancer", {"instances": [{SECRET: 1}]}, "TensorUnknown", "instances[0]: has a column"),
        ("cancer", {"instances": [{}]}, "TensorMissing", "instances[0]: column 'mean radius' is missing"),
        ("mixed", {"instances": [{**PERSON, "age": None}]}, "MissingValue", "column 'age': value 0"),
        ("mixed", {"instances": [{**PERSON, "age": SECRET}]}, "DataInvalid", "column 'age': value 0"),
        ("mixed", {"instances": [{**PERSON, "city": 7}]}, "DataInvalid", "column 'city': value 0"),
        ("mixed", {"instances": [{**PERSON, "city": [SECRET]}]}, "DataInvalid", "column 'city': value 0"),
        ("mixed", {"instances": [{**PERSON, SECRET: 1}]}, "TensorUnknown", "instances[0]"),
        ("every", {"instances": [{}]}, "TensorMissing", "'bool' must be in each of them"),
        ("every", {"instances": [1]}, "TensorMissing", "'bool' must be in each of them"),
        ("every", {"instances": [{"bool": SECRET}]}, "ShapeMismatch", "nested as shape [-1, 2]"),
        ("every", {"instances": [{"bool": [True]}]}, "ShapeMismatch", "nested as shape [-1, 2]"),
        ("every", {"instances": [{"bool": [True, True]}, {"bool": []}]}, "ShapeMismatch", "nested"),
        ("every", {"instances": [{"bool": [SECRET, True]}]}, "DataInvalid", "'bool': value 0"),
    ],
)
def test_refusals(
    cancer_server: Server,
    mixed_server: Server,
    every_datatype_server: Server,
    model: str,
    document: Any,
    reason: str,
    text: str,
) -> None:
    server = {"cancer": cancer_server, "mixed": mixed_server, "every": every_datatype_server}[model]
    before = server.refusals().get(reason, 0)
    answer = server.ask("POST", "/v1/models/model:predict", document)
    assert answer.status == 400, answer.json
    assert text in answer.json["error"]
    assert SECRET not in answer.json["error"]
    assert server.refusals().get(reason, 0) == before + 1, (answer.json, server.refusals())


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not valid JSON"),
        (b'{"instances":[[NaN]]}', "null, not NaN"),
        (b'{"instances":[' + b"[" * 100_000, "too deep"),
        (b'{"instances":[["\xff"]]}', "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json(cancer_server: Server, body: bytes, text: str) -> None:
    answer = cancer_server.ask("POST", "/v1/models/model:predict", body)
    assert answer.status == 400
    assert text in answer.json["error"]


def test_there_is_no_binary_form(cancer_server: Server) -> None:
    answer = cancer_server.infer_binary({"instances": [ROW]}, path="/v1/models/model:predict")
    assert answer.status == 400
    assert "V1 has no binary tensors" in answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/v1/models/other:predict", 404, None),
        ("GET", "/v1/models/other", 404, None),
        ("POST", "/v1/models/model:explain", 404, None),
        ("GET", "/v1/models/model:predict", 405, "POST"),
        ("POST", "/v1/models/model", 405, "GET, HEAD"),
    ],
)
def test_what_is_not_there(cancer_server: Server, method: str, path: str, status: int, allow: str | None) -> None:
    answer = cancer_server.ask(method, path, msgspec.json.encode({"instances": [ROW]}))
    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert "other" not in answer.json["error"]
