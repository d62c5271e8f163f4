"""What is captured is what was predicted: of a sample, the chosen columns, whatever protocol it came by."""

import signal
from pathlib import Path

import numpy as np
import pytest
from artifacts import Made
from calls import infer, request, tensor
from captures import Pod, folder_store, header, pod, rows
from serving import binary, matrix, serving
from splitting import until

from modelmill_contracts import captured
from modelmill_contracts.task import StoreLocation


@pytest.fixture
def store(tmp_path: Path) -> StoreLocation:
    return folder_store(tmp_path / "store")


def test_each_protocol_is_captured_under_the_id_that_its_answer_has(cancer: Made, store: StoreLocation) -> None:
    some = cancer.rows[:2].astype(np.float32)
    expected = some.astype(np.float64)
    with pod(cancer, store) as here:
        server, ids = here.server, []
        ids.append(server.infer(matrix(some[:1])).json["id"])
        assert server.infer(matrix(some), id="mine").json["id"] == "mine"
        ids.append("mine")
        named, data = binary(some)
        ids.append(server.infer_binary({"inputs": [named]}, data).json["id"])
        ids.append(infer(server, request(tensor("input", "FP32", [2, 30], some.ravel().tolist()))).id)
        told = server.ask("POST", "/v1/models/model:predict", {"instances": some.tolist()})
        ids.append(told.headers["modelmill-prediction-id"])
        asked = {"modelmill-prediction-id": "named"}
        told = server.ask("POST", "/v1/models/model:predict", {"instances": some.tolist()}, asked)
        assert told.headers["modelmill-prediction-id"] == "named"
        ids.append("named")
        until(lambda: len(rows(store)) == 11, "everything is written")
        assert here.metric("modelmill_capture_rows_total", result="Kept") == 11
    assert len(set(ids)) == 6
    assert {row.id for row in rows(store)} == set(ids)
    answers = cancer.estimator.predict_proba(cancer.rows[:2])
    for row in rows(store):
        assert row.values == tuple(expected[row.row].tolist())
        assert row.prediction == cancer.estimator.predict(cancer.rows[:2])[row.row]
        assert row.scores == pytest.approx(answers[row.row], abs=1e-5)
    found = header(store)
    assert (found.artifact, found.version, found.classes) == (cancer.digest, "7", (0, 1))
    assert len(found.features) == 30


