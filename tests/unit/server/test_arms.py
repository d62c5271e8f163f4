"""What workers count of a rollout: by epoch, exact over all of them, and readable while it is written."""

from typing import Any

import pytest

from modelmill_contracts.counters import FAILURES, FALLBACKS
from modelmill_server import arms
from modelmill_server.arms import SIZE, Arms, total


def made(count: int = 1) -> list[Arms]:
    memory = memoryview(bytearray(count * SIZE))
    return [Arms(memory[i * SIZE : (i + 1) * SIZE]) for i in range(count)]


def test_without_a_rollout_there_is_nothing() -> None:
    workers = made(2)
    assert total(workers) is None
    workers[0].begin("a")
    workers[0].end()
    assert total(workers) is None


def test_requests_are_those_answered_failed_and_refused() -> None:
    (worker,) = made()
    worker.begin("a")
    worker.stable.answered(0.001)
    worker.stable.answered(0.002)
    worker.candidate.answered(0.004)
    worker.candidate.failed()
    worker.candidate.refused()
    worker.fell_back("Late")
    worker.fell_back("Refused")
    worker.steered()
    worker.breaker(is_open=True)
    seen = total([worker])
    assert seen is not None
    assert (seen.epoch, seen.steered, seen.open_breakers, seen.shadow) == ("a", 1, 1, None)
    assert (seen.stable.requests, seen.stable.failures, seen.stable.compute.total) == (2, 0, pytest.approx(0.003))
    assert (seen.candidate.requests, seen.candidate.failures, sum(seen.candidate.compute.counts)) == (3, 1, 1)
    assert seen.fallbacks == {"Late": 1, "Refused": 1}


def test_sums_are_of_the_workers_that_know_the_newest_epoch() -> None:
    one, two, three = made(3)
    for worker in (one, two):
        worker.begin("a")
        worker.stable.answered(0.001)
    three.begin("b")
    three.stable.answered(0.001)
    assert total([one, two, three]) == total([three])
    two.begin("b")
    two.stable.failed()
    seen = total([one, two, three])
    assert seen is not None
    assert (seen.epoch, seen.stable.requests, seen.stable.failures) == ("b", 2, 1)


def test_another_epoch_begins_at_zero_and_the_same_one_goes_on() -> None:
    memory = memoryview(bytearray(SIZE))
    worker = Arms(memory)
    worker.begin("a")
    worker.candidate.failed()
    worker.breaker(is_open=True)
    again = Arms(memory)  # of a process that takes its place
    again.begin("a")
    again.candidate.failed()
    seen = total([again])
    assert seen is not None
    assert (seen.candidate.requests, seen.open_breakers) == (2, 0)
    again.begin("b" * 64)
    seen = total([again])
    assert seen is not None
    assert (seen.epoch, seen.candidate.requests, seen.fallbacks) == ("b" * 64, 0, {})


def test_an_epoch_of_any_letters() -> None:
    (worker,) = made()
    worker.begin("é" * 64)
    seen = total([worker])
    assert seen is not None
    assert seen.epoch == "é" * 64


def test_shadows_are_summed_too() -> None:
    one, two = made(2)
    for worker, differences in ((one, (0.0, 0.001)), (two, (0.002, 0.5))):
        worker.begin("a")
        worker.shadows()
        for difference in differences:
            worker.shadow_stable.answered(0.001)
            worker.shadow_candidate.answered(0.001)
            worker.compared(agree=difference < 0.1, difference=difference)
        worker.compared(agree=True, difference=None)
        worker.dropped()
    seen: Any = total([one, two])
    assert (seen.shadow.compared, seen.shadow.agreed, seen.shadow.dropped) == (6, 5, 2)
    assert seen.shadow.differences == (2, 1, 0, 0, 0, 0, 1)
    assert seen.shadow.stable.requests == seen.shadow.candidate.requests == 4


def test_every_reason_has_a_place_and_is_a_failure_or_not() -> None:
    (worker,) = made()
    worker.begin("a")
    for reason in FALLBACKS:
        worker.fell_back(reason)
    seen = total([worker])
    assert seen is not None
    assert seen.fallbacks == dict.fromkeys(sorted(FALLBACKS), 1)
    assert [reason for reason in FALLBACKS if arms.is_failure(reason)] == list(FAILURES)
