"""The Open Inference Protocol's routes, as curl would see them."""

import pytest
from artifacts import Made
from serving import Server, matrix

MODEL = "/v2/models/model"


def test_server_metadata_names_the_extensions_that_are_there(cancer_server: Server) -> None:
    answer = cancer_server.ask("GET", "/v2")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json["name"], answer.json["extensions"]) == ("modelmill", ["binary_tensor_data"])


def test_model_metadata_is_the_manifests(cancer_server: Server, cancer: Made) -> None:
    for path in (MODEL, f"{MODEL}/versions/7"):
        document = cancer_server.ask("GET", path).json
        assert (document["name"], document["versions"]) == ("model", ["7"])
        assert document["platform"] == "onnxruntime_onnx"
        assert document["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 30]}]
        assert document["outputs"] == [
            {"name": "predict", "datatype": "INT64", "shape": [-1]},
            {"name": "predict_proba", "datatype": "FP32", "shape": [-1, 2]},
        ]
        assert document["parameters"]["digest"] == cancer.digest
        assert document["parameters"]["features"][:2] == ["mean radius", "mean texture"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/7/ready"])
def test_health(cancer_server: Server, path: str) -> None:
    assert cancer_server.ask("GET", path).status == 200
    head = cancer_server.ask("HEAD", path)
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", [f"{MODEL}/infer", f"{MODEL}/versions/7/infer", f"{MODEL}/infer?trace=1"])
def test_an_answer_says_who_computed_it(cancer_server: Server, cancer: Made, path: str) -> None:
    answer = cancer_server.ask("POST", path, {"inputs": [matrix(cancer.rows[:1])], "id": 'a "b" ü'})
    assert answer.status == 200
    assert answer.json["id"] == 'a "b" ü'
    assert (answer.json["model_name"], answer.json["model_version"]) == ("model", "7")
    assert answer.headers["modelmill-model-version"] == "7"
    assert float(answer.headers["modelmill-compute-us"]) > 0
    assert "date" in answer.headers


def test_without_an_id_the_answer_has_none(cancer_server: Server, cancer: Made) -> None:
    assert "id" not in cancer_server.infer(matrix(cancer.rows[:1])).json


def test_outputs_by_name_in_the_order_asked_for(cancer_server: Server, cancer: Made) -> None:
    tensor = matrix(cancer.rows[:2])
    only = cancer_server.infer(tensor, outputs=[{"name": "predict_proba"}])
    assert [output["name"] for output in only.json["outputs"]] == ["predict_proba"]
    both = cancer_server.infer(tensor, outputs=[{"name": "predict_proba"}, {"name": "predict"}])
    assert [output["name"] for output in both.json["outputs"]] == ["predict_proba", "predict"]
    every = cancer_server.infer(tensor, outputs=[])
    assert len(every.json["outputs"]) == 2


def test_parameters_are_ignored_wherever_they_stand(cancer_server: Server, cancer: Made) -> None:
    tensor = {**matrix(cancer.rows[:1]), "parameters": {"content_type": "np", "more": {"deep": [1, {}]}}}
    answer = cancer_server.infer(
        tensor,
        parameters={"binary_data_output": False},
        outputs=[{"name": "predict", "parameters": {"binary_data": False}}],
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v2/models/other", 404, None),
        ("POST", "/v2/models/other/infer", 404, None),
        ("POST", f"{MODEL}/versions/8/infer", 404, None),
        ("POST", f"{MODEL}/versions", 404, None),
        ("GET", f"{MODEL}/infer", 405, "POST"),
        ("PUT", f"{MODEL}/infer", 405, "POST"),
        ("POST", "/v2/health/live", 405, "GET, HEAD"),
        ("DELETE", MODEL, 405, "GET, HEAD"),
    ],
)
def test_what_is_not_there(cancer_server: Server, method: str, path: str, status: int, allow: str | None) -> None:
    answer = cancer_server.ask(method, path, b"{}")
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert answer.headers.get("allow") == allow
    assert "other" not in answer.json["error"]
