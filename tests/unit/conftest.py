"""Fixtures that several folders share: a real S3 server on loopback, a real PostgreSQL on a socket."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import OWNER, PASSWORD, READER, PostgresServer
from s3_server import S3Server

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


def installed(name: str) -> str:
    """The path of a program of Debian's that tests need, installed where it is missing."""
    if str(_HACK) not in sys.path:
        sys.path.insert(0, str(_HACK))
    from local_cluster import packages

    packages.ensure({name: packages.TESTS[name]})
    found = packages.program(name)
    assert found, f"{name} is still missing"
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real browser."""
    return installed("chromium")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL; it refuses root, which then lends it to nobody."""
    programs = Path(installed("postgres")).resolve().parent  # it may be a link to where the others are
    # Not pytest's folder, which only its owner may enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="mmill-pg-"))
    secret = folder / "password"
    secret.write_text(PASSWORD)
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in (folder, secret):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        variables = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(command, check=True, cwd=folder, env=variables, stdout=subprocess.DEVNULL, **user)

    try:
        run("initdb", "-A", "scram-sha-256", "-U", OWNER, f"--pwfile={secret}", "--no-sync")
        options = f"-c listen_addresses='' -c fsync=off -k {folder}"
        run("pg_ctl", "--wait", "-l", str(folder / "log"), "-o", options, "start")
        try:
            server = PostgresServer(folder, str(programs / "psql"))
            server.run(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
            server.run(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}")
            yield server
        finally:
            run("pg_ctl", "--wait", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
