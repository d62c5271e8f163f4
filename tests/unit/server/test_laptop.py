"""A person's own machine: `modelmill-server PATH_OR_URI`, and what it says at a terminal."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from artifacts import Made
from serving import Process, ask
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from modelmill_contracts import artifact, folder
from modelmill_contracts.store import Store
from modelmill_contracts.task import StoreLocation
from modelmill_server import source
from modelmill_server.__main__ import main

PORTS = ("--port", "0", "--grpc-port", "0", "--metrics-port", "0")


@contextmanager
def started(*arguments: str, **variables: str) -> Iterator[Process]:
    process = Process(*arguments, *PORTS, variables=variables)
    try:
        yield process
    finally:
        process.end()


def metadata(process: Process) -> dict[str, object]:
    ready = process.wait_for("ready")
    answer = ask(int(process.wait_for("listening")["port"]), "GET", f"/v2/models/{ready['model']}")
    return dict(answer.json)


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
@pytest.mark.parametrize("shape", ["file", "folder"])
def test_a_bare_onnx_file(regression: Made, tmp_path: Path, shape: str, options: tuple[str, ...]) -> None:
    home = tmp_path / "price"
    home.mkdir()
    shutil.copy(regression.folder / artifact.ONNX, home)
    with started(str(home / artifact.ONNX if shape == "file" else home), *options) as process:
        found = metadata(process)
    assert found["name"] == "price"
    assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}]


def test_a_bare_onnx_file_that_is_overwritten_in_place_is_served_as_it_was(regression: Made, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    shutil.copy(regression.folder / artifact.ONNX, own)
    place, _ = source.prepare(str(own), None, tmp_path / "place")
    with own.open("r+b") as file:
        file.write(bytes(own.stat().st_size))
    folder.verify(place, None)  # what a worker that is started again does


def test_a_missing_value_is_refused_where_no_manifest_allows_it(regression: Made, tmp_path: Path) -> None:
    shutil.copy(regression.folder / artifact.ONNX, tmp_path / "own.onnx")
    with started(str(tmp_path / "own.onnx")) as process:
        name, port = process.wait_for("ready")["model"], int(process.wait_for("listening")["port"])
        tensor = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1.0, None, 2.0]}
        answer = ask(port, "POST", f"/v2/models/{name}/infer", {"inputs": [tensor]})
        assert answer.status == 400
        tensor["data"] = [1.0, 2.0, 3.0]
        assert ask(port, "POST", f"/v2/models/{name}/infer", {"inputs": [tensor]}).status == 200


def test_an_artifact_by_its_uri(regression: Made, tmp_path: Path) -> None:
    store = Store(StoreLocation(f"file://{tmp_path}/store"), {})
    manifest = artifact.decode((regression.folder / artifact.MANIFEST).read_bytes())
    found = folder.publish(store, regression.folder, manifest)
    with started(f"file://{tmp_path}/store/artifacts/sha256-{found.partition(':')[2]}") as process:
        assert process.wait_for("ready")["digest"] == found


def refused(*arguments: str) -> dict[str, str]:
    with started(*arguments) as process:
        assert process.wait() == 1
        return process.lines[-1]


@pytest.mark.parametrize(
    "arguments",
    [("--port", "70000"), ("--metrics-port", "-1"), ("--grpc-port", "x"), ("--max-body", "-1"),
     ("--max-in-flight", "0"), ("--drain-seconds", "-1"), ("--drain-seconds", "nan"), ("--workers", "0")],
)  # fmt: skip
def test_options_out_of_range(arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "nowhere", *arguments])
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: a number" in capsys.readouterr().err


def test_workers_where_the_system_has_no_call_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(signal, "sigtimedwait")  # as on macOS
    with pytest.raises(SystemExit):
        main(["serve", "nowhere", "--workers", "2"])
    assert "argument --workers: 1: this system lacks a call" in capsys.readouterr().err


def test_a_host_that_is_none(regression: Made) -> None:
    for host in ("nonsense.invalid", "192.0.2.1"):  # no name; nobody's address
        line = refused(str(regression.folder), "--host", host)
        assert (line["reason"], "--host" in line["message"]) == ("HostUnknown", True)


def test_a_zipmap_is_refused_with_what_to_do(tmp_path: Path) -> None:
    rows = [[0.0, 1.0], [1.0, 0.0]]
    import numpy as np

    numbers = np.array(rows, np.float32)
    model = to_onnx(LogisticRegression().fit(numbers, [0, 1]), numbers[:1])
    (tmp_path / "own.onnx").write_bytes(model.SerializeToString())
    assert "'zipmap': False" in refused(str(tmp_path / "own.onnx"))["message"]


def test_a_pickle_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    line = refused(str(tmp_path / "model.pkl"))
    assert line["reason"] == "ModelUnknown"
    assert "modelmill pack" in line["message"]


def test_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "own.onnx").write_bytes(b"no onnx")
    assert refused(str(tmp_path / "own.onnx"))["reason"] == "ModelInvalid"


def test_no_artifact_uri() -> None:
    assert refused("s3://bucket/model")["reason"] == "UriMismatch"


@pytest.mark.parametrize("workers", [1, 2])
def test_at_a_terminal_it_says_a_line_that_works(cancer: Made, workers: int) -> None:
    outside, inside = pty.openpty()
    command = [sys.executable, "-m", "modelmill_server", str(cancer.folder), *PORTS, "--workers", f"{workers}"]
    process = subprocess.Popen(command, stdout=inside, stderr=inside)
    os.close(inside)
    try:
        text = ""
        deadline = time.monotonic() + 30
        while "--data" not in text.rpartition("\r\n")[0] and time.monotonic() < deadline:
            text += os.read(outside, 65536).decode()
        assert "input FP32 [rows, 30]" in text
        assert "predict_proba FP32 [rows, 2]" in text
        line = next(line for line in text.splitlines() if line.strip().startswith("curl "))
        answer = subprocess.run([*shlex.split(line), "--silent"], check=True, capture_output=True)
        assert json.loads(answer.stdout)["outputs"][0]["name"] == "predict"
        assert re.search("\033\\[", text)
        process.send_signal(signal.SIGINT)  # without draining
        while rest := _read(outside):
            text += rest
        assert text.count("curl ") == 1
    finally:
        process.kill()
        process.wait(10)
        os.close(outside)


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 65536).decode()
    except OSError:  # nobody has its other side open any more
        return ""


def test_a_small_model_needs_little(cancer: Made) -> None:
    with started(str(cancer.folder)) as process:
        ready = process.wait_for("ready")
        pid = process._process.pid  # noqa: SLF001
        status = Path(f"/proc/{pid}/status").read_text()
        mapped = Path(f"/proc/{pid}/maps").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]
    print(f"resident {resident:.0f} MB, ready after {ready['seconds']} s")
    assert resident < 120
    assert "sklearn" not in mapped
    assert "pandas" not in mapped
