"""Runs are shown in a real MLflow server, each once, whatever fails when."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from trainer_tasks import free_port, run

import mlflow_server
from mlflow_server import MlflowServer
from modelmill_contracts import environment, report
from modelmill_contracts.report import MirroredRun, MirrorResult
from modelmill_contracts.task import EndedRun, MirroredMetric, MirrorTask
from modelmill_trainer.failure import TaskError
from modelmill_trainer.mirroring import mirror

START, END = 1767225600000, 1767225661000
RECIPE = "sha256:" + "e" * 64


def ended(number: int, experiment: str = "team-a/forests", **more: Any) -> EndedRun:
    known = {
        "uid": f"0000-{number}",
        "name": f"forests-{number}",
        "experiment": experiment,
        "status": "FINISHED",
        "start": START,
        "end": END,
        "tags": (("modelmill.recipe", RECIPE), ("modelmill.modelVersion", "triage-7")),
        "parameters": (("forest__max_depth", "5"), ("forest__criterion", "gini"), ("forest__class_weight", "null")),
        "metrics": (MirroredMetric("roc_auc", "0.991"), MirroredMetric("roc_auc.stddev", "0.004")),
    }
    return EndedRun(**{**known, **more})


def shown(answer: report.Report) -> list[str]:
    """The ids of the runs that the report says are shown."""
    assert answer.ok, answer
    assert isinstance(answer.result, MirrorResult)
    return [of.run for of in answer.result.runs]


def asked(server: MlflowServer | str, *runs: EndedRun, secret: str = "") -> MirrorTask:
    return MirrorTask(server if isinstance(server, str) else server.url, runs, secret)


# Without MLflow.


def test_a_server_that_is_away_is_told_and_time_may_heal_it() -> None:
    answer = run(asked(f"http://127.0.0.1:{free_port()}", ended(1)))
    assert (answer.ok, answer.reason, answer.retryable) == (False, "MlflowUnreachable", True)
    assert "check that it runs and that a NetworkPolicy allows the way to it" in answer.message


def test_a_name_that_does_not_resolve() -> None:
    answer = run(asked("http://mlflow.invalid:5000", ended(1)))
    assert (answer.reason, answer.retryable) == ("MlflowUnresolvable", True)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]:80", "100.100.100.200"])
def test_an_address_of_metadata_is_not_asked(host: str) -> None:
    answer = run(asked(f"http://{host}", ended(1)))
    assert (answer.reason, answer.retryable) == ("MlflowAddressDenied", False)


def test_a_port_that_is_none() -> None:
    assert run(asked("http://mlflow:99999", ended(1))).reason == "MlflowUnknown"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {environment.MLFLOW_USERNAME: "ann"},
        {environment.MLFLOW_PASSWORD: "secret"},
        {environment.MLFLOW_TOKEN: "two\nlines"},
    ],
)
def test_a_secret_without_its_keys(variables: dict[str, str]) -> None:
    with pytest.raises(TaskError, match="Secret tracking") as raised:
        mirror(asked("http://127.0.0.1:1", ended(1), secret="tracking"), variables)
    assert raised.value.reason == "MlflowCredentialsMissing"


class Scripted:
    """A server that gives these answers, one for each request, and then the last one for ever."""

    def __init__(self, *answers: tuple[int, bytes], headers: Sequence[tuple[str, str]] = ()) -> None:
        self.requests: list[tuple[str, str | None]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                told.requests.append((self.path, self.headers.get("Authorization")))
                status, body = answers[min(len(told.requests), len(answers)) - 1]
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.mark.parametrize(
    ("status", "body", "reason", "retryable"),
    [
        (500, b"{}", "MlflowFailed", True),
        (503, b"<html>", "MlflowFailed", True),
        (429, b"", "MlflowFailed", True),
        (401, b"", "MlflowRefused", False),
        (403, b'{"error_code":"PERMISSION_DENIED","message":"no"}', "MlflowRefused", False),
        (404, b"<html>", "MlflowUnknown", False),
        (200, b"<html>", "MlflowUnknown", False),
        (200, b"[]", "MlflowUnknown", False),
        (302, b"", "MlflowUnknown", False),
    ],
)
def test_answers_that_are_none(status: int, body: bytes, reason: str, retryable: bool) -> None:
    server = Scripted((status, body), headers=[("Location", "http://169.254.169.254/")])
    answer = run(asked(server.url, ended(1), ended(2)))
    assert (answer.ok, answer.reason, answer.retryable) == (False, reason, retryable), answer
    assert len(server.requests) == 1  # nothing is followed, nor asked twice


def test_credentials_go_with_each_request_and_into_no_message() -> None:
    server = Scripted((401, b""))
    for variables, word in (
        ({environment.MLFLOW_USERNAME: "ann", environment.MLFLOW_PASSWORD: "s3cret"}, "Basic YW5uOnMzY3JldA=="),
        ({environment.MLFLOW_TOKEN: "s3cret\n", environment.MLFLOW_USERNAME: "ann"}, "Bearer s3cret"),
    ):
        with pytest.raises(TaskError) as raised:
            mirror(asked(f"{server.url}/base", ended(1), secret="tracking"), variables)
        assert server.requests[-1][1] == word
        assert server.requests[-1][0].startswith("/base/api/2.0/mlflow/experiments/get-by-name?")
        assert "s3cret" not in str(raised.value)


# A real server.


# Each is installed, with what it needs: a minute and a gigabyte.
_NEWEST, *_FORMER = mlflow_server.VERSIONS
VERSIONS = [_NEWEST, *(pytest.param(version, marks=pytest.mark.long) for version in _FORMER)]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow"), request.param) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An experiment of the test's own."""
    return f"team-a/{request.node.name}"


