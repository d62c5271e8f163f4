"""Drift of a ModelDeployment: whether its pods see and answer what the model was trained on.

    spec.monitoring.drift is declared  -> the pods of the revision that serves are asked what they count
    a window is full                   -> compare it; the status is written once, with what the window found
    two of the last three found it     -> DriftDetected is True
    another artifact serves            -> from the start: nothing is compared across profiles

What pods count is summed in `tally`; what it is compared with until hours are known by themselves is in `season`.  A
window that is open is lost when the operator ends; what was compared stands in the status, and is never counted again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR
from decimal import Decimal as Number
from typing import Any, Literal, NamedTuple

from modelmill.api import monitoring as api
from modelmill.api.schema import parse_duration
from modelmill.core import season
from modelmill.core.conditions import Condition, false, timestamp, true, unknown
from modelmill.core.plan import Record
from modelmill.core.season import Season
from modelmill.core.tally import Answer, Part, Tally, behind_one_another, cut, parts_of, slices, tally, trained_parts
from modelmill.stats import drift as stats
from modelmill.stats.drift import Comparison

CONDITION = "DriftDetected"
_MOST = 65_536  # distributions, of which a status keeps a bit each
_WORST, _LONGEST_NAME = 5, 128  # of a status
_FOUND = ("Drifted", "NoDrift", "Learning")  # reasons
_TOLD = 3  # of the worst, in a message


@dataclass(frozen=True)
class Facts:
    """What is known of a ModelDeployment that declares drift."""

    settings: api.Drift
    said: api.DriftStatus | None  # what the status says
    condition: tuple[str, str, str] | None  # its status, reason and message, as the status says them
    asked: str | None  # the revision whose pods are asked
    open_for: timedelta  # how long the window has been open
    tally: Tally | None  # of a window that has been open for long enough
    lacks: str  # why the pods that answered cannot be compared with anything
    answers: tuple[tuple[str, Answer], ...]  # what they answered last, by UID


@dataclass(frozen=True)
class Course:
    """What is to be said of drift, and when to look again."""

    status: api.DriftStatus | None
    condition: Condition
    look_again: timedelta | None = None
    compared: bool = False  # the window is part of the status now
    events: tuple[Record, ...] = ()


def observe(
    settings: api.Drift | None,
    status: Mapping[str, Any],
    artifacts: Mapping[str, str],
    baseline: Mapping[str, Any],
    answers: Mapping[str, Any],
    open_for: timedelta,
) -> Facts | None:
    """`artifacts`: digests by revision, as far as they are known."""
    if settings is None:
        return None
    asked = (status.get("stable") or {}).get("revision")
    found = {pod: answer for pod, answer in answers.items() if pod in baseline and isinstance(answer, Answer)}
    known = next((c for c in status.get("conditions", ()) if c["type"] == CONDITION), None)
    full = open_for >= parse_duration(settings.window)
    return Facts(
        settings=settings,
        said=api.DriftStatus.model_validate(status["drift"]) if "drift" in status else None,
        condition=(known["status"], known["reason"], known["message"]) if known is not None else None,
        asked=asked,
        open_for=open_for,
        tally=tally(baseline, found, artifacts.get(asked or "", "")) if full else None,
        lacks=next((a.lacks for a in found.values() if a.lacks), ""),
        answers=tuple(sorted(found.items(), key=lambda pod: pod[0])) if full else (),
    )


def course(facts: Facts, serves: str | None, artifacts: Mapping[str, str], now: datetime) -> Course:
    """What follows; `serves` is the revision that serves from now on."""
    said = _of_this_artifact(facts.said, serves, artifacts)
    if serves is None:
        return Course(None, unknown(CONDITION, "NothingServes", "no revision serves"))
    window = parse_duration(facts.settings.window)
    left = window - facts.open_for
    if serves != facts.asked or left > timedelta():
        return Course(said, _as_before(facts, said), left if left > timedelta() else window)
    again = max(window / 20, timedelta(seconds=1))  # where rows are still to come
    found = facts.tally
    if found is None:
        return Course(said, _without(facts, said), again)
    parts = parts_of(found.profile.reference)
    aspects = sum(len(stats.aspects(part.trained)) for part in parts)
    if aspects > _MOST:
        message = f"the model has {aspects} distributions, and drift is told of {_MOST} at most"
        return Course(None, unknown(CONDITION, "TooManyDistributions", message))
    rows = max(map(sum, slices(parts, found.counts)), default=0)
    if rows < stats.least_rows((part.trained for part in parts), facts.settings.min_rows):
        return Course(said, _as_before(facts, said), again)
    before = said if said is not None and said.profile == found.profile.digest else None
    return _compared(facts, before, serves, found, parts, rows, now)


def status_of(found: Course | None) -> dict[str, Any] | None:
    """What `status.drift` says."""
    if found is None or found.status is None:
        return None
    return found.status.without_none()


def _of_this_artifact(
    said: api.DriftStatus | None, serves: str | None, artifacts: Mapping[str, str]
) -> api.DriftStatus | None:
    """What was said, where it is about what serves: a new revision of the same artifact goes on."""
    if said is None or serves is None:
        return None
    if said.revision == serves:
        return said
    same = artifacts.get(said.revision)
    # It is about the new one from now on: the history may soon be without the old one.
    goes_on = same is not None and same == artifacts.get(serves)
    return said.model_copy(update={"revision": serves}) if goes_on else None


def _judged(facts: Facts, said: api.DriftStatus | None) -> bool:
    """Whether the condition is about what serves, and was found by comparing."""
    return said is not None and facts.condition is not None and facts.condition[1] in _FOUND


def _as_before(facts: Facts, said: api.DriftStatus | None) -> Condition:
    """The condition while nothing new is known."""
    if _judged(facts, said) and facts.condition is not None:
        return Condition(CONDITION, *facts.condition)
    least = f"{facts.settings.window} and {facts.settings.min_rows} rows"
    return unknown(CONDITION, "FirstWindow", f"the first window ends after {least} at least")


def _without(facts: Facts, said: api.DriftStatus | None) -> Condition:
    """The condition where no pod's counts can be compared."""
    match facts.lacks:
        case "NoProfile":
            message = "the model's artifact has no profile of its training data, or none that its server can count in"
            return unknown(CONDITION, "NoProfile", message)
        case "NoReference":
            message = (
                "the pods were started with the server of an older release, which does not tell what the profile"
                " counted; the next revision does: change spec.server.resources, or serve another version"
            )
            return unknown(CONDITION, "NoReference", message)
    return _as_before(facts, said)


