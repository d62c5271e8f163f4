"""What windows of labels say of quality: as a status, as evidence, and in words.

A window's rows count once there are enough of them; else it goes on, and after a day, or 24 windows, it is left out.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from modelmill.api import monitoring as api
from modelmill.api.schema import parse_duration
from modelmill.core.conditions import Condition, Waiting, false, moment, not_ahead, timestamp, true, unknown
from modelmill.core.plan import Record
from modelmill.core.tally import SCORE, Tally, parts_of, slices
from modelmill.stats import quality as stats
from modelmill_contracts import captured, report

CONDITION = "QualityDropped"
_LONGEST, _WINDOWS = timedelta(days=1), 24  # a window goes on for so long, or for so many times its length
_SETTLED = timedelta(seconds=captured.SETTLED_SECONDS)


def is_about(said: api.QualityStatus, settings: api.Quality) -> bool:
    """Whether what was said is about what is declared."""
    asked = (settings.metric, settings.min, settings.max, settings.labels_within)
    return (said.metric, said.min, said.max, said.labels_within) == asked


def begun(settings: api.Quality, artifact: str, since: str) -> api.QualityStatus:
    return api.QualityStatus(
        artifact=artifact,
        metric=settings.metric,
        min=settings.min,
        max=settings.max,
        labels_within=settings.labels_within,
        since=since,
        until=since,
    )


def by_this_clock(said: api.QualityStatus, now: datetime) -> api.QualityStatus:
    """What was said, nothing of which lies ahead: after a clock was set back, labels that come from now on count."""
    times = {"since": not_ahead(said.since, now), "until": not_ahead(said.until, now)}
    window = said.window
    if window is not None:
        span = {"started_at": not_ahead(window.started_at, now), "ended_at": not_ahead(window.ended_at, now)}
        window = window.model_copy(update=span)
    return said.model_copy(update={**times, "window": window})


def aligned(at: datetime, length: timedelta) -> datetime:
    """When the window that the moment is in began."""
    seconds = int(length.total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)


def _longest(settings: api.Quality) -> timedelta:
    return max(_WINDOWS * parse_duration(settings.window), _LONGEST)


def next_window(
    settings: api.Quality, said: api.QualityStatus, retention: timedelta, now: datetime
) -> tuple[datetime, datetime, datetime]:
    """Start and end of the next window, and when its labels are all there.

    All that is over by now is one window, unless that is too long.
    """
    length, until = parse_duration(settings.window), moment(said.until)
    start = max(until, aligned(now - retention, length))  # what is older was deleted
    measured = moment(said.window.ended_at) if said.window is not None else until
    first = aligned(max(measured, start), length) + length  # the next end that there can be
    over = aligned(now - _SETTLED, length)
    end = max(first, min(over, aligned(start + _longest(settings), length)))
    return start, end, end + _SETTLED


def with_window(
    settings: api.Quality, said: api.QualityStatus, start: str, end: str, found: report.MeasuredQuality
) -> api.QualityStatus:
    """The status with one more window: its rows count, or it goes on, or it is left out."""
    metric = stats.METRICS[settings.metric]
    measured = None
    if found.rows and found.value is not None and found.variance is not None and found.value <= metric.most:
        measured = stats.Window(found.rows, found.value, found.variance)
    value, lower, upper = stats.bounds(metric, measured) if measured is not None else (None, None, None)
    counted = measured is not None and measured.rows >= settings.min_rows
    window = api.QualityWindow(
        started_at=start,
        ended_at=end,
        rows=found.rows,
        value=_number(value),
        lower=_number(lower),
        upper=_number(upper),
        counted=counted,
        unknown=found.unknown,
        late=found.late,
        repeated=found.repeated,
        of_others=found.of_others,
        mistyped=found.mistyped,
    )
    if not counted or measured is None:
        # More labels do not mend one that is a mistake.
        mistaken = found.rows >= settings.min_rows and not metric.of_classes
        goes_on = not mistaken and moment(end) + parse_duration(settings.window) <= moment(start) + _longest(settings)
        return said.model_copy(update={"window": window, "until": said.until if goes_on else end})
    after = _detector(settings, said).update(measured)
    return said.model_copy(
        update={
            "until": end,
            "windows": said.windows + 1,
            "rows": after.rows,
            "dropped": after.dropped,
            "evidence": _decimal(after.log_e),
            "alarms": after.alarms,
            "window": window,
            "detector": tuple(map(_decimal, after.logs)),
            "spread": _number(after.spread) or "0",
        }
    )


def _detector(settings: api.Quality, said: api.QualityStatus) -> stats.Detector:
    """The evidence as the status has it; parts that another version wrote begin anew."""
    bound = float(settings.min or settings.max or 0)
    logs = tuple(map(float, said.detector))
    begun = stats.Detector(stats.METRICS[settings.metric], bound, said.dropped)
    return replace(
        begun,
        logs=logs if len(logs) == len(begun.logs) else begun.logs,
        spread=float(said.spread),
        rows=said.rows,
        alarms=said.alarms,
    )


def _number(number: float | None) -> str | None:
    return None if number is None else f"{number:.6g}"


def _decimal(number: float) -> str:
    return f"{number:.6f}"


def verdict(settings: api.Quality, said: api.QualityStatus, why: Waiting | None = None) -> Condition:
    """What the status tells, as a condition; `why`: nothing is measured for now."""
    found = _condition(settings, said)
    if why is None:
        return found
    later = f"labels since {said.until} are not measured: {why.reason}: {why.message}"
    return replace(found, message=f"{found.message}; {later}")


def _condition(settings: api.Quality, said: api.QualityStatus) -> Condition:
    window = said.window
    if window is None:
        message = f"labels that come from {said.since} on are measured every {settings.window}"
        return unknown(CONDITION, "FirstWindow", message)
    came = f"labels that came from {window.started_at} to {window.ended_at}"
    if window.value is not None:
        bound = f"at least {settings.min}" if settings.min is not None else f"at most {settings.max}"
        between = f" ({window.lower} to {window.upper})" if window.lower is not None else ""
        told = f"{settings.metric} is {window.value}{between} by {window.rows} rows with {came}; {bound} is declared"
    else:
        told = f"{window.rows} rows have {came}"
    if not window.counted:
        told += f"; {_why_not(settings, window)}"
    if said.windows == 0:
        return unknown(CONDITION, _reason(settings, window), told)
    if said.dropped:
        return true(CONDITION, "Dropped", told)
    return false(CONDITION, "NoDrop", told)


def _reason(settings: api.Quality, window: api.QualityWindow) -> str:
    if window.rows == 0:
        return "NoLabels"
    return "NoValue" if _has_no_value(settings, window) else "TooFewLabels"


def _has_no_value(settings: api.Quality, window: api.QualityWindow) -> bool:
    """Whether there is no value though there are rows enough."""
    return window.value is None and window.rows >= settings.min_rows


def _why_not(settings: api.Quality, window: api.QualityWindow) -> str:
    """Why a window says nothing, and what became of the labels that came."""
    others = {
        "of predictions that were not captured": window.unknown,
        f"later than {settings.labels_within}": window.late,
        "of another artifact's predictions": window.of_others,
        "of another type than the predictions": window.mistyped,
    }
    left_out = ", ".join(f"{count} {what}" for what, count in others.items() if count)
    left_out = f" ({left_out})" if left_out else ""
    if _has_no_value(settings, window):
        if stats.METRICS[settings.metric].of_classes:
            return f"they have no {settings.metric}, which takes two rows of each class{left_out}"
        return (
            f"their {settings.metric} is too large to be one, and they are left out: a label among them is a mistake"
            f" (or a prediction); mend who sends it{left_out}"
        )
    return f"at least {settings.min_rows} are needed{left_out}"


def events(settings: api.Quality, before: api.QualityStatus, after: api.QualityStatus) -> tuple[Record, ...]:
    if before.dropped == after.dropped:
        return ()
    message = _condition(settings, after).message
    return (Record("Warning", CONDITION, message) if after.dropped else Record("Normal", "QualityBack", message),)


def estimated(compared: Tally, now: datetime) -> api.EstimatedQuality | None:
    """What scores say of the accuracy; None of regressors, and where pods do not tell the bins of scores."""
    reference = compared.profile.reference
    answers, scores = reference.predictions, reference.scores
    if answers is None or answers.other is None or scores is None or len(scores.edges) + 1 != len(scores.counts):
        return None
    parts = parts_of(reference)
    by_part = zip(parts, slices(parts, compared.counts), strict=True)
    counts = next(counts for part, counts in by_part if part.of == SCORE)[: len(scores.counts)]
    rows, least = sum(counts), 1 / max(len(answers.counts), 1)
    found = stats.estimated_accuracy(counts, scores.edges, least)
    if found is None:
        return None
    return api.EstimatedQuality(accuracy=f"{found[0]:.4f}", error=f"{found[1]:.4f}", rows=rows, at=timestamp(now))
