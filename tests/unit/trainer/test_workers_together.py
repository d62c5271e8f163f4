"""Several workers on loopback, as the pods of one training: the same bytes as one, and who is one of them."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from trainer_tasks import BREAST_CANCER, free_port, run, steps, training

from modelmill_contracts import environment, report, task
from modelmill_contracts.report import Report
from modelmill_contracts.task import Evaluation, OwnContainer, OwnTrainingTask, StoreLocation
from modelmill_trainer.credentials import credentials
from modelmill_trainer.workers import Place

FOREST = ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 40})
# Its solvers stop too early, each in a call of its own: that is said in the artifact, wherever the call was made.
SHORT = ("sklearn.linear_model.LogisticRegressionCV", {"max_iter": 2, "refit": False, "use_legacy_attributes": False})


class Team:
    """The pods of one training, each a process of `python -m modelmill_trainer`."""

    def __init__(self, asked: task.Task, folder: Path, count: int = 2) -> None:
        self._asked = task.encode(asked)
        self._folder = folder
        self._scheduler = f"127.0.0.1:{free_port()}"
        self._count = count

    @property
    def scheduler(self) -> tuple[str, int]:
        host, _, port = self._scheduler.partition(":")
        return host, int(port)

    def start(self, index: int, uid: str = "one") -> "subprocess.Popen[bytes]":
        variables = {
            **os.environ,
            task.ENVIRONMENT: self._asked,
            environment.REPORT: str(self._folder / f"report-{index}"),
            environment.PROGRESS_PORT: str(free_port()),
            environment.WORKERS: str(self._count),
            environment.INDEX: str(index),
            environment.SCHEDULER: self._scheduler,
            environment.JOB_UID: uid,
            environment.WORKER_PORT_VARIABLE: str(free_port()),
        }
        command = [sys.executable, "-m", "modelmill_trainer"]
        with (self._folder / f"log-{index}").open("ab") as log:
            return subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)

    def said(self, index: int) -> Report:
        found = report.decode((self._folder / f"report-{index}").read_text())
        assert found is not None
        return found

    def log(self, index: int) -> list[dict[str, Any]]:
        """Its lines, which are all JSON: nothing of Dask's own is among them."""
        return [json.loads(line) for line in (self._folder / f"log-{index}").read_text().splitlines()]

    def wait_for(self, index: int, message: str) -> None:
        end = time.monotonic() + 60
        while not any(line["message"] == message for line in self.log(index)):
            assert time.monotonic() < end, self.log(index)
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [FOREST, SHORT], ids=["forest", "not converged"])
def test_two_workers_give_the_same_bytes_as_one(
    estimator: tuple[str, dict[str, Any]], store: StoreLocation, tmp_path: Path
) -> None:
    asked = training(store, BREAST_CANCER, "benign", steps(estimator), evaluation=Evaluation(folds=2))
    alone = run(asked)
    team = Team(asked, tmp_path)
    second, first = team.start(1), team.start(0)
    assert (first.wait(120), second.wait(30)) == (0, 0)
    spread = team.said(0)
    assert alone.ok, alone
    assert (spread.result.artifact, spread.result.recipe) == (alone.result.artifact, alone.result.recipe)
    assert (spread.result.files, spread.message) == (alone.result.files, alone.message)
    assert team.said(1) == Report(True, "WorkDone", "worker 1 did its share; worker 0 publishes the model")
    assert [line["workers"] for line in team.log(0) if line.get("phase") == "gather"] == [2]
    assert not any(line["message"].startswith("some workers") for line in team.log(0))
    assert [line["worker"] for line in team.log(1) if line["message"] == "working"] == [1]


def test_that_a_solver_did_not_converge_is_noted(store: StoreLocation) -> None:
    answer = run(training(store, BREAST_CANCER, "benign", steps(SHORT)))
    assert "stopped before it converged" in answer.message


