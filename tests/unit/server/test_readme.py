"""The README's lines without Kubernetes, install, serve and predict, in an environment that has nothing yet."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from artifacts import Made
from serving import Process

ROOT = Path(__file__).parents[3]


def lines() -> list[str]:
    """The section's first commands, each with what belongs to it."""
    section = (ROOT / "README.md").read_text().partition("### Without Kubernetes\n")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return re.findall(r"^\w.*\n(?: .*\n)*", block, re.MULTILINE)


def test_they_are_three() -> None:
    assert [line.split()[0] for line in lines()] == ["pip", "modelmill-server", "curl"]


@pytest.mark.slow
def test_they_work_in_a_fresh_environment(cancer: Made, tmp_path: Path) -> None:
    install, serve, predict = lines()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    path = f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"
    fresh = {"PATH": path, "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(["sh", "-ec", install], cwd=ROOT, env={**os.environ, **fresh}, check=True, timeout=1200)
    shutil.copytree(cancer.folder, tmp_path / "model")
    command = serve.partition("#")[0].strip()
    ports = "--port 0 --grpc-port 0 --metrics-port 0"
    server = Process(command=["sh", "-c", f"cd {tmp_path} && exec {command} {ports}"], variables=fresh)
    try:
        server.wait_for("ready")
        port = server.wait_for("listening")["port"]
        assert str(tmp_path / "venv") in Path(f"/proc/{server.pid}/cmdline").read_text()
        asked = predict.replace("localhost:8080", f"127.0.0.1:{port}")
        answer = subprocess.run(["sh", "-ec", asked], capture_output=True, text=True, check=True, timeout=60)
    finally:
        server.end()
    assert json.loads(answer.stdout) == {"predictions": [0]}
    told = re.search(r"`(\{\"predictions\".*?\})`", (ROOT / "README.md").read_text())
    assert told is not None
    assert answer.stdout == told[1]
