"""What the gates' evidence means: any gate sends back, all that can speak must before the last step is taken."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import pytest

from modelmill.stats.policy import Decision, Evidence, Finding, Step, Verdict, decide, findings
from modelmill.stats.record import Record
from modelmill.stats.window import Window


@dataclass(frozen=True)
class Known:
    """A gate whose evidence is given."""

    against: float = -1.0
    in_favour: float | None = None

    def update(self, window: Window) -> Self:  # noqa: ARG002
        return self

    def record(self) -> Record:
        return ()

    def restored(self, record: Sequence[object]) -> Self:  # noqa: ARG002
        return self


GOOD, UNSURE, BAD, QUIET = Known(-1, 9), Known(-1, 1), Known(9, -5), Known(-1)
LAST = Step(hold_passed=True, last=True, requests=500, min_requests=500)


def decided(step: Step, **gates: Evidence) -> Decision:
    return decide(findings(gates, 0.05), step)


def test_each_of_several_gates_rejects_at_its_share_and_promotes_at_all_of_alpha() -> None:
    one, other = findings({"errorRate": Known(3.5, 3.1), "latency": Known(3.7)}, 0.05)
    assert one == Finding("errorRate", Verdict.PROMOTE, 3.5, math.log(40), 3.1, math.log(20))
    assert other == Finding("latency", Verdict.REJECT, 3.7, math.log(40), None, math.log(20))
    assert findings({"errorRate": Known(3.5, 2.9)}, 0.05)[0].verdict is Verdict.REJECT  # the only gate has all of it


def test_evidence_against_counts_more_than_evidence_in_favour() -> None:
    assert findings({"errorRate": Known(9, 9)}, 0.05)[0].verdict is Verdict.REJECT


def test_a_gate_against_sends_back_at_once() -> None:
    early = Step(hold_passed=False, last=False, requests=1, min_requests=500)
    decision = decided(early, errorRate=GOOD, latency=Known(9))
    assert (decision.verdict, decision.reason) == (Verdict.REJECT, "EvidenceAgainst")
    assert decision.gate is not None
    assert decision.gate.gate == "latency"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (replace(LAST, requests=499), "TooFewRequests"),
        (replace(LAST, requests=0, hold_passed=False), "TooFewRequests"),
        (replace(LAST, hold_passed=False), "Holding"),
        (replace(LAST, hold_passed=False, last=False), "Holding"),
    ],
)
def test_it_waits(step: Step, reason: str) -> None:
    assert decided(step, errorRate=GOOD) == Decision(Verdict.HOLD, reason)


def test_a_step_before_the_last_is_taken_without_evidence_in_favour() -> None:
    assert decided(replace(LAST, last=False), errorRate=UNSURE).verdict is Verdict.PROMOTE


def test_the_last_step_waits_for_every_gate_that_can_speak() -> None:
    decision = decided(LAST, errorRate=GOOD, agreement=UNSURE, latency=QUIET)
    assert (decision.verdict, decision.reason) == (Verdict.HOLD, "NotEnoughEvidence")
    assert decision.gate is not None
    assert decision.gate.gate == "agreement"
    assert decided(LAST, errorRate=GOOD, agreement=GOOD, latency=QUIET) == Decision(Verdict.PROMOTE, "Passed")


@pytest.mark.parametrize("gates", [{}, {"latency": QUIET}])
def test_where_no_gate_can_speak_luck_does_not_promote(gates: dict[str, Evidence]) -> None:
    assert decided(LAST, **gates) == Decision(Verdict.HOLD, "NoGatePromotes")


def test_of_all_that_can_be_nothing_is_promoted_against_a_gate_or_without_evidence() -> None:
    kinds = (GOOD, UNSURE, BAD, QUIET)
    for a, b, hold_passed, last, requests in product(kinds, kinds, (True, False), (True, False), (0, 500)):
        decision = decided(Step(hold_passed, last, requests, 500), a=a, b=b)
        assert (decision.verdict is Verdict.REJECT) == (BAD in (a, b))
        if decision.verdict is Verdict.PROMOTE:
            assert hold_passed
            assert requests
            assert not last or (GOOD in (a, b) and UNSURE not in (a, b))