@pytest.mark.slow
def test_a_run_is_shown_with_all_that_is_known_of_it(server: MlflowServer, name: str) -> None:
    failed = ended(2, name, status="FAILED", metrics=(), tags=(("modelmill.reason", "TrainingFailed"),))
    first, second = shown(run(asked(server, ended(1, name), failed)))
    found = server.told(
        f"run = client.get_run({first!r})\n"
        "print(json.dumps([dict(run.info), run.data.params, run.data.metrics, run.data.tags]))"
    )
    info, parameters, metrics, tags = found
    assert (info["run_name"], info["status"], info["start_time"], info["end_time"]) == (
        *("forests-1", "FINISHED", START, END),
    )
    assert parameters == {"forest__max_depth": "5", "forest__criterion": "gini", "forest__class_weight": "null"}
    assert metrics == {"roc_auc": 0.991, "roc_auc.stddev": 0.004}
    assert {key: tags[key] for key in ("modelmill.uid", "modelmill.recipe", "modelmill.modelVersion")} == {
        "modelmill.uid": "0000-1",
        "modelmill.recipe": RECIPE,
        "modelmill.modelVersion": "triage-7",
    }
    (one, other) = server.runs(name)
    assert [one["info"]["run_id"], other["info"]["run_id"]] == [first, second]
    assert other["info"]["status"] == "FAILED"


@pytest.mark.slow
def test_twice_shown_is_shown_once(server: MlflowServer, name: str) -> None:
    both = asked(server, ended(1, name), ended(2, f"{name}/other"))
    assert shown(run(both)) == shown(run(both))
    assert len(server.runs(name)) == len(server.runs(f"{name}/other")) == 1


@pytest.mark.slow
def test_what_a_person_deleted_stays_deleted(server: MlflowServer, name: str) -> None:
    (first,) = shown(run(asked(server, ended(1, name))))
    server.ask("runs/delete", {"run_id": first})
    assert shown(run(asked(server, ended(1, name)))) == [first]
    assert server.runs(name, "ACTIVE_ONLY") == []


@pytest.mark.slow
def test_runs_of_an_experiment_that_a_person_deleted_are_refused_and_others_shown(
    server: MlflowServer, name: str
) -> None:
    shown(run(asked(server, ended(1, name))))
    server.ask("experiments/delete", {"experiment_id": server.experiment(name)["experiment_id"]})
    answer = run(asked(server, ended(2, name), ended(3, f"{name}/other")))
    assert isinstance(answer.result, MirrorResult)
    assert [of.refused for of in answer.result.runs] == ["EXPERIMENT_DELETED", ""]
    assert answer.message == "2 of 2 runs are shown; it refuses forests-2 (EXPERIMENT_DELETED)"
    assert len(server.runs(f"{name}/other")) == 1