def test_chosen_columns_texts_and_missing_values(mixed: Made, store: StoreLocation) -> None:
    with pod(mixed, store, '--capture-columns=["city", "income", "shoe size"]') as here:
        inputs = [
            {"name": "age", "shape": [2], "datatype": "FP32", "data": [30, 40]},
            {"name": "income", "shape": [2], "datatype": "FP32", "data": [None, 1.5]},
            {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Bern", "Chur"]},
        ]
        here.server.infer(*inputs, id="a")
        until(lambda: len(rows(store)) == 2, "everything is written")
        here.server.wait_for("the model has no such features")
    first, second = rows(store)
    assert header(store).features == ("income", "city")  # in the order of the model's
    assert header(store).classes == ("no", "yes")
    assert (first.values, second.values) == ((None, "Bern"), (1.5, "Chur"))
    assert {first.prediction, second.prediction} <= {"no", "yes"}


def test_a_regression_has_no_scores(regression: Made, store: StoreLocation) -> None:
    with pod(regression, store) as here:
        here.server.infer(matrix(regression.rows[:3].astype(np.float32)))
        until(lambda: len(rows(store)) == 3, "everything is written")
    expected = regression.estimator.predict(regression.rows[:3])
    assert [row.prediction for row in rows(store)] == pytest.approx(expected, rel=1e-5)
    assert {row.scores for row in rows(store)} == {()}
    assert header(store).classes == ()


@pytest.mark.parametrize("name", ["every_datatype", "boosted"])
def test_every_model_can_be_captured(name: str, request: pytest.FixtureRequest, store: StoreLocation) -> None:
    made: Made = request.getfixturevalue(name)
    with pod(made, store) as here:
        if name == "boosted":
            answer = here.server.infer(matrix(made.rows[:1].astype(np.float32)))
        else:
            inputs = here.server.ask("GET", "/v2/models/model").json["inputs"]
            values = {"BYTES": ["a", "b"], "BOOL": [True, False]}
            inputs = [one for one in inputs if one["datatype"] != "FP16"]
            raw = np.array([[1, 2]], np.float16).tobytes()
            half = {"name": "fp16", "shape": [1, 2], "datatype": "FP16", "parameters": {"binary_data_size": 4}}
            tensors = [{**one, "shape": [1, 2], "data": values.get(one["datatype"], [1, 2])} for one in inputs]
            answer = here.server.infer_binary({"inputs": [*tensors, half], "outputs": [{"name": "int64_out"}]}, raw)
        assert answer.status == 200, answer.body
        until(lambda: len(rows(store)) == 1, "it is written")
    (row,) = rows(store)
    assert row.id == answer.json["id"]
    assert len(row.values) == (30 if name == "boosted" else 0)


def test_a_sample_is_chosen_by_id(cancer: Made, store: StoreLocation) -> None:
    ids = [f"caller-{number}" for number in range(400)]
    kept = {id_ for id_ in ids if captured.is_sampled(id_, 0.1)}
    with pod(cancer, store, share="0.1") as here:
        for id_ in ids:
            assert here.server.infer(matrix(cancer.rows[:1]), id=id_).json["id"] == id_
        made = {here.server.infer(matrix(cancer.rows[:1])).json["id"] for _ in range(400)}
        kept |= {id_ for id_ in made if captured.is_sampled(id_, 0.1)}
        until(lambda: len(rows(store)) == len(kept), "everything is written")
    assert len(made) == 400
    assert {row.id for row in rows(store)} == kept


def test_an_id_that_no_label_could_name_is_refused(cancer: Made, store: StoreLocation) -> None:
    with pod(cancer, store) as here:
        for id_, status in (("é" * 128, 200), ("x" * 129, 400)):
            answer = here.server.infer(matrix(cancer.rows[:1]), id=id_)
            assert answer.status == status, answer.body
        body = {"instances": cancer.rows[:1].tolist()}
        for name in ("x" * 129, "\xe9"):
            answer = here.server.ask("POST", "/v1/models/model:predict", body, {"modelmill-prediction-id": name})
            assert answer.status == 400
        assert here.server.refusals() == {"IdInvalid": 3}
        assert here.server.infer(matrix(cancer.rows[:1]), id="").json["id"]


def test_without_capture_answers_are_what_they_were(cancer: Made) -> None:
    with serving(cancer) as server:
        assert "id" not in server.infer(matrix(cancer.rows[:1])).json
        assert server.infer(matrix(cancer.rows[:1]), id="x" * 129).json["id"] == "x" * 129
        answer = server.ask("POST", "/v2/models/model/labels", {"labels": []})
        assert (answer.status, server.refusals()) == (404, {"CaptureOff": 1})
        assert "spec.capture" in answer.json["error"]
        assert not [name for name in server.metrics() if "capture" in name]


def test_a_request_of_many_rows_is_kept_whole(cancer: Made, store: StoreLocation) -> None:
    some = np.tile(cancer.rows, (5, 1))[:2500].astype(np.float32)
    with pod(cancer, store) as here:
        named, data = binary(some)
        assert here.server.infer_binary({"inputs": [named], "id": "many"}, data).status == 200
        until(lambda: len(rows(store)) == 2500, "everything is written")
    found = rows(store)
    assert [row.row for row in found] == list(range(2500))
    assert np.array_equal(np.array([row.values for row in found], np.float32), some)


def test_what_was_handed_over_is_written_when_the_pod_ends(cancer: Made, store: StoreLocation) -> None:
    with pod(cancer, store, "--workers=2", age=600) as here:
        for number in range(20):
            assert here.server.infer(matrix(cancer.rows[:1]), id=f"{number}").status == 200
        here.server.signal(signal.SIGTERM)
        assert here.server.wait() == 0
        assert rows(store) == []  # they are young
        here.writer.signal(signal.SIGTERM)
        assert here.writer.wait() == 0
    assert {row.id for row in rows(store)} == {str(number) for number in range(20)}


def stopped_or_killed(here: Pod, how: signal.Signals) -> None:
    here.writer.signal(how)
    if how == signal.SIGKILL:
        here.writer.wait()
        until(lambda: here.metric("modelmill_capture_connected") == 0, "the server sees it")


@pytest.mark.parametrize(("how", "result"), [(signal.SIGKILL, "Away"), (signal.SIGSTOP, "Full")])
def test_predictions_go_on_when_nothing_writes(
    cancer: Made, store: StoreLocation, how: signal.Signals, result: str
) -> None:
    some = np.tile(cancer.rows, (4, 1))[:2000].astype(np.float32)
    named, data = binary(some)
    with pod(cancer, store) as here:
        stopped_or_killed(here, how)
        for _ in range(40):
            assert here.server.infer_binary({"inputs": [named]}, data).status == 200
        assert here.metric("modelmill_capture_rows_total", result=result) >= 10_000
        answer = here.server.ask(
            "POST", "/v2/models/model/labels", {"labels": [{"id": "a", "label": 1}]}, {"x-request-timeout": "0.5"}
        )
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert here.metric("modelmill_capture_labels_total", result="Failed") == 1
        if how == signal.SIGKILL:
            here.start_writer()
        else:
            here.writer.signal(signal.SIGCONT)
        here.wait_until_connected()
        assert here.server.infer(matrix(cancer.rows[:1]), id="later").status == 200
        until(lambda: "later" in {row.id for row in rows(store)}, "it goes on")
