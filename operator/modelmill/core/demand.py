"""Demand: how many requests a second callers make, from what serving pods counted between two answers."""

from collections.abc import Iterable
from datetime import timedelta

from modelmill.core.autoscaling import Demand
from modelmill.core.plan import Measurement
from modelmill.core.windows import Counted, Counts

EVERY = timedelta(seconds=15)  # as a HorizontalPodAutoscaler looks
SPAN = timedelta(seconds=10)  # between two answers, at least, for a rate that says more than one burst


def demand(answers: Iterable[Measurement | None]) -> Demand:
    """The demand of pods that run; None for one that never answered.

    What a pod handed to another revision is in its count, and what it handed in vain and answered itself only once.
    """
    rate, known, unknown, since = 0.0, False, 0, None
    for answer in answers:
        before = answer.before if answer is not None else None
        if answer is None or before is None or answer.asked <= before.asked:
            unknown += 1
            continue
        known = True
        rate += _since(before.value, answer.value) / (answer.asked - before.asked)
        since = answer.at if since is None else min(since, answer.at)
    return Demand(rate if known else None, unknown, since)


def _since(before: Counted, now: Counted) -> int:
    """The requests between two answers; all, where the pod began to count at zero meanwhile."""
    if before.started != now.started or now.requests < before.requests:
        return now.requests + _handed(None, now.rollout)
    return now.requests - before.requests + _handed(before.rollout, now.rollout)


def _handed(before: Counts | None, now: Counts | None) -> int:
    if now is None:
        return 0
    same = before is not None and before.epoch == now.epoch and before.handed <= now.handed
    return now.handed - before.handed if same and before is not None else now.handed
