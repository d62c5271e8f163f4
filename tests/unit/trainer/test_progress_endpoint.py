"""How far a training is: told to who asks, by the phases that are over, and never at the training's cost."""

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trainer_tasks import BREAST_CANCER, LOGISTIC, SCALER, free_port, run, steps, trained, training

from modelmill_contracts import environment, progress, report, task
from modelmill_contracts.progress import Progress
from modelmill_contracts.task import Evaluation, StoreLocation
from modelmill_trainer import progress as endpoint
from modelmill_trainer.progress import METER, Meter

FOREST = ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 200})


def test_a_phase_begins_where_those_before_it_end() -> None:
    meter = Meter()
    meter.plan(("fetch", 1), ("fit", 6), ("fold", 1), ("fold", 1), ("publish", 1))
    told = [meter.now]
    for name in ("fetch", "fit", "write skops", "fold", "fold", "publish"):
        meter.begin(name)
        told.append(meter.now)
    assert [(now.percent, now.phase) for now in told] == [
        (0, None), (0, "fetch"), (10, "fit"), (10, "fit"), (70, "fold"), (80, "fold"), (90, "publish"),
    ]  # fmt: skip


def test_a_phase_that_is_left_out_is_over_and_metrics_stay_until_there_are_others() -> None:
    meter = Meter()
    meter.plan(("fetch", 1), ("fit", 1))
    meter.measured({"recall": 0.5})
    meter.begin("fit")
    assert meter.now == Progress(50, "fit", {"recall": 0.5})
    meter.begin("fetch")  # it cannot go back
    assert meter.now.phase == "fit"
    meter.plan(("fit", 1))
    assert meter.now == Progress(0)


def test_without_a_plan_nothing_is_told() -> None:
    meter = Meter()
    meter.begin("fetch")
    assert meter.now == Progress(0)


def test_without_folds_the_metrics_so_far_are_those_on_the_test_rows(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), metrics=("recall",))
    assert METER.now == Progress(93, "publish", {"recall": float(made.manifest.metrics["recall"])})


def test_with_folds_they_are_means_over_folds_and_the_test_rows_stay_unseen(store: StoreLocation) -> None:
    folds = Evaluation(folds=4)
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), evaluation=folds)
    (metric,) = made.result.metrics
    assert (METER.now.phase, list(METER.now.metrics)) == ("publish", ["accuracy"])
    assert METER.now.metrics["accuracy"] == pytest.approx(float(metric.value), abs=1e-5)


def test_a_training_that_is_only_compared_ends_with_what_it_does_last(store: StoreLocation) -> None:
    assert run(training(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC), publish=False)).ok
    assert METER.now.phase == "convert"


# The endpoint.


@pytest.fixture(scope="module")
def port() -> int:
    """Where this process answers."""
    free = free_port()
    endpoint.serve(free)
    return free


def ask(port: int, path: str = progress.PATH) -> tuple[int, bytes]:
    """Status code and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def told_on(port: int) -> Progress:
    code, body = ask(port)
    assert (code, len(body) <= progress.LIMIT) == (200, True)
    return progress.decode(body)


def test_who_asks_is_told_what_is_so_now(port: int) -> None:
    METER.plan(("fit", 1), ("publish", 3))
    assert told_on(port) == Progress(0)
    METER.begin("publish")
    METER.measured({"recall": 0.5})
    assert told_on(port) == Progress(25, "publish", {"recall": 0.5})


def test_the_most_that_can_be_told_is_an_answer(port: int) -> None:
    METER.plan(("fit", 1))
    METER.measured({f"{'m' * 60}{number:04}": 1 / 3 * 1e-300 for number in range(32)})
    assert len(told_on(port).metrics) == 32
    METER.plan(("fit", 1))


def test_nothing_else_is_there(port: int) -> None:
    for path in ("/", "/metrics", "/progress/", "/progress?x=1"):
        assert ask(port, path) == (404, b"")


@pytest.mark.parametrize("sent", [b"", b"GET /progress HTTP/1.1\r\n", b"\x16\x03\x01", b"x" * 5000])
def test_who_says_nothing_or_nonsense_holds_nobody_up(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as other:
        other.sendall(sent)
        assert told_on(port) == METER.now


def test_who_is_gone_before_the_answer_holds_nobody_up(port: int) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port), 10) as other:
            other.sendall(b"GET /progress HTTP/1.1\r\n\r\n")
    assert told_on(port) == METER.now


# A container's process.


def container(asked: task.Task, folder: Path, port: int) -> subprocess.Popen[bytes]:
    variables = {
        **os.environ,
        environment.REPORT: str(folder / "report"),
        environment.PROGRESS_PORT: str(port),
        task.ENVIRONMENT: task.encode(asked),
    }
    return subprocess.Popen([sys.executable, "-m", "modelmill_trainer"], env=variables, stdout=subprocess.PIPE)


def lines(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_training_can_be_asked_while_it_runs(store: StoreLocation, tmp_path: Path) -> None:
    port, told = free_port(), list[Progress]()
    asked = training(store, BREAST_CANCER, "benign", steps(FOREST), evaluation=Evaluation(folds=5))
    running = container(asked, tmp_path, port)
    while running.poll() is None:
        try:
            told.append(told_on(port))
        except (OSError, http.client.HTTPException):
            continue  # it has not begun, or is just ending
    answer = report.decode((tmp_path / "report").read_text())
    assert (running.returncode, answer is not None and answer.ok) == (0, True)
    percents = [now.percent for now in told]
    assert percents == sorted(percents)
    assert {"fit", "fold"} <= {now.phase for now in told}
    assert any(0 < now.percent < 100 and now.metrics for now in told)
    assert not any(now.metrics for now in told if now.phase in (None, "fetch", "fit", "evaluate"))


def test_a_port_that_somebody_has_is_no_reason_to_fail(store: StoreLocation, tmp_path: Path) -> None:
    asked = training(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        output, _ = container(asked, tmp_path, port).communicate()
    answer = report.decode((tmp_path / "report").read_text())
    assert answer is not None
    assert answer.ok
    assert [line["port"] for line in lines(output) if line["message"] == "nobody can ask how far this is"] == [port]


def test_a_task_that_is_no_training_leaves_the_port_to_others(store: StoreLocation, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        asked = task.PreflightTask(store)
        output, _ = container(asked, tmp_path, taken.getsockname()[1]).communicate()
    assert not any("nobody can ask" in line["message"] for line in lines(output))
