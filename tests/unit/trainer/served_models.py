"""Servers of artifacts on loopback, and a Model's tests asked of them, as in a Job's pod."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trainer_tasks import run

from modelmill_contracts import artifact, digest
from modelmill_contracts.report import ModelTestResult, Outcome, Report
from modelmill_contracts.task import ModelTestTask, Served, StoreLocation, Tests


@contextmanager
def serving(place: Path) -> Iterator[Served]:
    """A server of the artifact in this folder, as a sidecar runs it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    expected = digest.of_file(place / artifact.MANIFEST)
    words = ["serve", str(place), "--name=triage", "--version=7", f"--digest={expected}", "--host=127.0.0.1"]
    ports = [f"--port={port}", "--grpc-port=", "--metrics-port=0", "--drain-seconds=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "modelmill_server", *words, *ports], stdout=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        yield Served(expected, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(60)


def outcomes(said: Report) -> tuple[Outcome, ...]:
    assert said.ok, said
    assert isinstance(said.result, ModelTestResult)
    return said.result.outcomes


def asked(store: StoreLocation, place: Path, tests: Tests, baseline: Path | None = None) -> tuple[Outcome, ...]:
    with ExitStack() as stack:
        candidate = stack.enter_context(serving(place))
        other = stack.enter_context(serving(baseline)) if baseline is not None else None
        return outcomes(run(ModelTestTask(store, "triage", tests, candidate, other)))
