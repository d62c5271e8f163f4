"""Each policy of a rollout by itself, and what each strategy's chain makes of them."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from modelmill.core import queries, verdicts
from modelmill.core.queries import Found
from modelmill.core.strategies import STRATEGIES
from modelmill.core.verdicts import Input, Verdict, ruled
from modelmill.stats.gates import Finding
from modelmill.stats.gates import Verdict as OfGate


def finding(verdict: OfGate = OfGate.PROMOTE, gate: str = "errorRate", in_favour: float | None = 5.0) -> Finding:
    return Finding(gate, verdict, against=1.0, reject_at=3.0, in_favour=in_favour, promote_at=3.0)


def found(**changes: Any) -> Input:
    """The last of three steps, with everything that it takes."""
    return Input(
        **{
            "name": "triage", "step": 3, "steps": 3, "paused": False, "hold_left": timedelta(), "overdue": False,
            "last_copies": False, "requests": 500, "min_requests": 500, "findings": (finding(),), **changes,
        }
    )  # fmt: skip


AGAINST = (finding(), finding(OfGate.REJECT, "latency", None))
UNSURE = (finding(OfGate.HOLD),)
INSIDE = Found("revenue", OfGate.PROMOTE, queries.INSIDE)
SILENT = Found("latency", OfGate.HOLD, queries.SLOW)
OUT = Found("latency", OfGate.REJECT, queries.OUTSIDE, 3)
UNLIKE = (finding(), finding(OfGate.HOLD, "agreement"))


@pytest.mark.parametrize(
    ("policy", "changes", "reason"),
    [
        (verdicts.rejected, {"findings": AGAINST}, "EvidenceAgainst"),
        (verdicts.rejected, {}, None),
        (verdicts.paused, {"paused": True}, "Paused"),
        (verdicts.paused, {}, None),
        (verdicts.overdue, {"overdue": True}, "Inconclusive"),
        (verdicts.overdue, {"overdue": True, "hold_left": None}, None),
        (verdicts.overdue, {}, None),
        (verdicts.too_few_requests, {"requests": 499}, "TooFewRequests"),
        (verdicts.too_few_requests, {}, None),
        (verdicts.held, {"hold_left": timedelta(seconds=1)}, "Holding"),
        (verdicts.held, {"hold_left": None}, "WaitingForResume"),
        (verdicts.held, {}, None),
        (verdicts.rejected, {"queries": (INSIDE, OUT)}, "PrometheusAgainst"),
        (verdicts.rejected, {"queries": (INSIDE, SILENT)}, None),
        (verdicts.unbounded, {"queries": (INSIDE, SILENT)}, "WaitingForPrometheus"),
        (verdicts.unbounded, {"queries": (INSIDE,)}, None),
        (verdicts.unbounded, {}, None),
        (verdicts.unlike, {"last_copies": True, "findings": UNLIKE}, "NotEnoughEvidence"),
        (verdicts.unlike, {"findings": UNLIKE}, None),
        (verdicts.unlike, {"last_copies": True, "findings": UNSURE}, None),
        (verdicts.unproven, {"findings": UNSURE}, "NotEnoughEvidence"),
        (verdicts.unproven, {"findings": UNSURE, "step": 2}, None),
        (verdicts.unproven, {"findings": (finding(), finding(OfGate.HOLD, "latency", None))}, None),
        (verdicts.left_to_somebody, {}, "WaitingForPromote"),
        (verdicts.left_to_somebody, {"step": 2}, None),
        (verdicts.passed, {}, "StepPassed"),
    ],
)
def test_a_policy_says_something_only_where_it_is_about_that(
    policy: verdicts.Policy, changes: dict[str, Any], reason: str | None
) -> None:
    ruling = policy(found(**changes))
    assert (ruling.reason if ruling is not None else None) == reason


@pytest.mark.parametrize(
    ("strategy", "changes", "verdict", "reason"),
    [
        # Evidence against it counts in every state of things.
        ("Canary", {"findings": AGAINST, "paused": True, "overdue": True, "requests": 1}, Verdict.REJECT, None),
        ("Shadow", {"findings": AGAINST, "hold_left": None}, Verdict.REJECT, None),
        ("Canary", {"paused": True, "overdue": True}, Verdict.HOLD, "Paused"),
        ("Canary", {"overdue": True, "findings": UNSURE}, Verdict.INCONCLUSIVE, "Inconclusive"),
        # Luck does not promote after the deadline either.
        ("BlueGreen", {"overdue": True}, Verdict.INCONCLUSIVE, "Inconclusive"),
        ("Canary", {"hold_left": timedelta(1), "requests": 0}, Verdict.HOLD, "TooFewRequests"),
        ("Canary", {"findings": UNSURE}, Verdict.HOLD, "NotEnoughEvidence"),
        ("Canary", {"findings": UNSURE, "step": 2}, Verdict.ADVANCE, "StepPassed"),
        ("Canary", {}, Verdict.ADVANCE, "StepPassed"),
        ("BlueGreen", {}, Verdict.ADVANCE, "StepPassed"),
        ("Canary", {"queries": (OUT,), "paused": True, "step": 1}, Verdict.REJECT, "PrometheusAgainst"),
        ("Canary", {"queries": (SILENT,), "step": 1}, Verdict.HOLD, "WaitingForPrometheus"),
        ("Canary", {"queries": (SILENT,), "overdue": True}, Verdict.INCONCLUSIVE, "Inconclusive"),
        ("BlueGreen", {"queries": (SILENT,)}, Verdict.HOLD, "WaitingForPrometheus"),
        ("Shadow", {"queries": (SILENT,)}, Verdict.HOLD, "WaitingForPrometheus"),
        ("Shadow", {"queries": (INSIDE,)}, Verdict.HOLD, "WaitingForPromote"),
        ("Shadow", {}, Verdict.HOLD, "WaitingForPromote"),
        ("Shadow", {"step": 2}, Verdict.ADVANCE, "StepPassed"),
    ],
)
def test_the_first_policy_of_a_strategy_that_says_something_decides(
    strategy: str, changes: dict[str, Any], verdict: Verdict, reason: str | None
) -> None:
    ruling = ruled(STRATEGIES[strategy].policies, found(**changes))
    assert ruling.verdict is verdict
    assert reason in (None, ruling.reason)


def test_of_all_that_can_be_nothing_advances_against_a_gate_too_soon_or_without_evidence() -> None:
    gates = [finding(verdict) for verdict in OfGate]
    holds = (None, timedelta(), timedelta(1))
    for a, b, query, paused, hold, overdue, step, requests in product(
        gates, gates, (INSIDE, SILENT, OUT), (False, True), holds, (False, True), (2, 3), (0, 500)
    ):
        seen = found(
            findings=(a, b), queries=(query,), paused=paused, hold_left=hold, overdue=overdue, step=step,
            requests=requests,
        )  # fmt: skip
        ruling = ruled(verdicts.BY_EVIDENCE, seen)
        against = OfGate.REJECT in (a.verdict, b.verdict, query.verdict)
        assert (ruling.verdict is Verdict.REJECT) == against
        if ruling.verdict is Verdict.ADVANCE:
            assert requests == 500
            assert hold == timedelta()
            assert not paused
            assert query is INSIDE
            assert step == 2 or a.verdict is b.verdict is OfGate.PROMOTE


def test_what_nobody_declares_is_a_step_of_minutes_and_a_copy_of_each_request() -> None:
    minutes = {name: [step.hold for step in strategy.steps] for name, strategy in STRATEGIES.items()}
    five, ten = timedelta(minutes=5), timedelta(minutes=10)
    assert minutes == {"RollingUpdate": [], "Canary": [five] * 3, "BlueGreen": [ten], "Shadow": [ten]}
    copies = {name: [step.shadow for step in strategy.steps] for name, strategy in STRATEGIES.items()}
    assert copies == {"RollingUpdate": [], "Canary": [0, 0, 0], "BlueGreen": [100], "Shadow": [100]}
    assert [name for name, strategy in STRATEGIES.items() if strategy.policies == ()] == ["RollingUpdate"]


def test_only_a_rolling_update_has_no_steps_and_only_a_canary_gives_requests() -> None:
    assert [name for name, strategy in STRATEGIES.items() if not strategy.steps] == ["RollingUpdate"]
    weights = {name: [step.weight for step in strategy.steps] for name, strategy in STRATEGIES.items()}
    assert weights == {"RollingUpdate": [], "Canary": [5, 25, 50], "BlueGreen": [0], "Shadow": [0]}
