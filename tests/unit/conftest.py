"""Fixtures that several folders share: a real S3 server on loopback, a real PostgreSQL on a socket."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server

import postgres_server
from postgres_server import PostgresServer
from programs import installed

_HACK = Path(__file__).parents[2] / "hack"
_MODULE = _HACK / "go" / "versitygw"


def _binary() -> Path:
    """The gateway that hack/cluster builds too, built here where it is not there yet."""
    version = re.search(r"github.com/versity/versitygw (v\S+)", (_MODULE / "go.mod").read_text())
    assert version, "hack/go/versitygw/go.mod names no version"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelmill"
    cache = Path(os.environ.get("MODELMILL_CACHE") or home)
    path = cache / "bin" / f"versitygw-{version[1]}" / "versitygw"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        build = ["go", "build", "-trimpath", "-o", str(path), "github.com/versity/versitygw/cmd/versitygw"]
        subprocess.run(build, cwd=_MODULE, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return path


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server without buckets."""
    folder = tmp_path_factory.mktemp("s3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = S3Server(f"http://127.0.0.1:{port}", "test-access", "test-secret-key", folder)
    variables = {**os.environ, "ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
    command = [str(_binary()), "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, f"versitygw ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("versitygw does not listen")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real browser."""
    return installed("chromium")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL on a socket."""
    with postgres_server.running() as server:
        yield server
