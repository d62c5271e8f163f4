"""Queries of a rollout's analysis: what Prometheus is asked, and what its answers say of the candidate.

An answer is a number within its bound, one outside of it, or none (nothing, several, NaN, silence): only the first lets
a step pass, and only the second, so many times in a row, is against the candidate.  That is a rule of thresholds and
has none of the promises of the other gates.  Numbers stay in memory: they may be of people who did not write the query,
so statuses, events and messages say on which side of the bound they are, and no more.

Asked is only while the candidate answers requests, or in the last step: before, there is nothing to see of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from modelmill.api import rollout as api
from modelmill.api.schema import parse_duration
from modelmill.core import promql
from modelmill.core.conditions import moment, timestamp
from modelmill.core.plan import Observed, Settings
from modelmill.core.resources import Manifest, dig
from modelmill.stats.gates import Verdict

LIMIT = 64 << 10  # bytes of an answer: it is one number, or too many
_FRESH = timedelta(seconds=20)  # besides two intervals, how old an answer may be

INSIDE, OUTSIDE = "InsideBound", "OutsideOfBound"
NO_PROMETHEUS, NOT_UNDERSTOOD, NOT_ANSWERED = "PrometheusNotConfigured", "QueryNotUnderstood", "NotAnswered"
# Why an answer is none, as the shell and `decode` say it.
UNREACHABLE, SLOW, REFUSED, NONSENSE = "Unreachable", "NoAnswerInTime", "QueryRefused", "NoPrometheus"
NO_DATA, SEVERAL, NOT_A_NUMBER = "NoData", "SeveralSeries", "NotANumber"
_MEANING = {
    INSIDE: "is within its bound",
    OUTSIDE: "is outside of its bound",
    NO_PROMETHEUS: "is not asked, as the operator was given no Prometheus",
    NOT_UNDERSTOOD: "is not asked",
    NOT_ANSWERED: "was not answered yet, or not lately",
    UNREACHABLE: "is not answered: Prometheus cannot be reached",
    SLOW: "is not answered in time",
    REFUSED: "is refused by Prometheus: ask it there to see why",
    NONSENSE: "is answered by something that is no Prometheus",
    NO_DATA: "finds nothing in this namespace",
    SEVERAL: "finds several series: aggregate them, as by sum()",
    NOT_A_NUMBER: "gives no number (NaN or infinite)",
}


@dataclass(frozen=True)
class Answer:
    """What Prometheus said: a number, or why there is none."""

    value: float | None
    problem: str = ""


class Asked(NamedTuple):
    """What Prometheus is asked for one rollout, and how often."""

    queries: tuple[str, ...]  # bound to the namespace
    every: timedelta


@dataclass(frozen=True)
class Heard:
    """What is known of a query's answer, its number left out."""

    name: str
    reason: str
    at: datetime | None = None  # of an answer
    detail: str = ""


@dataclass(frozen=True)
class Found:
    """What a query says of the candidate, as a status keeps it."""

    name: str
    verdict: Verdict
    reason: str
    failures: int = 0  # answers in a row that were outside
    counted_at: str = ""  # when the last of them was answered
    detail: str = ""

    @property
    def message(self) -> str:
        """Words that follow the query's name."""
        if self.verdict is Verdict.REJECT:
            return f"{_MEANING[OUTSIDE]}, {self.failures} times in a row"
        return _MEANING[self.reason] + self.detail


def decode(body: bytes) -> Answer:
    """The one number of an answer to an instant query; ValueError where it is no such answer."""
    try:
        said = msgspec.json.decode(body)
        data = said["data"]
        kind, result = data["resultType"], data["result"]
        if said["status"] != "success" or kind not in ("vector", "scalar", "matrix", "string"):
            raise ValueError("this is no answer to a query")
        if kind in ("matrix", "string"):
            return Answer(None, NOT_A_NUMBER)
        if kind == "vector" and len(result) != 1:
            return Answer(None, SEVERAL if result else NO_DATA)
        _, text = result[0]["value"] if kind == "vector" else result
        value = float(text)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError("this is no answer to a query") from error
    return Answer(value) if math.isfinite(value) else Answer(None, NOT_A_NUMBER)


def asked_of(deployment: Manifest, settings: Settings) -> Asked | None:
    """What Prometheus is asked for a ModelDeployment now."""
    declared = dig(deployment, "spec", "rollout", "analysis", "prometheus")
    if not declared or settings.tenant_label is None or not _asks(deployment):
        return None
    namespace, words = deployment["metadata"]["namespace"], words_of(deployment.get("status") or {})
    bound = [_bound(query["query"], settings, namespace, words) for query in declared]
    queries = tuple(dict.fromkeys(query for query in bound if isinstance(query, str)))
    every = parse_duration(dig(deployment, "spec", "rollout", "analysis", "interval") or "15s")
    return Asked(queries, every) if queries else None