class _Against(NamedTuple):
    """What is compared with what; all bins behind one another."""

    name: Literal["Profile", "Season"]
    reference: Sequence[int]
    counts: Sequence[int]


def _compared(
    facts: Facts,
    before: api.DriftStatus | None,
    serves: str,
    found: Tally,
    parts: tuple[Part, ...],
    rows: int,
    now: datetime,
) -> Course:
    """The window's comparison, as it is to be said; `before` is what was said of this profile."""
    settings, started = facts.settings, now - facts.open_for
    against, learnt = _against(settings, before, found, started, now)
    past = _recent(before, parts)
    window = api.DriftWindow(
        started_at=timestamp(started),
        ended_at=timestamp(now),
        rows=rows,
        reference=against.name if against is not None else None,
    )
    if against is None:
        drifted, worst = (before.drifted, before.worst) if before is not None else (0, ())
        condition = unknown(CONDITION, "Learning", "what an hour is like is learnt for a day before it is compared")
        if _judged(facts, before):
            condition = _as_before(facts, before)
    else:
        comparisons = _comparisons(parts, against)
        rejected = stats.rejected(
            [comparison for _, comparison in comparisons],
            float(settings.false_discovery_rate),
            float(settings.min_effect),
        )
        past = (*past, rejected)[-stats.WINDOWS :]
        moved = _moved(comparisons, past)
        drifted, worst = sum(m.windows >= stats.NEEDED for m in moved), tuple(moved[:_WORST])
        condition = _verdict(drifted, worst, settings, window)
        if learnt is not None and not (against.name == "Season" and any(rejected)):
            learnt = learnt.learnt(found.counts, season.middle(started, now))
    kept = season.packed(learnt) if learnt is not None else None
    if learnt is not None and kept is None:
        message = f"the hours of a day in {len(found.counts)} bins are too many to keep: leave seasonality out"
        return Course(None, unknown(CONDITION, "SeasonTooLarge", message), parse_duration(settings.window))
    status = api.DriftStatus(
        revision=serves,
        profile=found.profile.digest,
        windows=(before.windows if before is not None else 0) + 1,
        window=window,
        drifted=drifted,
        worst=worst,
        recent=tuple(map(_bits, past[-(stats.WINDOWS - 1) :])),
        season=kept,
    )
    return Course(status, condition, parse_duration(settings.window), True, _events(facts, before, condition))


