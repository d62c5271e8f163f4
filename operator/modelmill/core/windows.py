"""Windows: what serving pods counted of a rollout since evidence was weighed last.

Pods count up from zero; a window is the sum of the differences between what each has counted now and what it had
counted when the window began (its baseline, which the shell remembers).  A pod that is seen for the first time begins
its part of the window there: what it counted before may have been weighed already.
"""

from collections.abc import Mapping
from operator import lt, sub
from typing import TypeVar

import msgspec

from modelmill.stats.window import ArmWindow, Window
from modelmill_contracts import counters
from modelmill_contracts.counters import Arm, Latency, Shadow

LIMIT = 4 << 20  # bytes of a snapshot: it has the bins of all features, too
_BINS = len(counters.LATENCY_EDGES) + 1


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Of `counters.Rollout`, what windows are made of."""

    epoch: str
    stable: Arm
    candidate: Arm
    shadow: Shadow | None = None
    handed: int = 0  # requests that the candidate answered


class _Counts(Counts, frozen=True, kw_only=True):
    """As it comes over the wire."""

    fallbacks: dict[str, int] = {}


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Of `counters.Snapshot`, what windows, the demand and service levels are made of."""

    version: int
    started: float
    rollout: Counts | None = None
    requests: int = 0  # that it answered itself, refusals included
    failures: int = 0  # 5xx and 429: the caller was not answered
    request: Latency | None = None  # how long requests took


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The same, as it comes over the wire."""

    version: int
    started: float
    rollout: _Counts | None = None
    requests: dict[str, int] = {}  # by status code
    request: Latency | None = None


_BUSY = "429"

Answers = Mapping[str, Counted]  # by the pod's UID
Known = TypeVar("Known", bound=Snapshot)


def decode(body: bytes) -> Counted:
    """What a pod counted, from its snapshot; ValueError where the body is none, or its counts make no sense."""
    return counted(read(Snapshot, body))


def read(known: type[Known], body: bytes) -> Known:
    """A snapshot, with what `known` has of it; ValueError as above."""
    try:
        found = msgspec.json.decode(body, type=known)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if found.version != counters.SNAPSHOT_VERSION:
        raise ValueError(f"its version is {found.version}, and this operator knows {counters.SNAPSHOT_VERSION}")
    if min(found.requests.values(), default=0) < 0 or (found.request is not None and not _is_sane(found.request)):
        raise ValueError("the counts of requests are negative, or of other times than LATENCY_EDGES")
    counts = found.rollout
    if counts is not None:
        arms = [counts.stable, counts.candidate]
        if counts.shadow is not None:
            arms += [counts.shadow.stable, counts.shadow.candidate]
            if not 0 <= counts.shadow.agreed <= counts.shadow.compared:
                raise ValueError("more copies agree than were compared")
        for arm in arms:
            if min(arm.requests, arm.failures) < 0 or not _is_sane(arm.compute):
                raise ValueError("the counts of an arm are negative, or of other times than LATENCY_EDGES")
    return found


def counted(found: Snapshot) -> Counted:
    return Counted(
        version=found.version,
        started=found.started,
        rollout=_without_fallbacks(found.rollout),
        requests=sum(found.requests.values()),
        failures=sum(count for code, count in found.requests.items() if code.startswith("5") or code == _BUSY),
        request=found.request,
    )


def _is_sane(times: Latency) -> bool:
    return len(times.counts) == _BINS and min(times.counts) >= 0


def _without_fallbacks(counts: _Counts | None) -> Counts | None:
    """What the pod answered in the candidate's place is among its own answers already."""
    if counts is None:
        return None
    handed = max(0, counts.candidate.requests - sum(counts.fallbacks.values()))
    return Counts(
        epoch=counts.epoch, stable=counts.stable, candidate=counts.candidate, shadow=counts.shadow, handed=handed
    )


def opened(epoch: str, baseline: Answers, answers: Answers, *, copies: bool) -> Window:
    """The window so far: of the requests that were shared out or, with `copies`, of those that were copied."""
    total = Window()
    for pod, now in answers.items():
        before = baseline.get(pod)
        if before is None or now.rollout is None or now.rollout.epoch != epoch:
            continue
        total += _since(_comparable(epoch, before, now), now.rollout, copies=copies)
    return total


def _comparable(epoch: str, before: Counted, now: Counted) -> Counts | None:
    """The counts that the pod went on from; None where it began at zero: it was started anew, or an epoch began."""
    if before.started != now.started or before.rollout is None or before.rollout.epoch != epoch:
        return None
    return before.rollout


def _since(before: Counts | None, now: Counts, *, copies: bool) -> Window:
    """What one pod counted since; all, where a count went down: then it began at zero without saying so."""
    if before is not None and _went_down(before, now):
        before = None
    if not copies:
        earlier = (before.stable, before.candidate) if before is not None else (None, None)
        return Window(_arm(earlier[0], now.stable), _arm(earlier[1], now.candidate))
    if now.shadow is None:
        return Window()
    shadow = before.shadow if before is not None else None
    compared = now.shadow.compared - (shadow.compared if shadow else 0)
    agreed = now.shadow.agreed - (shadow.agreed if shadow else 0)
    return Window(
        _arm(shadow.stable if shadow else None, now.shadow.stable),
        _arm(shadow.candidate if shadow else None, now.shadow.candidate),
        compared=compared,
        agreed=min(agreed, compared),
    )


def _went_down(before: Counts, now: Counts) -> bool:
    """Whether any count of a pod went down."""
    return any(map(lt, _all(now), _all(before)))


def _all(counts: Counts) -> list[int]:
    shadow = counts.shadow or Shadow(stable=_NONE, candidate=_NONE)
    arms = (counts.stable, counts.candidate, shadow.stable, shadow.candidate)
    numbers = [number for arm in arms for number in (arm.requests, arm.failures, *arm.compute.counts)]
    return [*numbers, shadow.compared, shadow.agreed]


_NONE = Arm(requests=0, failures=0, compute=Latency(counts=(0,) * _BINS, total=0.0))


def _arm(before: Arm | None, now: Arm) -> ArmWindow:
    before = before or _NONE
    requests = now.requests - before.requests
    times = tuple(map(sub, now.compute.counts, before.compute.counts))
    # A snapshot is a sum over processes that go on counting: a failure may be in it before its request is.
    return ArmWindow(requests, min(now.failures - before.failures, requests), times)
