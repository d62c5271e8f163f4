"""Labels that come back: which are taken, what is said of others, and what counts."""

import json
import signal
import threading
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest
from artifacts import Made
from captures import LABELS_PATH, Pod, folder_store, labels, pod
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from serving import matrix
from splitting import until

from fuzz import label_inputs
from modelmill_contracts import captured
from modelmill_contracts.artifact import Tensor
from modelmill_contracts.task import StoreLocation
from modelmill_server.errors import RefusedError
from modelmill_server.labels import Reader


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreLocation:
    return folder_store(tmp_path_factory.mktemp("labels") / "store")


@pytest.fixture(scope="module")
def here(cancer: Made, store: StoreLocation) -> Any:
    with pod(cancer, store, share="0.5") as found:
        yield found


KEPT = [id_ for id_ in (f"caller-{number}" for number in range(200)) if captured.is_sampled(id_, 0.5)]
OTHERS = [id_ for id_ in (f"caller-{number}" for number in range(200)) if not captured.is_sampled(id_, 0.5)]


def test_labels_of_what_is_kept_are_written_before_they_are_acknowledged(here: Pod, store: StoreLocation) -> None:
    answer = here.label(
        {"id": KEPT[0], "label": 1},
        {"id": KEPT[0], "label": 0, "row": 3},
        {"id": OTHERS[0], "label": 1},
        {"id": KEPT[1], "label": 1.0},
    )
    assert (answer.status, answer.json) == (200, {"written": 3, "not_sampled": 1})
    found = {name: label.label for name, label in labels(store).items()}
    assert found == {(KEPT[0], 0): 1, (KEPT[0], 3): 0, (KEPT[1], 0): 1}
    assert here.metric("modelmill_capture_labels_total", result="Written") >= 3
    assert here.metric("modelmill_capture_labels_total", result="NotSampled") >= 1


def test_the_first_of_several_labels_counts(here: Pod, store: StoreLocation) -> None:
    for label in (1, 0, 1):
        assert here.label({"id": KEPT[2], "label": label}, {"id": KEPT[2], "label": 0}).status == 200
    assert labels(store)[KEPT[2], 0].label == 1


def test_ids_that_nobody_knows_are_taken(here: Pod) -> None:
    # Which predictions there were, no replica knows: they were answered by others, or days ago.
    assert here.label({"id": KEPT[3], "label": 1}).json == {"written": 1, "not_sampled": 0}


