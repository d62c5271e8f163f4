"""The log: one JSON object a line, and its levels mean what they say."""

import json
import logging

import pytest

from modelmill.shell import logs


@pytest.mark.parametrize(
    ("name", "text", "level"),
    [
        ("kopf._cogs.clients.watching", "Request attempt #1 failed; will retry: GET ...", "warning"),
        ("kopf._cogs.clients.watching", "Request attempt #9 failed; escalating: GET ...", "error"),
        ("kopf._core.reactor.running", "Watcher for datasets has failed: half an answer", "warning"),
        ("modelmill.shell.process", "the end of all; will retry", "error"),
    ],
)
def test_only_what_is_not_tried_again_is_an_error(
    capsys: pytest.CaptureFixture[str], name: str, text: str, level: str
) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        logs.configure("info")
        logging.getLogger(name).error(text)
    finally:
        root.handlers, root.level = before
    entry = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (entry["level"], entry["message"]) == (level, text)
