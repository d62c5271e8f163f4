"""A prediction through the server equals scikit-learn's own."""

import numpy as np
import pytest
from artifacts import Made
from serving import Server, matrix, serving


@pytest.fixture(scope="module")
def columns() -> list[str]:
    from sklearn.datasets import load_breast_cancer

    return [str(name) for name in load_breast_cancer().feature_names]


@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_a_matrix(cancer_server: Server, cancer: Made, count: int, flat: bool, datatype: str) -> None:
    rows = cancer.rows[:count]
    tensor = matrix(rows, datatype)
    if flat:
        tensor["data"] = rows.ravel().tolist()

    answer = cancer_server.infer(tensor)

    assert answer.status == 200, answer.json
    labels, probabilities = answer.json["outputs"]
    assert labels == {
        "name": "predict",
        "datatype": "INT64",
        "shape": [count],
        "data": cancer.estimator.predict(rows).tolist(),
    }
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP32", [count, 2])
    expected = cancer.estimator.predict_proba(rows).ravel()
    np.testing.assert_allclose(probabilities["data"], expected, atol=1e-5)


def test_integers_are_converted(cancer_server: Server, cancer: Made) -> None:
    rows = np.round(cancer.rows[:3]).astype(np.int64)
    answer = cancer_server.infer(matrix(rows, "INT64"))
    assert answer.json["outputs"][0]["data"] == cancer.estimator.predict(rows).tolist()


@pytest.mark.parametrize("shape", [[4], [4, 1]])
def test_one_tensor_per_column_in_any_order(
    cancer_server: Server, cancer: Made, columns: list[str], shape: list[int]
) -> None:
    rows = cancer.rows[:4]
    tensors = [
        {"name": name, "shape": shape, "datatype": "FP64", "data": rows[:, index].tolist()}
        for index, name in reversed(list(enumerate(columns)))
    ]
    answer = cancer_server.infer(*tensors)
    assert answer.status == 200, answer.json
    expected = cancer.estimator.predict_proba(rows).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_numbers_text_and_missing_values(mixed_server: Server, mixed: Made, count: int) -> None:
    rows = mixed.rows.iloc[[2, 0, 4][:count]]
    income = [None if np.isnan(value) else float(value) for value in rows["income"]]
    answer = mixed_server.infer(
        {"name": "city", "shape": [count], "datatype": "BYTES", "data": rows["city"].tolist()},
        {"name": "income", "shape": [count, 1], "datatype": "FP32", "data": income},
        {"name": "age", "shape": [count], "datatype": "FP32", "data": rows["age"].tolist()},
    )
    assert answer.status == 200, answer.json
    labels, probabilities = answer.json["outputs"]
    assert (labels["datatype"], labels["data"]) == ("BYTES", mixed.estimator.predict(rows).tolist())
    expected = mixed.estimator.predict_proba(rows).ravel()
    np.testing.assert_allclose(probabilities["data"], expected, atol=1e-5)


def test_null_in_a_matrix_where_the_model_allows_it(cancer_with_gaps: Made) -> None:
    rows = cancer_with_gaps.rows[:2].copy()
    rows[0, 3] = rows[1, 29] = np.nan
    data = [[None if np.isnan(value) else value for value in row] for row in rows.tolist()]
    with serving(cancer_with_gaps) as server:
        answer = server.infer({"name": "input", "shape": [2, 30], "datatype": "FP32", "data": data})
    assert answer.status == 200, answer.json
    expected = cancer_with_gaps.estimator.predict_proba(rows).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-5)


def test_a_regression(regression: Made) -> None:
    with serving(regression) as server:
        answer = server.infer(matrix(regression.rows[:4]))
    expected = regression.estimator.predict(regression.rows[:4])
    (output,) = answer.json["outputs"]
    np.testing.assert_allclose(np.ravel(output["data"]), expected, rtol=1e-4)


def test_an_estimator_in_skops(boosted: Made) -> None:
    with serving(boosted) as server:
        answer = server.infer(matrix(boosted.rows[:5]))
        assert server.metrics()['modelmill_predictions_total{model="model",version="7"}'] == 5
    assert answer.status == 200, answer.json
    assert answer.json["outputs"][0]["data"] == boosted.estimator.predict(boosted.rows[:5]).tolist()
    expected = boosted.estimator.predict_proba(boosted.rows[:5]).ravel()
    np.testing.assert_allclose(answer.json["outputs"][1]["data"], expected, atol=1e-6)
