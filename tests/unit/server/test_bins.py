"""Rows in the profile's bins: exact whatever the traffic, and the same in the text and the snapshot."""

import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import artifacts
import msgspec
import numpy as np
import pytest
from artifacts import Made
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from serving import Server, ask, matrix, serving

from modelmill_contracts import artifact, counters, profile
from modelmill_contracts.counters import Snapshot
from modelmill_contracts.profile import Categorical, Numeric
from modelmill_server import model
from modelmill_server.app import App
from modelmill_server.bins import Bins
from modelmill_server.counters import Board
from modelmill_server.exposition import snapshot, text
from modelmill_server.limits import Limits

EDGES = (-1.5, 0.0, float(np.float32(0.1)), 2.0)


def with_profile(made: Made, known: profile.Profile) -> Made:
    (made.folder / artifact.PROFILE).write_bytes(msgspec.json.encode(known))
    manifest = artifact.decode((made.folder / artifact.MANIFEST).read_bytes())
    return Made(made.folder, artifacts.write(made.folder, manifest), made.estimator, made.rows)


@pytest.fixture(scope="module")
def numeric(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A classifier of 30 features that may be missing, each with edges of its own."""
    made = artifacts.cancer(tmp_path_factory.mktemp("bins") / "model", missing=True)
    names = [feature.name for feature in artifact.decode((made.folder / artifact.MANIFEST).read_bytes()).features]
    features = tuple(Numeric(name, EDGES[: index % 5], (0,) * (index % 5 + 1)) for index, name in enumerate(names))
    scores = Numeric("score", (0.5, 0.75, 0.9, 1.0), (0,) * 5)
    return with_profile(
        made, profile.Profile(1, features[:-1], Categorical("predict", ("0", "1"), (0, 0)), scores=scores)
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = artifacts.mixed(tmp_path_factory.mktemp("bins") / "mixed")
    features = (
        Numeric("income", (2.0, 4.0), (0, 0, 0)),
        Numeric("age", (30.0,), (0, 0)),
        Categorical("city", ("Bern", "Chur"), (0, 0)),
    )
    return with_profile(made, profile.Profile(1, features, Categorical("predict", ("yes", "no"), (0, 0))))


class Loaded:
    """A server's application in this process."""

    def __init__(self, made: Made) -> None:
        self.board = Board()
        self.app = App("model", "7", Limits(), self.board.workers[0], "candidate")
        self.app.set_date("now")
        servable = model.load(made.folder, made.digest, "model", "7")
        assert servable.bins is not None
        self.board.bin_rows(servable.bins)
        self.app.serve(servable)

    def infer(self, *inputs: dict[str, Any]) -> list[Any]:
        response = self.app.short_cut.answer(msgspec.json.encode({"inputs": inputs}), None)
        return list(msgspec.json.decode(response.partition(b"\r\n\r\n")[2])["outputs"])

    def snapshot(self) -> Snapshot:
        return snapshot(self.app, self.board)


def expected(values: Any, edges: tuple[float, ...]) -> list[int]:
    """By numpy's histogram; its bins are closed on the left, ours on the right, so both are mirrored."""
    known = np.asarray(values, np.float32)
    known = known[~np.isnan(known)].astype(np.float64)
    borders = [-math.inf, *(-edge for edge in reversed(edges)), math.inf]
    return list(np.histogram(-known, borders)[0][::-1])


VALUES = st.one_of(
    st.sampled_from([*EDGES, float(np.nextafter(np.float32(0.1), np.float32(1))), -0.0, 1e30, -1e30, None]),
    st.floats(-3, 3, width=32),
)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_traffic_is_in_the_right_bins_and_both_formats_agree(numeric: Made, data: st.DataObject) -> None:
    server = Loaded(numeric)
    seen: list[list[Any]] = []
    labels: list[int] = []
    scores: list[float] = []
    answered = refused = 0
    for rows in data.draw(st.lists(st.sampled_from([1, 1, 1, 2, 7, 255, 1023, 1024, 1025, 2500]), max_size=8)):
        few = data.draw(st.lists(st.lists(VALUES, min_size=30, max_size=30), min_size=1, max_size=3))
        batch = [few[index % len(few)] for index in range(rows)]
        outputs = server.infer({"name": "input", "shape": [rows, 30], "datatype": "FP32", "data": batch})
        answered += 1
        seen += batch
        labels += outputs[0]["data"]
        scores += np.array(outputs[1]["data"], np.float32).reshape(-1, 2).max(axis=1).tolist()
        if data.draw(st.booleans()):
            refused += 1
            server.app.short_cut.answer(b"{}", None)  # refused: in no bin
        if data.draw(st.booleans()):
            server.snapshot()  # reading changes nothing

    found = server.snapshot()
    columns = np.array(seen, np.float64).reshape(len(seen), 30)
    assert len(found.features) == 29
    for index, feature in enumerate(found.features):
        assert list(feature.counts) == expected(columns[:, index], EDGES[: index % 5])
        assert feature.missing == np.isnan(columns[:, index]).sum()
    assert found.predictions is not None
    assert found.scores is not None
    assert list(found.predictions.counts) == [labels.count(0), labels.count(1)]
    assert list(found.scores.counts) == expected(scores, (0.5, 0.75, 0.9, 1.0))
    assert found.reference is not None
    assert found.reference.scores is not None
    assert found.reference.scores.edges == (0.5, 0.75, 0.9, 1.0)
    assert found.reference.predictions is not None
    assert found.reference.predictions.edges == ()
    assert found.rows == len(seen)
    assert found.requests.get("200", 0) == sum(found.compute.counts) == answered
    assert sum(found.request.counts) == answered + refused
    assert 0 <= found.compute.total <= found.request.total
    assert_agree(text(server.app, server.board).decode(), found)


def test_columns_with_many_edges_are_counted_a_few_at_a_time(tmp_path: Path) -> None:
    made = artifacts.cancer(tmp_path / "model", missing=True)
    names = [feature.name for feature in artifact.decode((made.folder / artifact.MANIFEST).read_bytes()).features]
    edges = tuple(np.linspace(-3, 3, 600, dtype=np.float32).tolist())
    features = tuple(Numeric(name, edges[: 20 * index], (0,) * (20 * index + 1)) for index, name in enumerate(names))
    server = Loaded(with_profile(made, profile.Profile(1, features, Categorical("predict", ("0", "1"), (0, 0)))))
    assert server.board.layout is not None
    assert server.board.layout.together < len(names)
    rows = np.random.default_rng(5).normal(size=(1300, len(names))).astype(np.float32)
    rows[::7, 3] = np.nan
    batch = [[None if math.isnan(value) else value for value in row] for row in rows.tolist()]
    server.infer({"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": batch})
    found = server.snapshot()
    for index, feature in enumerate(found.features):
        assert list(feature.counts) == expected(rows[:, index], edges[: 20 * index])
        assert feature.missing == np.isnan(rows[:, index]).sum()


def assert_agree(exposition: str, found: Snapshot) -> None:
    """The Prometheus text says what the snapshot says, and nothing is left out."""
    families = {family.name: family.samples for family in text_string_to_metric_families(exposition)}
    arm = {"arm": found.arm} if found.arm else {}
    model_ = {"model": found.model, "version": found.model_version, **arm}

    def values(name: str, *labels: str) -> dict[Any, float]:
        samples = [sample for sample in families.get(name, []) if not sample.name.endswith("_created")]
        assert all(sample.labels.items() >= model_.items() for sample in samples)
        return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples}

    def bins(*parts: counters.Bins | None) -> dict[Any, float]:
        return {
            (part.name, bin_): count
            for part in parts
            if part is not None
            for bin_, count in [
                *((str(i), n) for i, n in enumerate(part.counts)),
                ("other", part.other),
                ("missing", part.missing),
            ]
        }

    assert values(counters.REQUESTS, "code") == {(code,): count for code, count in found.requests.items()}
    assert values(counters.REFUSALS, "reason") == {(reason,): count for reason, count in found.refusals.items()}
    assert values(counters.FEATURE_ROWS, "feature", "bin") == bins(*found.features)
    for name, part in ((counters.PREDICTION_ROWS, found.predictions), (counters.SCORE_ROWS, found.scores)):
        assert values(name, "bin") == {(bin_,): count for (_, bin_), count in bins(part).items()}
    for name, value in (
        (counters.PREDICTIONS, found.rows),
        (counters.IN_FLIGHT, found.in_flight),
        (counters.READY, found.ready),
        (counters.WORKERS_READY, found.workers_ready),
        (counters.WORKER_RESTARTS, found.worker_restarts),
    ):
        assert values(name) == {(): value}
    for name, latency in ((counters.REQUEST_SECONDS, found.request), (counters.COMPUTE_SECONDS, found.compute)):
        samples = families[name]
        heights = [sample.value for sample in samples if sample.name.endswith("_bucket")]
        assert heights == np.cumsum(latency.counts).tolist()
        assert next(sample.value for sample in samples if sample.name.endswith("_sum")) == latency.total
    assert families["process_start_time_seconds"][0].value == found.started


