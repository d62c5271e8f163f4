"""What a person sees of a rollout, and what the verbs ask for."""

from pathlib import Path
from typing import Any

import browser
import pytest

from modelmill.cli.actions import ACTIONS
from modelmill.cli.cluster import CommandError
from modelmill.cli.rollout import drawn
from modelmill.cli.rollout_page import page
from modelmill.cli.tree import ASCII

GATE = {
    "gate": "errorRate", "verdict": "Hold", "logE": "-0.31", "threshold": "2.995", "logEPromotion": "1.50",
    "thresholdPromotion": "3.00",
}  # fmt: skip
CANDIDATE = {
    "revision": "90ab11c2", "version": 7, "ready": 2, "step": 2, "steps": 3, "weight": 20, "shadow": 0,
    "requests": 1840, "failures": 3, "windows": 4, "state": "Running", "evidence": [GATE],
}  # fmt: skip
READY = {"type": "Ready", "status": "False", "reason": "Holding", "message": "step 2 of 3 goes on"}


def deployment(**status: Any) -> dict[str, Any]:
    said = {"stable": {"revision": "3fa94c1b", "version": 6, "ready": 2}, "conditions": [READY], **status}
    return {"metadata": {"name": "triage"}, "spec": {"rollout": {"strategy": "Canary"}}, "status": said}


def test_a_rollout_is_two_arms_its_evidence_and_what_it_waits_for() -> None:
    assert list(drawn(deployment(candidate=CANDIDATE), ASCII)) == [
        "triage  Canary, step 2 of 3, Running",
        "  stable    ########################......  80 %  3fa94c1b version 6, 2 ready",
        "  candidate ######........................  20 %  90ab11c2 version 7, 2 ready",
        "  requests 1840, failed 3, weighed 4 times",
        "  errorRate: Hold        against  .............................. ln E -0.31 of 3.00",
        "                         for it   ###############............... ln E 1.50 of 3.00",
        "  Holding: step 2 of 3 goes on",
    ]


def test_what_prometheus_was_asked_is_a_line_each() -> None:
    asked = [{"name": "revenue", "verdict": "Hold", "reason": "NoData"}]
    lines = list(drawn(deployment(candidate={**CANDIDATE, "prometheus": asked}), ASCII))
    assert lines[-2] == "  revenue: Hold (NoData)"
    shown = page(deployment(lastRollout={**ENDED, "prometheus": [{**asked[0], "reason": "<b>"}]}))
    assert shown is not None
    assert "<td>revenue</td><td>Hold</td><td>&lt;b&gt;</td>" in shown


def test_what_was_rolled_back_is_said() -> None:
    back = {"revision": "90ab11c2", "at": "2026-01-01T12:00:00Z", "reason": "EvidenceAgainst", "message": "errorRate"}
    lines = list(drawn(deployment(rolledBack=back), ASCII))
    assert "  rolled back: 90ab11c2 at 2026-01-01T12:00:00Z: EvidenceAgainst: errorRate" in lines


def test_before_anything_is_known_it_says_so() -> None:
    nothing = {"metadata": {"name": "triage"}, "spec": {}}
    assert list(drawn(nothing, ASCII)) == ["triage  RollingUpdate", "  no operator has looked at it yet"]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.NAME)
def test_each_verb_names_the_revision_that_it_is_about(action: Any) -> None:
    known = deployment(candidate=CANDIDATE, rolledBack={"revision": "77cd0a1e"})
    revision = {"retry": "77cd0a1e", "undo": "3fa94c1b"}.get(action.NAME, "90ab11c2")
    assert action.asked(known) == f"{action.NAME}@{revision}"
    again = deployment(
        candidate=CANDIDATE, rolledBack={"revision": "77cd0a1e"}, lastHandledAction=f"{action.NAME}@{revision}"
    )
    assert action.asked(again) == f"{action.NAME}@{revision}#2"
    with pytest.raises(CommandError, match=f"nothing to {action.NAME} of ModelDeployment triage"):
        action.asked({"metadata": {"name": "triage"}, "status": {}})


PASSED = {
    "step": 1, "weight": 5, "shadow": 0, "startedAt": "2026-01-01T12:00:00Z", "endedAt": "2026-01-01T12:05:00Z",
    "requests": 700, "failures": 1,
}  # fmt: skip
ENDED = {
    "revision": "77cd0a1e", "version": 5, "stable": "3fa94c1b", "strategy": "Canary", "outcome": "RolledBack",
    "reason": "EvidenceAgainst", "message": "errorRate: <script>alert(1)</script>", "startedAt": "2026-01-01T12:00:00Z",
    "endedAt": "2026-01-01T12:06:00Z", "windows": 4, "requests": 1840, "failures": 90, "evidence": [GATE],
    "passed": [PASSED, {**PASSED, "step": 2, "weight": 25, "requests": 1700, "failures": 4}],
}  # fmt: skip


@pytest.mark.parametrize("width", [390, 1280])
def test_a_finished_rollout_is_a_page_that_needs_nothing_else(chromium: str, tmp_path: Path, width: int) -> None:
    made = page(deployment(lastRollout=ENDED))
    assert made is not None
    seen = browser.seen(
        chromium, tmp_path, made, width, "rows: [...all('tr')].map(row => row.innerText), bars: boxes('.track i')"
    )
    assert seen["title"] == "Rollout of triage: it was rolled back"
    assert seen["scripts"] == seen["loaded"] == 0
    assert seen["wide"] <= 0
    assert "alert(1)" in seen["text"]
    assert [row.split()[0] for row in seen["rows"]] == ["step", "1", "2"]
    assert seen["rows"][2].split()[-2:] == ["1000", "3"]  # of that step alone
    against, in_favour = (box["width"] for box in seen["bars"])
    assert against == 0 < in_favour


def test_a_rollout_that_goes_on_comes_before_the_last_one() -> None:
    going_on = {**CANDIDATE, "startedAt": "2026-01-02T12:00:00Z"}
    made = page(deployment(lastRollout=ENDED, candidate=going_on))
    assert made is not None
    assert "it goes on" in made
    assert "90ab11c2" in made


def test_where_there_was_none_there_is_no_page() -> None:
    assert page(deployment()) is None


def test_the_last_rollout_is_named() -> None:
    assert "  last rollout: 77cd0a1e: RolledBack at 2026-01-01T12:06:00Z; --html FILE writes a page of it" in list(
        drawn(deployment(lastRollout=ENDED), ASCII)
    )