@pytest.mark.slow
def test_what_mlflow_does_not_take_holds_nobody_up(server: MlflowServer, name: str) -> None:
    odd = ended(1, name, parameters=(("a%b?", "1"),))
    answer = run(asked(server, odd, ended(2, name)))
    assert isinstance(answer.result, MirrorResult)
    refused, taken = answer.result.runs
    assert (refused, taken.refused) == (MirroredRun("", "INVALID_PARAMETER_VALUE"), "")


@pytest.mark.slow
def test_extremes_are_taken(server: MlflowServer, name: str) -> None:
    parameters = tuple((f"step__p{number}", "x" * 6000 if number < 3 else "") for number in range(250))
    metrics = (
        *(MirroredMetric(f"m{number}", value) for number, value in enumerate(("nan", "inf", "-inf", "1e308", "-0"))),
        *(MirroredMetric("fold", f"0.{number}", number) for number in range(1, 20)),
    )
    (id_,) = shown(run(asked(server, ended(1, name, parameters=parameters, metrics=metrics))))
    data = server.ask("runs/get", run_id=id_)["run"]["data"]
    assert len(data["params"]) == 250
    assert {len(p.get("value", "")) for p in data["params"]} == {0, 6000}
    assert {m["key"] for m in data["metrics"]} == {"fold", "m0", "m1", "m2", "m3", "m4"}
    history = server.ask("metrics/get-history", run_id=id_, metric_key="fold")["metrics"]
    assert sorted(int(m["step"]) for m in history) == list(range(1, 20))


@pytest.mark.slow
def test_fifty_runs_fit_a_report_and_take_seconds(server: MlflowServer, name: str) -> None:
    begun = time.monotonic()
    answer = run(asked(server, *(ended(number, name) for number in range(50))))
    assert len(set(shown(answer))) == 50
    assert len(report.encode(answer)) < report.LIMIT
    print(f"50 runs: {time.monotonic() - begun:.1f} s")


# What fails between us and a real server.


class Faulty:
    """A proxy that passes requests on, unless `fault` does something else with the one of that number."""

    def __init__(self, upstream: str, fault: Callable[[int, Callable[[], bytes]], bytes | None]) -> None:
        self.count = 0
        told, where = self, urlsplit(upstream)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                told.count += 1

                def passed_on() -> bytes:
                    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)
                    headers = {k: v for k, v in self.headers.items() if k != "Host"}
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                    connection.close()
                    head = f"HTTP/1.1 {answer.status} OK\r\nContent-Length: {len(content)}\r\n\r\n"
                    return head.encode() + content

                answer = fault(told.count, passed_on)
                if answer is not None:
                    self.wfile.write(answer)
                self.close_connection = True

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@contextmanager
def faulty(server: MlflowServer, fault: Callable[[int, Callable[[], bytes]], bytes | None]) -> Iterator[Faulty]:
    proxy = Faulty(server.url, fault)
    yield proxy
    proxy.http.shutdown()
    proxy.http.server_close()