def _against(
    settings: api.Drift, before: api.DriftStatus | None, found: Tally, started: datetime, now: datetime
) -> tuple[_Against | None, Season | None]:
    """What the window is compared with, if with anything, and the season, where there is one.

    Until an hour is known the whole day is compared, once it is over.
    """
    trained = behind_one_another(trained_parts(found.profile.reference))
    if settings.seasonality is None:
        return _Against("Profile", trained, found.counts), None
    known = season.unpacked(before.season if before is not None else None, len(found.counts))
    hour = known.known(season.middle(started, now))
    known, day = known.passed(found.counts, started, now)
    if hour is not None:
        return _Against("Season", hour, found.counts), known
    if day is not None:
        return _Against("Profile", trained, day), known
    return None, known.learnt(found.counts, season.middle(started, now))


def _comparisons(parts: Sequence[Part], against: _Against) -> list[tuple[Part, Comparison]]:
    pairs = zip(parts, cut(parts, against.reference), cut(parts, against.counts), strict=True)
    return [(part, comparison) for part, trained, seen in pairs for comparison in stats.comparisons(trained, seen)]


def _moved(comparisons: Sequence[tuple[Part, Comparison]], windows_: Sequence[Sequence[bool]]) -> list[api.Moved]:
    """All distributions: first those that have drifted, then by effect."""
    found = [
        api.Moved(
            of=part.of,  # type: ignore[arg-type]
            feature=part.name[:_LONGEST_NAME],
            aspect=comparison.aspect.value,
            effect=_decimal(comparison.effect),
            windows=times,
        )
        for (part, comparison), times in zip(comparisons, map(sum, zip(*windows_, strict=True)), strict=True)
    ]
    effects = [comparison.effect for _, comparison in comparisons]
    order = sorted(range(len(found)), key=lambda i: (found[i].windows < stats.NEEDED, -effects[i]))
    return [found[i] for i in order]


def _verdict(drifted: int, worst: Sequence[api.Moved], settings: api.Drift, window: api.DriftWindow) -> Condition:
    """The condition after a window that was compared."""
    reference = "the profile of the training" if window.reference == "Profile" else "the same hour of earlier days"
    compared = f"{window.rows} rows until {window.ended_at} were compared with {reference}"
    if not drifted:
        nearest = f"; farthest from it is {_named(worst[0])}" if worst else ""
        return false(CONDITION, "NoDrift", f"{compared}{nearest}")
    some = ", ".join(_named(moved) for moved in worst[: min(drifted, _TOLD)])
    more = f" and {drifted - _TOLD} more" if drifted > _TOLD else ""
    message = f"{some}{more} moved by {settings.min_effect} and more in {stats.NEEDED} of {stats.WINDOWS} windows"
    return true(CONDITION, "Drifted", f"{message}; {compared}")


_WORDS = {"Values": "", "Missing": ", missing", "OutOfRange": ", out of range", "Unseen": ", unseen"}


def _named(moved: api.Moved) -> str:
    return f"{moved.of.lower()} {moved.feature} ({moved.effect}{_WORDS[moved.aspect]})"


def _events(facts: Facts, before: api.DriftStatus | None, condition: Condition) -> tuple[Record, ...]:
    was = facts.condition[0] if facts.condition is not None and before is not None else "Unknown"
    if condition.status == "True" and was != "True":
        return (Record("Warning", "DriftDetected", condition.message),)
    if condition.status == "False" and was == "True":
        return (Record("Normal", "DriftEnded", condition.message),)
    return ()


def _bits(window: Sequence[bool]) -> str:
    """A window's findings in hexadecimal digits, the first one in the lowest bit."""
    return format(sum(1 << index for index, found in enumerate(window) if found), "x")


def _recent(before: api.DriftStatus | None, parts: Sequence[Part]) -> tuple[tuple[bool, ...], ...]:
    """What the last windows found, the newest last."""
    count = sum(len(stats.aspects(part.trained)) for part in parts)
    found = []
    for digits in before.recent if before is not None else ():
        try:
            bits = int(digits, 16)
        except ValueError:
            return ()  # somebody else wrote it
        found.append(tuple(bool(bits >> index & 1) for index in range(count)))
    return tuple(found)


def _decimal(number: float) -> str:
    return format(Number(number).quantize(Number("0.001"), ROUND_FLOOR), "f")