def test_texts_and_columns(texts: Made) -> None:
    server = Loaded(texts)
    cities = ["Bern", "Genf", "Chur", "Rom", "Bern"]
    outputs = server.infer(
        {"name": "age", "shape": [5], "datatype": "FP32", "data": [30, 31, 29, 80, 5]},
        {"name": "city", "shape": [5], "datatype": "BYTES", "data": cities},
        {"name": "income", "shape": [5], "datatype": "FP32", "data": [None, 2, 3, 4, 5]},
    )
    found = server.snapshot()
    income, age, city = found.features
    assert (income.counts, income.missing) == ((1, 2, 1), 1)
    assert (age.counts, age.missing) == ((3, 2), 0)
    assert (city.counts, city.other, city.missing) == ((2, 1), 2, 0)
    answers = outputs[0]["data"]
    assert found.predictions is not None
    assert found.predictions.counts == (answers.count("yes"), answers.count("no"))
    assert found.scores is None
    assert_agree(text(server.app, server.board).decode(), found)


def test_an_empty_text_is_missing_where_that_is_allowed(tmp_path: Path) -> None:
    made = artifacts.mixed(tmp_path / "model")
    manifest = artifact.decode((made.folder / artifact.MANIFEST).read_bytes())
    features = tuple(msgspec.structs.replace(feature, missing=True) for feature in manifest.features)
    artifacts.write(made.folder, msgspec.structs.replace(manifest, features=features))
    server = Loaded(
        with_profile(
            made,
            profile.Profile(1, (Categorical("city", ("Bern",), (0,)),), Categorical("predict", ("yes", "no"), (0, 0))),
        )
    )
    server.infer(
        {"name": "age", "shape": [2], "datatype": "FP32", "data": [1, 2]},
        {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["", "Rom"]},
        {"name": "income", "shape": [2], "datatype": "FP32", "data": [1, 2]},
    )
    (city,) = server.snapshot().features
    assert (city.counts, city.other, city.missing) == ((0,), 1, 1)