FAULTS: dict[str, Callable[[Callable[[], bytes]], bytes | None]] = {
    "refused connection": lambda _: None,
    "answer lost": lambda passed_on: (passed_on(), None)[1],
    "cut short": lambda passed_on: passed_on()[:-1],
    "500": lambda _: b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}",
    "500 and done": lambda passed_on: (passed_on(), b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}")[1],
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_wherever_it_breaks_each_run_is_shown_once_in_the_end(server: MlflowServer, name: str, fault: str) -> None:
    # get-by-name, create, and for each run: search, create, log-batch, update.
    for broken in range(1, 11):
        here = f"{name}/{broken}"
        runs = (ended(1, here), ended(2, here))
        with faulty(server, lambda n, go, at=broken: FAULTS[fault](go) if n == at else go()) as proxy:  # type: ignore[misc]
            first = run(asked(proxy.url, *runs))
            assert proxy.count <= broken  # nothing is tried again at once
        if broken <= 6:  # the first run is not there as a whole
            assert (first.ok, first.retryable) == (False, True), (broken, first)
        else:
            assert len(shown(first)) == 1, (broken, first)
        assert len(shown(run(asked(server, *runs)))) == 2
        found = server.runs(here)
        assert [(r["info"]["run_name"], r["info"]["status"]) for r in found] == [
            ("forests-1", "FINISHED"),
            ("forests-2", "FINISHED"),
        ], broken
        assert [len(r["data"]["metrics"]) for r in found] == [2, 2]
        assert [len(r["data"]["params"]) for r in found] == [3, 3]


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up(server: MlflowServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelmill_trainer.mlflow_server.TIMEOUT", 1)
    given_up = threading.Event()

    def hanging(number: int, passed_on: Callable[[], bytes]) -> bytes:
        answer = passed_on()
        if number == 4:  # the run is made, and nobody is told
            given_up.wait(10)
        return answer

    with faulty(server, hanging) as proxy:
        begun = time.monotonic()
        answer = run(asked(proxy.url, ended(1, name)))
        given_up.set()
        assert (answer.reason, answer.retryable) == ("MlflowUnreachable", True)
        assert time.monotonic() - begun < 5
    (id_,) = shown(run(asked(server, ended(1, name))))
    assert [r["info"]["run_id"] for r in server.runs(name)] == [id_]


@pytest.mark.slow
def test_what_a_slow_server_made_a_second_time_after_all_is_taken_away(server: MlflowServer, name: str) -> None:
    with faulty(server, lambda n, go: go() if n != 5 else None) as proxy:  # it is made, and has no metrics yet
        run(asked(proxy.url, ended(1, name)))
    (made,) = server.runs(name)
    tags = [{"key": "modelmill.uid", "value": "0000-1"}]
    server.ask("runs/create", {"experiment_id": made["info"]["experiment_id"], "run_name": "forests-1", "tags": tags})
    (id_,) = shown(run(asked(server, ended(1, name))))
    assert [r["info"]["run_id"] for r in server.runs(name, "ACTIVE_ONLY")] == [id_]
    assert shown(run(asked(server, ended(1, name)))) == [id_]


@pytest.mark.slow
def test_what_there_is_no_time_for_is_left_to_the_next_job(server: MlflowServer, name: str) -> None:
    seconds = iter([0.0, 100.0, 241.0])
    task = asked(server, *(ended(number, name) for number in range(1, 5)))
    answer = mirror(task, {}, lambda: next(seconds))
    assert len(shown(answer)) == 2
    assert answer.message == "2 of 4 runs are shown"
    rest = msgspec.structs.replace(task, runs=task.runs[2:])
    shown(mirror(rest, {}))
    assert len(server.runs(name)) == 4


# A server that asks who one is.


@pytest.mark.slow
def test_a_user_and_a_password(tmp_path: Path) -> None:
    with mlflow_server.running(tmp_path, mlflow_server.VERSIONS[0], auth=True) as server:
        task = asked(server, ended(1), secret="tracking")
        user, password = mlflow_server.ADMIN
        for wrong in ("other", ""):
            with pytest.raises(TaskError) as raised:
                mirror(task, {environment.MLFLOW_USERNAME: user, environment.MLFLOW_PASSWORD: wrong})
            assert (raised.value.reason, raised.value.retryable) == ("MlflowRefused", False)
        answer = mirror(task, {environment.MLFLOW_USERNAME: user, environment.MLFLOW_PASSWORD: password})
        assert len(shown(answer)) == 1
        assert len(server.runs("team-a/forests")) == 1
        # A user who may only read what others made.
        server.ask("users/create", {"username": "ben", "password": "password5678"})
        ben = {environment.MLFLOW_USERNAME: "ben", environment.MLFLOW_PASSWORD: "password5678"}
        with pytest.raises(TaskError, match="may create experiments and edit those of this namespace") as raised:
            mirror(asked(server, ended(2), secret="tracking"), ben)
        assert raised.value.reason == "MlflowRefused"
        assert len(shown(mirror(asked(server, ended(3, "team-b"), secret="tracking"), ben))) == 1