def _asks(deployment: Manifest) -> bool:
    candidate = dig(deployment, "status", "candidate")
    step, steps, weight = (dig(candidate, name) or 0 for name in ("step", "steps", "weight"))
    return dig(candidate, "epoch") is not None and step <= steps and (weight > 0 or step == steps)


def words_of(status: Mapping[str, Any]) -> Mapping[str, str]:
    """What stands for the two revisions, and their versions, in the matchers of a query."""
    said = {
        f"${arm}{part.capitalize()}" if arm else f"${part}": dig(status, arm or "candidate", part)
        for arm in ("", "stable")
        for part in ("revision", "version")
    }
    return {word: str(value) for word, value in said.items() if value is not None}


def heard(observed: Observed, declared: tuple[api.PrometheusQuery, ...]) -> tuple[Heard, ...]:
    """What is known of each query, while they are asked."""
    if not _asks(observed.object):
        return ()
    words = words_of(observed.status)
    return tuple(_heard(query, observed, words) for query in declared)


def _heard(query: api.PrometheusQuery, observed: Observed, words: Mapping[str, str]) -> Heard:
    if observed.settings.tenant_label is None:
        return Heard(query.name, NO_PROMETHEUS)
    text = _bound(query.query, observed.settings, observed.namespace, words)
    if isinstance(text, promql.QueryError):
        return Heard(query.name, NOT_UNDERSTOOD, detail=f": {text}")
    measured = observed.answers.get(text)
    if measured is None:
        return Heard(query.name, NOT_ANSWERED)
    answer: Answer = measured.value
    if answer.value is None:
        return Heard(query.name, answer.problem, measured.at)
    low, high = float(query.min or "-inf"), float(query.max or "inf")
    return Heard(query.name, INSIDE if low <= answer.value <= high else OUTSIDE, measured.at)


def _bound(query: str, settings: Settings, namespace: str, words: Mapping[str, str]) -> str | promql.QueryError:
    """The query as it is asked, or why it is not."""
    try:
        return promql.bound(query, settings.tenant_label or "", namespace, words)
    except promql.QueryError as error:
        return error


def found(
    declared: tuple[api.PrometheusQuery, ...],
    heard_now: tuple[Heard, ...],
    before: tuple[Found, ...],
    interval: timedelta,
    now: datetime,
) -> tuple[Found, ...]:
    """What each query says now; answers outside are counted once an interval, and one inside begins anew."""
    known, said = {one.name: one for one in before}, {one.name: one for one in heard_now}
    return tuple(_found(q, said[q.name], known.get(q.name), interval, now) for q in declared if q.name in said)


def _found(query: api.PrometheusQuery, said: Heard, before: Found | None, interval: timedelta, now: datetime) -> Found:
    failures, counted_at = (before.failures, before.counted_at) if before is not None else (0, "")
    old = said.at is not None and now - said.at > 2 * interval + _FRESH
    if old:
        said = Heard(said.name, NOT_ANSWERED)
    if said.reason == INSIDE and failures < query.failures:
        return Found(query.name, Verdict.PROMOTE, INSIDE)
    if said.reason == OUTSIDE and said.at is not None and _is_another(said.at, counted_at, interval):
        failures, counted_at = failures + 1, timestamp(said.at)
    verdict = Verdict.REJECT if failures >= query.failures else Verdict.HOLD
    reason = OUTSIDE if verdict is Verdict.REJECT else said.reason
    return Found(query.name, verdict, reason, failures, counted_at, said.detail)


def _is_another(at: datetime, counted_at: str, interval: timedelta) -> bool:
    # A clock that was set back makes what was counted lie ahead.
    return not counted_at or not timedelta() <= at - moment(counted_at) < interval


def of_status(said: tuple[api.QueryStatus, ...]) -> tuple[Found, ...]:
    return tuple(
        Found(one.name, Verdict(one.verdict), one.reason, one.failures or 0, one.counted_at or "") for one in said
    )


def status_of(said: tuple[Found, ...]) -> list[dict[str, Any]]:
    return [
        {**shown(one), **({"failures": one.failures, "countedAt": one.counted_at} if one.failures else {})}
        for one in said
    ]


def shown(one: Found) -> dict[str, str]:
    return {"name": one.name, "verdict": str(one.verdict), "reason": one.reason}
