"""A real S3 server, as tests see it (the fixture `s3` of conftest.py runs one for all of them)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from live import ROOT
from modelmill_contracts import environment
from modelmill_contracts.task import StoreLocation


class S3Server(NamedTuple):
    """versitygw over a folder: a bucket is a folder in it."""

    endpoint: str
    access_key: str
    secret_key: str
    folder: Path
    process: subprocess.Popen[bytes]

    def bucket(self, name: str) -> StoreLocation:
        (self.folder / name).mkdir(exist_ok=True)
        return StoreLocation(f"s3://{name}", self.endpoint)

    def keys(self, secret_key: str | None = None) -> dict[str, str]:
        return {
            environment.STORE_ACCESS_KEY: self.access_key,
            environment.STORE_SECRET_KEY: secret_key or self.secret_key,
        }

    def admin(self, *words: str) -> None:
        """Carry out an administrator's command, such as to make a user."""
        asked = ["--access", self.access_key, "--secret", self.secret_key, "--endpoint-url", self.endpoint, *words]
        subprocess.run([str(_binary()), "admin", *asked], check=True, capture_output=True)


@contextmanager
def running(folder: Path, *options: str, port: int | None = None) -> Iterator[S3Server]:
    """A server of that folder on that port, or a free one, with more options than it needs."""
    port = port or free_port()
    endpoint, access, secret = f"http://127.0.0.1:{port}", "test-access", "test-secret-key"
    variables = {**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret}
    command: Sequence[str] = [
        *(str(_binary()), "--quiet", "--port", f"127.0.0.1:{port}", *options),
        *("posix", str(folder)),
    ]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield S3Server(endpoint, access, secret, folder, process)
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _binary() -> Path:
    """The gateway of hack/cluster, built here where it is not there yet."""
    sys.path.append(str(ROOT / "hack"))
    from local_cluster import build
    from local_cluster.versions import component

    build.ensure_built(build.STORE)
    return component(*build.STORE).program("versitygw")


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