def test_the_version_may_be_named_and_another_is_not_here(here: Pod) -> None:
    body = {"labels": [{"id": KEPT[4], "label": 1}]}
    assert here.server.ask("POST", "/v2/models/model/versions/7/labels", body).status == 200
    assert here.server.ask("POST", "/v2/models/model/versions/8/labels", body).status == 404
    assert here.server.ask("POST", "/v2/models/other/labels", body).status == 404
    assert here.server.ask("GET", LABELS_PATH).status == 405


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        (b"{", "JsonInvalid", "not valid JSON"),
        (b"[]", "RequestInvalid", "object"),
        ({"labels": [{"id": "a", "label": 1}, {"label": 1}]}, "RequestInvalid", "$.labels[1]"),
        ({"labels": [{"id": "", "label": 1}]}, "RequestInvalid", "$.labels[0].id"),
        ({"labels": [{"id": "x" * 129, "label": 1}]}, "RequestInvalid", "$.labels[0].id"),
        ({"labels": [{"id": "a", "label": 1, "row": -1}]}, "RequestInvalid", "$.labels[0].row"),
        ({"labels": [{"id": "a", "label": 1, "Zq7": -1}]}, "RequestInvalid", "$.labels[0]"),
        ({"labels": [{"id": "a", "label": None}]}, "RequestInvalid", "$.labels[0].label"),
        ({"labels": [{"id": "a", "label": 1}, {"id": "b", "label": "Zq7"}]}, "LabelInvalid", "labels[1].label"),
        ({"labels": [{"id": "a", "label": 0.5}]}, "LabelInvalid", "whole number"),
        ({"labels": [{"id": "a", "label": True}]}, "LabelInvalid", "labels[0].label"),
        (b'{"labels": [{"id": "a", "label": 1e400}]}', "RequestInvalid", "$.labels[0].label"),
        ({"labels": [{"id": "a", "label": 2**70}]}, "LabelInvalid", "labels[0].label"),
        ({"labels": [{"id": "a", "label": 1}] * 10_001}, "RequestInvalid", "10000"),
        (b'{"x": ' + b"[" * 100_000, "JsonTooDeep", "deep"),
        (b'{"labels": [{"id": "a", "label": 1}]}' + b" " * (1 << 20), "BodyTooLarge", "bytes"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_of_it_is_written(
    here: Pod, store: StoreLocation, body: Any, reason: str, said: str
) -> None:
    before, refused = len(labels(store)), here.server.refusals().get(reason, 0)
    answer = here.server.ask("POST", LABELS_PATH, body)
    assert answer.status == (413 if reason == "BodyTooLarge" else 400), answer.body
    assert said in answer.json["error"]
    assert "Zq7" not in answer.json["error"]
    assert here.server.refusals()[reason] == refused + 1
    assert len(labels(store)) == before


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("mixed", ["yes", "never seen"], [1, True, "x" * 1025]), ("regression", [1, 2.5], ["1", True])],
)
def test_a_label_is_of_the_type_of_the_predictions(
    name: str, good: list[Any], bad: list[Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = folder_store(tmp_path / "store")
    with pod(request.getfixturevalue(name), place) as here:
        for index, label in enumerate(good):
            assert here.label({"id": f"{index}", "label": label}).status == 200
        for label in bad:
            assert here.label({"id": "x", "label": label}).status == 400
    assert [label.label for _, label in sorted(labels(place).items())] == good


def test_the_openapi_document_knows_them(here: Pod, cancer: Made) -> None:
    document = here.server.ask("GET", "/v2/docs/openapi.json").json
    validate(document)
    id_ = here.server.infer(matrix(cancer.rows[:1])).json["id"]
    body = {"labels": [{"id": id_, "row": 0, "label": 1}]}
    for path in (LABELS_PATH, "/v2/models/model/versions/7/labels"):
        operation = document["paths"][path]["post"]
        asked = operation["requestBody"]["content"]["application/json"]["schema"]
        told = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(body, {**document, **asked})
        jsonschema.validate(here.server.ask("POST", path, body).json, {**document, **told})


def test_too_many_at_once_are_told_to_come_again(cancer: Made, tmp_path: Path) -> None:
    with pod(cancer, folder_store(tmp_path / "store"), "--max-in-flight=8") as here:
        here.writer.signal(signal.SIGSTOP)
        answers: list[int] = []

        def ask() -> None:
            body = {"labels": [{"id": "a", "label": 1}]}
            answers.append(here.server.ask("POST", LABELS_PATH, body, {"x-request-timeout": "2"}).status)

        callers = [threading.Thread(target=ask) for _ in range(6)]
        for caller in callers:
            caller.start()
        until(lambda: len(answers) == 4, "a quarter of what may be in flight waits")
        rows = {"instances": cancer.rows[:1].tolist()}
        assert here.server.ask("POST", "/v1/models/model:predict", rows).status == 200
        for caller in callers:
            caller.join()
    assert sorted(answers) == [429] * 4 + [503] * 2


def test_labels_that_wait_take_no_room_of_predictions(cancer: Made, tmp_path: Path) -> None:
    with pod(cancer, folder_store(tmp_path / "store"), "--max-in-flight=1") as here:
        here.writer.signal(signal.SIGSTOP)
        waiting = threading.Thread(target=here.label, args=({"id": "a", "label": 1},))
        waiting.start()
        until(lambda: here.metric("modelmill_requests_in_flight") == 1, "it waits")
        rows = {"instances": cancer.rows[:1].tolist()}
        assert here.server.ask("POST", "/v1/models/model:predict", rows).status == 200
        here.writer.signal(signal.SIGCONT)
        waiting.join()
        assert here.label({"id": "b", "label": 1}).status == 200
        assert here.metric("modelmill_requests_in_flight") == 0


def test_many_labels_are_read_some_at_a_time() -> None:
    body = json.dumps({"labels": [{"id": f"{number}", "label": number} for number in range(10_000)]}).encode()
    reader = Reader(Tensor("predict", "INT64", (-1,)), 0.5)
    parts = list(reader.read(body))
    assert sum(count for count, _ in parts) == 10_000
    assert max(count for count, _ in parts) == 500
    found = [label for _, some in parts for label in some]
    assert [label.id for label in found] == [f"{n}" for n in range(10_000) if captured.is_sampled(f"{n}", 0.5)]
    assert len({label.at for label in found}) == 1
    with pytest.raises(RefusedError, match=r"labels\[9999\]\.label"):
        list(reader.read(body.replace(b"9999}", b"true}")))


@given(st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_read_or_refused_by_name(chance: Random) -> None:
    label_inputs.check(chance)
