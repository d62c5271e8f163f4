"""`python -m modelmill_trainer` as a container runs it: a report, JSON lines, an exit code, few imports."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from s3_server import S3Server
from trainer_tasks import BREAST_CANCER, LOGISTIC, SCALER, run, steps, trained

from modelmill_contracts import report, task
from modelmill_contracts.report import Report
from modelmill_contracts.task import PreflightTask, SnapshotTask, StoreLocation, VerificationTask
from modelmill_trainer.__main__ import carry_out


def _container(tmp_path: Path, text: str | None) -> tuple[int, Report | None, list[dict[str, object]]]:
    variables = {**os.environ, "MILL_REPORT": str(tmp_path / "report"), task.ENVIRONMENT: text or ""}
    if text is None:
        del variables[task.ENVIRONMENT]
    done = subprocess.run([sys.executable, "-m", "modelmill_trainer"], env=variables, capture_output=True, check=False)
    assert done.stderr == b""
    return (
        done.returncode,
        report.decode((tmp_path / "report").read_text()),
        [json.loads(line) for line in done.stdout.splitlines()],
    )


def test_success_is_a_report_and_exit_code_0(store: StoreLocation, tmp_path: Path) -> None:
    code, answer, lines = _container(tmp_path, task.encode(SnapshotTask(store=store, source=str(BREAST_CANCER))))
    assert (code, answer.ok, answer.reason) == (0, True, "SnapshotTaken")
    assert {"fetch", "read", "check", "name", "store"} <= {line.get("phase") for line in lines}
    assert all(isinstance(line["seconds"], int | float) for line in lines if "phase" in line)


@pytest.mark.parametrize("text", [None, "", "{", '{"type":"Dance"}', '{"type":"Snapshot"}'])
def test_a_task_that_is_none_is_a_report_and_exit_code_1(tmp_path: Path, text: str) -> None:
    code, answer, _ = _container(tmp_path, text)
    assert (code, answer.ok, answer.reason) == (1, False, "TaskInvalid")


def test_an_unexpected_error_gives_its_type_and_logs_the_rest(store: StoreLocation, tmp_path: Path) -> None:
    # No operator writes a digest that is none: the trainer does not expect it.
    asked = task.TrainingTask(store, "none", "none", "x", steps(LOGISTIC))
    code, answer, lines = _container(tmp_path, task.encode(asked))
    assert (code, answer.reason) == (1, "InternalError")
    assert answer.message == "the trainer failed with ValueError; its log has the traceback"
    assert any("Traceback" in str(line.get("traceback")) for line in lines)


def test_who_is_told_to_end_does_so_at_once_and_asks_for_another_try(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a store that takes the call and never answers
        store = StoreLocation("s3://models", f"http://127.0.0.1:{silent.getsockname()[1]}")
        asked = task.encode(PreflightTask(store))
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        variables = {**os.environ, **keys, "MILL_REPORT": str(tmp_path / "report"), task.ENVIRONMENT: asked}
        silent.settimeout(30)
        running = subprocess.Popen([sys.executable, "-m", "modelmill_trainer"], env=variables)
        connection, _ = silent.accept()
        with connection:
            running.terminate()
            assert running.wait(20) == report.EXIT_RETRYABLE
    answer = report.decode((tmp_path / "report").read_text())
    assert (answer.ok, answer.reason, answer.retryable) == (False, "Interrupted", True)


def test_a_preflight_imports_none_of_the_heavy_libraries(store: StoreLocation) -> None:
    heavy = ("numpy", "pandas", "sklearn", "pyarrow", "onnx", "onnxruntime", "skl2onnx", "skops")
    code = (
        "import sys; from modelmill_trainer.__main__ import main; assert main() == 0;"
        f" print([name for name in {heavy} if name in sys.modules])"
    )
    variables = {**os.environ, "MILL_REPORT": "/dev/null", task.ENVIRONMENT: task.encode(PreflightTask(store))}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == b"[]"


def test_preflight_of_a_good_store_leaves_nothing(store: StoreLocation, tmp_path: Path) -> None:
    answer = run(PreflightTask(store))
    assert (answer.ok, answer.reason) == (True, "StoreReady")
    assert answer.result.checked == ("write", "keep", "read", "delete")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_preflight_of_a_store_that_refuses_or_is_not_there(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.keys(secret_key="wrong").items():
        monkeypatch.setenv(name, value)
    refused = run(PreflightTask(s3.bucket("models")))
    assert (refused.ok, refused.reason, refused.retryable) == (False, "StoreRefused", False)
    absent = run(PreflightTask(StoreLocation("s3://models", "http://127.0.0.1:9")))
    assert (absent.ok, absent.reason, absent.retryable) == (False, "StoreUnreachable", True)


def test_preflight_snapshot_training_and_verification_on_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    store = s3.bucket("models")
    assert run(PreflightTask(store)).ok
    taken = run(SnapshotTask(store, str(BREAST_CANCER))).result
    answer = run(task.TrainingTask(store, taken.file, taken.version, "benign", steps(SCALER, LOGISTIC)))
    assert answer.ok, answer
    verified = run(VerificationTask(store, answer.result.uri, answer.result.artifact))
    assert (verified.ok, verified.reason) == (True, "Verified")
    assert [(entry.name, entry.shape) for entry in verified.result.inputs] == [("input", (-1, 30))]


def test_verification_finds_what_was_changed(store: StoreLocation) -> None:
    made = trained(store, BREAST_CANCER, "benign", steps(SCALER, LOGISTIC))
    asked = VerificationTask(store, made.result.uri, made.result.artifact)
    assert run(asked).result.size == sum(path.stat().st_size for path in made.folder.iterdir())
    (made.folder / "model.onnx").write_bytes(b"something else")
    answer = run(asked)
    assert (answer.ok, answer.reason) == (False, "DigestMismatch")
    assert "model.onnx" in answer.message


def test_verification_of_what_is_not_there_or_elsewhere(store: StoreLocation) -> None:
    digest = "sha256:" + "0" * 64
    uri = f"{store.uri}/artifacts/sha256-{'0' * 64}"
    assert run(VerificationTask(store, uri, digest)).reason == "ObjectNotFound"
    assert run(VerificationTask(store, "s3://other/x", digest)).reason == "ArtifactElsewhere"
    assert run(VerificationTask(store, uri, "sha256:short")).reason == "DigestInvalid"


def test_a_task_is_read_from_the_environment_that_is_given() -> None:
    assert carry_out({}).reason == "TaskInvalid"
