"""Windows: differences of what pods count, never negative, and nothing twice."""

import msgspec
import pytest
from rolling_out import BINS, arm

from modelmill.core import windows
from modelmill.core.windows import Counted, Counts
from modelmill_contracts import counters

EPOCH = "90ab11c2-5c1f0a9b-2026-01-01T12:00:00Z"


def counted(stable: int, candidate: int, failures: int = 0, *, epoch: str = EPOCH, started: float = 1.0) -> Counted:
    counts = Counts(epoch=epoch, stable=arm(stable, 0), candidate=arm(candidate, failures))
    return Counted(version=1, started=started, rollout=counts)


def sums(baseline: dict[str, Counted], answers: dict[str, Counted]) -> tuple[int, int, int]:
    window = windows.opened(EPOCH, baseline, answers, copies=False)
    return window.control.requests, window.candidate.requests, window.candidate.failures


def test_a_window_is_the_sum_of_what_pods_counted_since_it_began() -> None:
    baseline = {"a": counted(90, 10, 1), "b": counted(900, 100, 2)}
    assert sums(baseline, {"a": counted(180, 20, 2), "b": counted(900, 101, 2)}) == (90, 11, 1)


def test_a_pod_that_nobody_asked_before_begins_with_its_first_answer() -> None:
    assert sums({}, {"a": counted(90, 10)}) == (0, 0, 0)


def test_a_pod_that_went_away_is_left_out() -> None:
    assert sums({"a": counted(90, 10), "gone": counted(9000, 1000)}, {"a": counted(91, 10)}) == (1, 0, 0)


@pytest.mark.parametrize(
    "before",
    [
        counted(900, 100, 50, started=0.5),  # another process
        counted(900, 100, 50, epoch="another"),
        counted(10, 9, 0),  # a count went down: 9 to 5
        Counted(version=1, started=1.0),  # it did not know of the rollout
    ],
)
def test_a_pod_that_began_at_zero_is_counted_from_zero(before: Counted) -> None:
    assert sums({"a": before}, {"a": counted(20, 5, 1)}) == (20, 5, 1)


def test_counts_of_another_epoch_are_no_part_of_it() -> None:
    assert sums({"a": counted(0, 0)}, {"a": counted(90, 10, epoch="another")}) == (0, 0, 0)


def test_failures_are_never_more_than_requests_though_processes_are_read_one_after_the_other() -> None:
    late = arm(10, 0)
    now = Counts(epoch=EPOCH, stable=arm(90, 0), candidate=counters.Arm(11, 2, late.compute))
    before = counted(90, 10)
    assert sums({"a": before}, {"a": Counted(version=1, started=1.0, rollout=now)}) == (0, 1, 1)


def test_copies_are_counted_by_themselves() -> None:
    shadow = counters.Shadow(stable=arm(100, 1), candidate=arm(100, 3), compared=96, agreed=90)
    counts = Counts(epoch=EPOCH, stable=arm(1000, 1), candidate=arm(0, 0), shadow=shadow)
    window = windows.opened(
        EPOCH, {"a": counted(0, 0)}, {"a": Counted(version=1, started=1.0, rollout=counts)}, copies=True
    )
    assert (window.control.requests, window.candidate.requests, window.candidate.failures) == (100, 100, 3)
    assert (window.compared, window.agreed) == (96, 90)
    assert window.candidate.latency[0] == 97


def snapshot(**changes: object) -> bytes:
    latency = {"counts": [0] * BINS, "total": 0.0}
    whole = {"requests": 2, "failures": 1, "compute": latency}
    found = {"version": 1, "started": 1.5, "model": "m", "rows": 7}
    return msgspec.json.encode({**found, "rollout": {"epoch": "e", "stable": whole, "candidate": whole}, **changes})


def test_of_a_snapshot_only_what_a_window_takes_is_read() -> None:
    found = windows.decode(snapshot())
    assert found.rollout is not None
    assert (found.started, found.rollout.candidate.failures) == (1.5, 1)
    assert windows.decode(snapshot(rollout=None)).rollout is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        snapshot(version=2),
        snapshot(rollout={"epoch": "e", "stable": {"requests": 1, "failures": 0}}),
        snapshot().replace(b'"requests":2', b'"requests":-2', 1),
        snapshot().replace(b"[0,", b"[", 1),
    ],
)
def test_what_makes_no_sense_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its words are for nobody
        windows.decode(body)
