"""A real Prometheus, beside the tests, with series of two namespaces."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from programs import installed

OURS, THEIRS = "team-a", "team-b"
# What is scraped lately, and all the same value: (series, value).
SERIES = {
    OURS: (
        ("orders_total", 40),
        ('revenue{model_version="6"}', 100),
        ('revenue{model_version="7"}', 97),
        ("gap", "NaN"),
    ),
    THEIRS: (("orders_total", 2), ("secret", 1234), ('revenue{model_version="7"}', 1)),
}


class PrometheusServer(NamedTuple):
    url: str
    process: "subprocess.Popen[bytes]"

    def ask(self, query: str, **more: str) -> Any:
        """The answer to an instant query, an error included."""
        form = urllib.parse.urlencode({"query": query, **more}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query", form, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)


@contextmanager
def running() -> Iterator[PrometheusServer]:
    """A new Prometheus that has just read what a server of ours exposes."""
    program = installed("prometheus")
    folder = Path(tempfile.mkdtemp(prefix="mmill-prom-"))
    user: dict[str, object] = {}
    (folder / "metrics").write_text(_openmetrics(int(time.time())))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    (folder / "config.yml").write_text("global: {}\n")
    command = [program, f"--config.file={folder / 'config.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    blocks = ["tsdb", "create-blocks-from", "openmetrics", str(folder / "metrics"), str(folder / "data")]
    try:
        promtool = str(Path(program).resolve().with_name("promtool"))
        subprocess.run([promtool, *blocks], check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        listen = f"--web.listen-address=127.0.0.1:{port}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, listen], cwd=folder, stderr=log, **user)  # type: ignore[call-overload]
        try:
            _wait(f"http://127.0.0.1:{port}/-/ready", process, folder / "log")
            yield PrometheusServer(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _openmetrics(now: int) -> str:
    """Every series with a sample each half a minute of the last ten."""
    by_name: dict[str, list[str]] = {}
    for namespace, series in SERIES.items():
        for name, value in series:
            plain, _, labels = name.rstrip("}").partition("{")
            inside = ",".join(part for part in (labels, f'namespace="{namespace}"') if part)
            lines = by_name.setdefault(plain, [])
            lines += [f"{plain}{{{inside}}} {value} {now - age}" for age in range(600, -601, -30)]
    return "".join(f"# TYPE {name} unknown\n" + "\n".join(lines) + "\n" for name, lines in by_name.items()) + "# EOF\n"


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
