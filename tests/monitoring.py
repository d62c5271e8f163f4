"""What manifests/monitoring declares, as tests read it, and a real Prometheus that goes by it."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from live import ROOT
from programs import installed

FOLDER = ROOT / "manifests/monitoring"
_NAME = re.compile(r"modelmill[a-z0-9_:]+")


def groups() -> list[dict[str, Any]]:
    """The rules, as Prometheus' own files have them."""
    found: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]["groups"]
    return found


def rule_file(folder: Path) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": groups()}))
    return path


def rules() -> list[dict[str, Any]]:
    return [rule for group in groups() for rule in group["rules"]]


def panels() -> dict[str, list[str]]:
    """The dashboard's queries by panel, with everything chosen."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    found = {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in dashboard["panels"]}
    return {title: [re.sub(r"\$[a-z]+", ".*", query) for query in queries] for title, queries in found.items()}


def names_in(query: str) -> set[str]:
    """The metrics that a query reads; words inside of strings are none."""
    return set(_NAME.findall(re.sub(r'"[^"]*"', "", query)))


def monitor(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())["spec"]
    return found


class Prometheus:
    """One that runs on this machine."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; OSError where there is none, or it is a refusal."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return found

    def value(self, query: str) -> float | None:
        """Of the one sample; None where there is none."""
        found = self.query(query)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """The alerts that are not just pending."""
        return {a["labels"]["alertname"] for a in self.ask("alerts")["alerts"] if a["state"] == "firing"}


@contextmanager
def running(folder: Path, scrapes: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Prometheus with our rules and these targets, looked at each second."""
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rule_file(folder))],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        installed("prometheus"), f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    environment = {**os.environ, "GOMAXPROCS": "1"}
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            prometheus = Prometheus(port)
            _wait_for(prometheus, process, folder / "prometheus.log")
            yield prometheus
        finally:
            process.terminate()
            process.wait()


def _wait_for(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()
        try:
            prometheus.query("1")
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return