def test_what_a_worker_cannot_fit_is_told_as_if_there_were_one(store: StoreLocation, tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.csv"
    gaps.write_text("a,b,label\n" + "".join(f"{row},{'' if row == 7 else row},{row % 2}\n" for row in range(60)))
    # Each of its fits is a call of its own, and is refused there.
    asked = training(store, gaps, "label", steps(("sklearn.linear_model.LogisticRegressionCV", {"cv": 2})))
    alone = run(asked)
    team = Team(asked, tmp_path)
    others, first = team.start(1), team.start(0)
    try:
        assert first.wait(120) == report.EXIT_FAILED
        said = team.said(0)
        assert (said.reason, said.message) == (alone.reason, alone.message)
    finally:
        others.kill()
        others.wait()


@pytest.mark.slow
def test_a_worker_that_loses_its_scheduler_works_for_the_next(store: StoreLocation, tmp_path: Path) -> None:
    asked = training(store, BREAST_CANCER, "benign", steps((FOREST[0], {"n_estimators": 400})))
    team = Team(asked, tmp_path)
    second, first = team.start(1), team.start(0)
    try:
        team.wait_for(0, "done: gather")
        first.send_signal(signal.SIGKILL)  # its node is gone
        first.wait()
        again = team.start(0)
        assert (again.wait(120), second.wait(30)) == (0, 0)
        assert len([line for line in team.log(1) if line["message"] == "working"]) >= 2
        assert team.said(0).result.artifact == run(asked).result.artifact
    finally:
        second.kill()
        second.wait()


def test_who_does_not_know_the_secret_is_no_worker(store: StoreLocation, tmp_path: Path) -> None:
    # Long enough that somebody may try.
    slow = ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 1000})
    team = Team(training(store, BREAST_CANCER, "benign", steps(slow)), tmp_path)
    stranger, second, first = team.start(2, uid="another"), team.start(1), team.start(0)
    try:
        team.wait_for(1, "working")
        assert not _taken_by(team.scheduler, b"another")
        assert _taken_by(team.scheduler, b"one")
        assert not _taken_by(team.scheduler, None)
        assert first.wait(200) == 0
        gathered = [line for line in team.log(0) if line.get("phase") == "gather"]
        assert [line["workers"] for line in gathered] == [2]
        assert not (tmp_path / "report-2").exists()
    finally:
        for process in (stranger, second, first):
            process.kill()
            process.wait()


def _taken_by(scheduler: tuple[str, int], uid: bytes | None) -> bool:
    """Whether the scheduler says anything to somebody who knows this secret, or has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if uid is not None:
        known = credentials(_place(uid.decode()).secret)
        # A chain can be loaded from a file only.
        path = Path(os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]).name
        pem = Path("/tmp") / f"{path}-{os.getpid()}.pem"
        pem.write_text(known.key + known.certificate)
        context.load_cert_chain(pem)
        pem.unlink()
    try:
        with socket.create_connection(scheduler, timeout=10) as plain, context.wrap_socket(plain) as connection:
            return bool(connection.recv(8))
    except OSError:
        return False


def _place(uid: str) -> Place:
    told = {environment.WORKERS: "2", environment.INDEX: "0", environment.JOB_UID: uid}
    found = Place.of({**os.environ, **told})
    assert found is not None
    return found


def test_credentials_follow_from_what_is_told_and_from_nothing_else() -> None:
    assert credentials(b"a") == credentials(b"a")
    assert credentials(b"a").key != credentials(b"b").key
    assert credentials(b"a").certificate != credentials(b"b").certificate


def test_the_store_s_credentials_are_part_of_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    without = _place("one").secret
    monkeypatch.setenv(environment.STORE_SECRET_KEY, "key")
    assert _place("one").secret != without


def test_one_pod_is_told_nothing() -> None:
    assert Place.of({}) is None
    assert Place.of({environment.INDEX: "0"}) is None


def test_alone_nothing_of_dask_is_imported(store: StoreLocation, tmp_path: Path) -> None:
    code = (
        "import sys; from modelmill_trainer.__main__ import main; assert main() == 0;"
        " print([name for name in ('dask', 'distributed', 'tornado') if sys.modules.get(name)])"
    )
    asked = task.encode(training(store, BREAST_CANCER, "benign", steps(FOREST)))
    variables = {**os.environ, task.ENVIRONMENT: asked, environment.REPORT: str(tmp_path / "report")}
    variables[environment.PROGRESS_PORT] = str(free_port())
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == b"[]"


def test_only_the_first_pod_takes_what_its_container_wrote(store: StoreLocation, tmp_path: Path) -> None:
    nothing = OwnTrainingTask(store, "", "benign", OwnContainer("image"), str(tmp_path), str(tmp_path))
    second = Team(nothing, tmp_path)
    assert second.start(1).wait(60) == 0
    assert second.said(1).reason == "WorkDone"


@pytest.mark.slow
def test_two_workers_give_the_same_bytes_as_one_for_every_estimator() -> None:
    script = Path(__file__).with_name("all_workers.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'{"name"')]
    assert [line["name"] for line in lines if line["alone"] != line["spread"]] == []
    assert len([line for line in lines if line["alone"]]) >= 160
