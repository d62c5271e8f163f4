"""Windows: differences of what pods count, never negative, and nothing twice."""

import msgspec
import pytest
from rolling_out import BINS, arm

from modelmill.core import windows
from modelmill.core.windows import Counted, Counts
from modelmill.stats.window import Window
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


def copied(stable: int, candidate: int, failures: int, compared: int, agreed: int) -> Counted:
    shadow = counters.Shadow(arm(stable, 0), arm(candidate, failures), compared=compared, agreed=agreed)
    counts = Counts(epoch=EPOCH, stable=arm(1000, 1), candidate=arm(0, 0), shadow=shadow)
    return Counted(version=1, started=1.0, rollout=counts)


def copies(before: Counted, now: Counted) -> tuple[tuple[int, int, int], int, int]:
    window = windows.opened(EPOCH, {"a": before}, {"a": now}, copies=True)
    requests = (window.control.requests, window.candidate.requests, window.candidate.failures)
    assert (window.control.latency[0], window.candidate.latency[0]) == (requests[0], requests[1] - requests[2])
    return requests, window.compared, window.agreed


def test_a_window_of_copies_is_the_difference_too() -> None:
    assert copies(copied(100, 90, 3, 80, 70), copied(150, 130, 8, 110, 95)) == ((50, 40, 5), 30, 25)


def test_before_the_first_copy_there_were_none() -> None:
    assert copies(counted(1000, 0), copied(50, 40, 5, 30, 25)) == ((50, 40, 5), 30, 25)
    assert windows.opened(EPOCH, {"a": counted(0, 0)}, {"a": counted(9, 9)}, copies=True) == Window()


@pytest.mark.parametrize(
    "before",
    [
        copied(51, 40, 5, 30, 25),
        copied(50, 41, 5, 30, 25),
        copied(50, 40, 6, 30, 25),
        copied(50, 40, 5, 31, 25),
        copied(50, 40, 5, 30, 26),
    ],
)
def test_copies_of_which_any_count_went_down_are_counted_from_zero(before: Counted) -> None:
    assert copies(before, copied(50, 40, 5, 30, 25)) == ((50, 40, 5), 30, 25)


def test_no_more_agree_than_are_compared_though_processes_are_read_one_after_the_other() -> None:
    assert copies(copied(10, 10, 0, 10, 5), copied(12, 12, 0, 11, 8)) == ((2, 2, 0), 1, 1)


def test_the_window_of_several_pods_has_the_pods_after_one_that_cannot_be_compared() -> None:
    baseline = {"b": counted(0, 0), "c": counted(0, 0), "d": counted(10, 1)}
    answers = {
        "a": counted(7, 7),  # it is new
        "b": Counted(version=1, started=1.0),  # it knows of no rollout yet
        "c": counted(5, 5, epoch="another"),
        "d": counted(30, 3),
    }
    assert sums(baseline, answers) == (20, 2, 0)


def snapshot(**changes: object) -> bytes:
    latency = {"counts": [0] * BINS, "total": 0.0}
    whole = {"requests": 2, "failures": 1, "compute": latency}
    found = {"version": 1, "started": 1.5, "model": "m", "rows": 7}
    return msgspec.json.encode({**found, "rollout": {"epoch": "e", "stable": whole, "candidate": whole}, **changes})


def of_copies(agreed: int, compared: int, **changes: int) -> bytes:
    latency = {"counts": [0] * BINS, "total": 0.0}
    plain = {"requests": 0, "failures": 0, "compute": latency}
    shadow = {"stable": plain, "candidate": {**plain, **changes}, "agreed": agreed, "compared": compared}
    return snapshot(rollout={"epoch": "e", "stable": plain, "candidate": plain, "shadow": shadow})


@pytest.mark.parametrize(("agreed", "compared"), [(0, 0), (0, 1), (2, 2)])
def test_of_copies_none_or_all_may_agree(agreed: int, compared: int) -> None:
    found = windows.decode(of_copies(agreed, compared)).rollout
    assert found is not None
    assert found.shadow is not None
    assert (found.shadow.agreed, found.shadow.compared) == (agreed, compared)


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
        snapshot().replace(b'"failures":1', b'"failures":-1', 1),
        snapshot().replace(b"[0,", b"[-1,", 1),
        snapshot().replace(b"[0,", b"[", 1),
        of_copies(-1, 1),
        of_copies(2, 1),
        of_copies(0, 0, requests=-1),
    ],
)
def test_what_makes_no_sense_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its words are for nobody
        windows.decode(body)
