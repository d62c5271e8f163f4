"""The examples of docs/serving.md run, and give what stands there."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from artifacts import Made
from serving import Server, serving

TEXT = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
# A command, and what it prints, where that stands behind it.
EXAMPLES = re.findall(r"^```(sh|python)\n(.*?)^```\n(?:```json\n(.*?)^```\n)?", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def triage(cancer: Made) -> Iterator[Server]:
    with serving(cancer, name="triage") as server:
        yield server


def test_there_are_examples() -> None:
    assert [language for language, _, _ in EXAMPLES].count("sh") >= 2
    assert sum(bool(expected) for _, _, expected in EXAMPLES) >= 2


@pytest.mark.parametrize(("language", "code", "expected"), EXAMPLES)
def test_an_example(triage: Server, language: str, code: str, expected: str) -> None:
    code = code.replace("localhost:8080", f"127.0.0.1:{triage.port}")
    command = ["sh", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    if expected:
        assert json.loads(run.stdout) == json.loads(expected)


def test_the_paths_in_the_table_are_those_of_the_openapi_document(triage: Server) -> None:
    told = set()
    for cells in re.findall(r"^\|.*\| (?:GET|POST) (.*) \|$", TEXT, re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", cells):
            told |= {re.sub(r"\[.*\]", "", path), path.replace("[", "").replace("]", "")}
    paths = set(triage.ask("GET", "/v2/docs/openapi.json").json["paths"])
    assert told == {*paths, "/v2/docs/openapi.json"}
