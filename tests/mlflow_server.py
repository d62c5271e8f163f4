"""A real MLflow server on loopback, with a database of its own, and what it has by its own word."""

import base64
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from environments import environment

_NEEDED: dict[str, tuple[str, ...]] = {
    "3.17.2": (),
    "2.22.5": ("sqlalchemy<2.1",),  # newer ones lack what it imports
}
VERSIONS = tuple(_NEEDED)  # the newest first
ADMIN = ("admin", "of-the-tests-alone")


class MlflowServer(NamedTuple):
    url: str
    python: Path
    authorization: str = ""

    def ask(self, path: str, body: Any = None, **query: str) -> Any:
        """The answer of its REST API; of what it refuses, urllib's HTTPError."""
        where = f"{self.url}/api/2.0/mlflow/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Content-Type": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        asked = urllib.request.Request(where, None if body is None else json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def experiment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("experiments/get-by-name", experiment_name=name)["experiment"]
        return found

    def runs(self, experiment: str, view: str = "ALL") -> list[dict[str, Any]]:
        """The runs of the experiment of that name, by the names of the runs; none where it is not there."""
        try:
            id_ = self.experiment(experiment)["experiment_id"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []
        body = {"experiment_ids": [id_], "run_view_type": view, "max_results": 1000}
        found: list[dict[str, Any]] = self.ask("runs/search", body).get("runs", [])
        return sorted(found, key=lambda run: str(run["info"]["run_name"]))

    def told(self, program: str) -> Any:
        """What MLflow's own client prints as JSON: `program` is Python that has `client`, and `json`."""
        begin = f"import json, mlflow\nclient = mlflow.MlflowClient({self.url!r})\n"
        variables = {**os.environ, "PYTHONPATH": ""}
        done = subprocess.run(
            [str(self.python), "-c", begin + program], env=variables, check=True, capture_output=True, text=True
        )
        return json.loads(done.stdout)


@contextmanager
def running(folder: Path, version: str, *, auth: bool = False, address: str = "127.0.0.1") -> Iterator[MlflowServer]:
    """A new server in the empty folder; with `auth` one that asks for a user and a password."""
    python = environment(f"mlflow-{version}", f"mlflow[auth]=={version}", *_NEEDED[version])
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    command = [
        *(str(python.with_name("mlflow")), "server", "--host", address, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--default-artifact-root", str(folder / "artifacts")),
        *(("--app-name", "basic-auth") if auth else ()),
    ]
    variables = {
        **os.environ,
        "PYTHONPATH": "",
        "HOME": str(folder),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
    }
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        variables.pop(name, None)
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    if auth:
        (folder / "auth.ini").write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{folder / 'auth.db'}\nadmin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        variables["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "auth.ini")
    variables["MLFLOW_SERVER_ALLOWED_HOSTS"] = f"{address}:*,localhost:*"
    url, log = f"http://{address}:{port}", folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(f"{url}/health", process, log)
        word = base64.b64encode(":".join(ADMIN).encode()).decode()
        yield MlflowServer(url, python, f"Basic {word}" if auth else "")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # with its workers
        process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