def test_a_regressors_predictions_and_scores(tmp_path: Path) -> None:
    made = artifacts.regression(tmp_path / "model")
    known = profile.Profile(
        1,
        (Numeric("b", (5.0,), (0, 0)),),
        Numeric("predict", (0.0,), (0, 0)),
        scores=Numeric("score", (1.0, 2.0), (0, 0, 0)),
    )
    server = Loaded(with_profile(made, known))
    rows = np.random.default_rng(3).uniform(0, 10, (300, 3)).astype(np.float32)
    (predicted,) = server.infer(matrix(rows))
    for row in rows[:5]:
        predicted["data"] += server.infer(matrix(row[None]))[0]["data"]
    found = server.snapshot()
    assert found.predictions is not None
    assert found.scores is not None
    assert list(found.features[0].counts) == expected([*rows[:, 1], *rows[:5, 1]], (5.0,))
    assert list(found.predictions.counts) == expected(predicted["data"], (0.0,))
    assert list(found.scores.counts) == expected(predicted["data"], (1.0, 2.0))


def test_a_prediction_is_answered_where_its_rows_cannot_be_counted(
    numeric: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifacts.regression(tmp_path / "model")
    server = Loaded(with_profile(made, profile.Profile(1, (), Numeric("predict", (0.0,), (0, 0)))))
    other = model.load(numeric.folder, numeric.digest, "model", "7").bins
    assert other is not None
    server.board.bin_rows(other)  # of a model with one output more
    rows = np.ones((3, 3), np.float32)
    for _ in range(2):
        assert len(server.infer(matrix(rows[:1]))[0]["data"]) == 1
        assert len(server.infer(matrix(rows))[0]["data"]) == 3
    found = server.snapshot()
    assert (found.rows, found.requests) == (8, {"200": 4})
    assert {sum(feature.counts) for feature in found.features} == {0}
    assert capsys.readouterr().err.count("rows cannot be counted") == 1


def test_a_block_that_cannot_be_binned_makes_room_for_the_next_one(numeric: Made) -> None:
    server = Loaded(numeric)
    assert server.board.layout is not None
    right = server.board.layout.edges
    rows = np.ones((700, 30), np.float32)
    server.board.layout.edges = right[:, :7]  # not that many columns
    for _ in range(server.board.layout.rows):
        assert len(server.infer(matrix(rows[:1]))[0]["data"]) == 1
    server.board.layout.edges = right
    server.infer(matrix(rows))
    server.infer(matrix(rows[:1]))
    found = server.snapshot()
    assert {sum(feature.counts) for feature in found.features} == {701}
    assert found.requests == {"200": server.board.layout.rows + 2}


@pytest.mark.parametrize("rows", [1, 2, 2500], ids=["of one row", "of a few rows", "of whole blocks"])
def test_a_worker_that_is_killed_at_any_step_has_counted_nothing_twice(numeric: Made, rows: int) -> None:
    """A child counts rows, is killed before line `step` of what moves a full block, and another one goes on."""
    sent = np.resize(numeric.rows, (rows, 30))
    steps, step = [Bins._flush.__code__, Bins._count.__code__], 0  # noqa: SLF001
    while True:
        server = Loaded(numeric)
        child = os.fork()
        if not child:
            _count_until(step, steps, server, sent)
        _, status = os.waitpid(child, 0)
        before = server.snapshot()
        assert server.board.layout is not None
        found = {sum(feature.counts) + feature.missing for feature in before.features}
        assert len(found) == 1, f"step {step}: columns differ"
        # A request whose rows were not all counted yet may be lost.
        assert 0 <= before.rows - found.copy().pop() <= rows, f"step {step}"

        server.app.counters.start()
        for _ in range(2 * server.board.layout.rows // rows + 1):
            server.infer(matrix(sent))
        after = server.snapshot()
        more = {sum(feature.counts) + feature.missing for feature in after.features}
        assert more == {found.pop() + after.rows - before.rows}, f"step {step}"
        if os.waitstatus_to_exitcode(status) == 0:  # it was not killed: there are no more steps
            assert step >= 10
            return
        step += 1


def _count_until(step: int, steps: list[Any], server: Loaded, rows: Any) -> None:
    """Count rows, in a child, and end it by SIGKILL before line `step` that it runs of `steps`."""
    lines = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code not in steps:
            return None
        if event == "line":
            lines += 1
            if lines > step:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        sys.settrace(trace)
        assert server.board.layout is not None
        for _ in range(3 * server.board.layout.rows // len(rows)):
            server.infer(matrix(rows))
    finally:
        os._exit(0)


def test_the_edges_digest_is_of_the_bins_and_not_of_the_counts() -> None:
    base = profile.Profile(5, (Numeric("a", (1.0,), (2, 3)),), Categorical("predict", ("x",), (5,)))
    other = profile.Profile(9, (Numeric("a", (1.0,), (8, 1)),), Categorical("predict", ("x",), (9,)))
    moved = profile.Profile(5, (Numeric("a", (1.5,), (2, 3)),), Categorical("predict", ("x",), (5,)))
    renamed = profile.Profile(5, (Numeric("a", (1.0,), (2, 3)),), Categorical("predict", ("y",), (5,)))
    digests = [profile.edges_digest(one) for one in (base, other, moved, renamed)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_snapshot_of_a_server(numeric: Made) -> None:
    with serving(numeric, "--arm", "candidate") as server:
        first = collected(server)
        assert (first.rows, first.arm, first.digest, first.ready) == (0, "candidate", numeric.digest, True)
        server.infer(matrix(numeric.rows[:300]))
        server.infer(matrix(numeric.rows[:1]))
        server.ask("POST", "/v2/models/model/infer", b"nonsense")
        found = collected(server)
        assert (found.started, found.edges) == (first.started, first.edges)
        assert found.edges == profile.edges_digest(
            msgspec.json.decode((numeric.folder / artifact.PROFILE).read_bytes(), type=profile.Profile)
        )
        assert found.rows == 301
        assert {sum(feature.counts) + feature.missing for feature in found.features} == {301}
        assert_agree(ask(server.metrics_port, "GET", "/metrics").body.decode(), found)
    with serving(numeric) as server:
        assert collected(server).started > first.started


def test_what_the_profile_counted_is_told_in_the_order_of_what_is_counted(tmp_path: Path) -> None:
    made = artifacts.mixed(tmp_path / "mixed")
    features = (
        Categorical("city", ("Bern", "Chur"), (7, 5), 3, 2),
        Numeric("unread", (1.0,), (8, 9)),  # the model does not read it
        Numeric("age", (30.0,), (11, 6), 1),
    )
    known = profile.Profile(18, features, Categorical("predict", ("yes", "no"), (4, 3)))
    with serving(with_profile(made, known)) as server:
        found = collected(server)
    reference = found.reference
    assert reference is not None
    assert reference.features == (
        counters.Trained("city", (7, 5), missing=2, other=3),
        counters.Trained("age", (11, 6), missing=1),
    )
    assert [feature.name for feature in found.features] == [part.name for part in reference.features]
    assert reference.predictions == counters.Trained("predict", (4, 3), other=0)
    assert reference.scores is None


def collected(server: Server) -> Snapshot:
    answer = ask(server.metrics_port, "GET", counters.SNAPSHOT_PATH)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return msgspec.json.decode(answer.body, type=Snapshot)
