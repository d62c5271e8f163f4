"""The OpenAPI document and the repository's index say what is true."""

import signal
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from artifacts import Made
from openapi_spec_validator import validate
from serving import Server, matrix, serving

MODEL = "/v2/models/model"


def document(server: Server) -> dict[str, Any]:
    answer = server.ask("GET", "/v2/docs/openapi.json")
    assert answer.status == 200
    return dict(answer.json)


def fits(server: Server, name: str, value: Any) -> bool:
    """Whether `value` is what the document's schema `name` describes."""
    schema = {**document(server), "$ref": f"#/components/schemas/{name}"}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@pytest.fixture
def servers(cancer_server: Server, mixed_server: Server, every_datatype_server: Server) -> list[Server]:
    return [cancer_server, mixed_server, every_datatype_server]


def test_it_is_an_openapi_document_of_this_model(servers: list[Server]) -> None:
    for server in servers:
        found = document(server)
        validate(found)
        assert found["openapi"].startswith("3.1.")
        assert found == document(server)
        assert f"{MODEL}/versions/7/infer" in found["paths"]


def test_every_path_in_it_is_there(cancer_server: Server, cancer: Made) -> None:
    bodies = {
        "infer": {"inputs": [matrix(cancer.rows[:1])]},
        "model:predict": {"instances": cancer.rows[:1].tolist()},
        "index": {},
    }
    for path, operations in document(cancer_server)["paths"].items():
        for method, operation in operations.items():
            answer = cancer_server.ask(method.upper(), path, bodies.get(path.rpartition("/")[2]))
            assert answer.status == 200, (path, answer.body)
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            validator = jsonschema.Draft202012Validator({**document(cancer_server), **schema})
            validator.validate(answer.json)


def test_what_it_allows_is_answered_and_what_it_forbids_is_refused(
    cancer_server: Server, mixed_server: Server, cancer: Made
) -> None:
    row, person = matrix(cancer.rows[:1]), {"age": 30, "income": None, "city": "Bern"}
    names = cancer_server.ask("GET", MODEL).json["parameters"]["features"]
    columns = [{"name": name, "shape": [1], "datatype": "FP64", "data": [1.5]} for name in names]
    city = {"name": "city", "shape": [1, 1], "datatype": "BYTES", "data": ["Bern"]}
    ages = [{"name": name, "shape": [1], "datatype": "FP32", "data": [1]} for name in ("age", "income")]
    infer, predict = f"{MODEL}/infer", "/v1/models/model:predict"
    cases: list[tuple[Server, str, str, Any, bool]] = [
        (cancer_server, infer, "Inference", {"inputs": [row]}, True),
        (cancer_server, infer, "Inference", {"inputs": columns, "id": "x"}, True),
        (cancer_server, infer, "Inference", {"inputs": [row], "outputs": [{"name": "predict"}]}, True),
        (cancer_server, infer, "Inference", {"inputs": [row], "outputs": [{"name": "x"}]}, False),
        (cancer_server, infer, "Inference", {"inputs": [{**row, "name": "x"}]}, False),
        (cancer_server, infer, "Inference", {"inputs": [{**row, "datatype": "BYTES"}]}, False),
        (cancer_server, infer, "Inference", {"inputs": [{**row, "shape": [1, 29]}]}, False),
        (cancer_server, infer, "Inference", {"inputs": columns[1:]}, False),
        (cancer_server, infer, "Inference", {}, False),
        (mixed_server, infer, "Inference", {"inputs": [*ages, city]}, True),
        (mixed_server, infer, "Inference", {"inputs": [*ages, {**city, "datatype": "FP32", "data": [1]}]}, False),
        (cancer_server, predict, "Predict", {"instances": cancer.rows[:2].tolist()}, True),
        (cancer_server, predict, "Predict", {"instances": [dict.fromkeys(names, 1.5)]}, True),
        (cancer_server, predict, "Predict", {"instances": [dict.fromkeys(names[1:], 1.5)]}, False),
        (cancer_server, predict, "Predict", {"instances": [[1.5] * 31]}, False),
        (cancer_server, predict, "Predict", {"instances": [[None] * 30]}, False),
        (mixed_server, predict, "Predict", {"instances": [person, list(person.values())]}, True),
        (mixed_server, predict, "Predict", {"instances": [{**person, "age": None}]}, False),
        (mixed_server, predict, "Predict", {"instances": [{**person, "city": 7}]}, False),
    ]
    for server, path, schema, body, good in cases:
        assert fits(server, f"{schema}Request", body) is good, body
        answer = server.ask("POST", path, body)
        assert (answer.status == 200) is good, (body, answer.json)
        assert fits(server, f"{schema}Answer" if good else "Error", answer.json)


def test_it_does_not_say_that_a_model_is_there_before_it_is(cancer: Made) -> None:
    server = Server(cancer.folder, "--digest", cancer.digest)
    try:
        server.wait_for("listening")
        first = server.ask("GET", "/v2/docs/openapi.json").status
        index = server.ask("POST", "/v2/repository/index").json
        server.wait_for("ready")
        # The model may have been there already: then the answers are those of a ready server.
        assert (first, index[0]["state"], index[0]["reason"]) in (
            (503, "LOADING", "loading"),
            (503, "READY", ""),
            (200, "READY", ""),
        )
        assert server.ask("GET", "/v2/docs/openapi.json").status == 200
    finally:
        server.end()


def test_the_repositorys_index(cancer_server: Server) -> None:
    entry = {"name": "model", "version": "7", "state": "READY", "reason": ""}
    for body in (None, b"", {}, {"ready": True}, {"ready": False}):
        answer = cancer_server.ask("POST", "/v2/repository/index", body)
        assert (answer.status, answer.json) == (200, [entry])
    for bad in (b"[]", b"nonsense", b'{"ready":1}', b"[" * 100_000, b'{"x":' * 100_000):
        answer = cancer_server.ask("POST", "/v2/repository/index", bad)
        assert answer.status == 400
        assert "must be empty" in answer.json["error"]
    assert cancer_server.ask("GET", "/v2/repository/index").headers["allow"] == "POST"
    assert cancer_server.ask("POST", "/v2/repository/models/model/load", {}).status == 404


def test_a_server_that_is_about_to_stop_is_not_in_the_index_of_ready_models(cancer: Made) -> None:
    with serving(cancer, "--drain-seconds", "2") as server:
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        (entry,) = server.ask("POST", "/v2/repository/index").json
        assert (entry["state"], entry["reason"]) == ("UNLOADING", "draining")
        assert server.ask("POST", "/v2/repository/index", {"ready": True}).json == []
        assert server.ask("GET", "/v1/models/model").status == 503
        assert server.wait() == 0


def test_a_body_over_the_limit_is_refused_everywhere(cancer: Made) -> None:
    with serving(cancer, "--max-body", "1000") as server:
        for path in (f"{MODEL}/infer", "/v1/models/model:predict", "/v2/repository/index"):
            assert server.ask("POST", path, msgspec.json.encode(np.zeros(1000).tolist())).status == 413


def test_a_slash_at_the_end_of_a_question_is_no_matter(cancer_server: Server) -> None:
    assert cancer_server.ask("GET", "/v2/").json["name"] == "modelmill"
    assert cancer_server.ask("GET", f"{MODEL}/").json["name"] == "model"
    assert "openapi.json lists" in cancer_server.ask("GET", "/").json["error"]
