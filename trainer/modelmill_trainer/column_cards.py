"""Cards of columns: how each is distributed, beside the same column elsewhere, as HTML.

Of text columns they show the frequent values that the profile names, and no other.
"""

import html
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from modelmill_contracts import html_frame
from modelmill_trainer.data_profile import Categories, DataProfile, Histogram, Numbers

MOVED = 0.1  # an effect from here on is marked
_SHOWN_VALUES = 8
_WIDTH, _HEIGHT = 300, 72

Column = Numbers | Categories


def most_moved(profile: DataProfile, effects: Mapping[str, float], most: int) -> tuple[Column, ...]:
    """The columns to show: all in their order, or, of more than `most`, those that moved most."""
    if len(profile.columns) <= most:
        return profile.columns
    return tuple(sorted(profile.columns, key=lambda column: -effects.get(column.name, 0.0))[:most])


def cards(
    shown: Iterable[Column], profile: DataProfile, other: DataProfile | None, effects: Mapping[str, float]
) -> str:
    """A card for each of the columns of `profile` that are shown, in blue; those of the `other` one are orange."""
    before = {column.name: column for column in other.columns} if other else {}
    made = (_card(column, before.get(column.name), effects.get(column.name), profile, other) for column in shown)
    return f'<div class="cards">{"".join(made)}</div>'


def _card(
    column: Numbers | Categories,
    before: Numbers | Categories | None,
    effect: float | None,
    profile: DataProfile,
    previous: DataProfile | None,
) -> str:
    moved = effect is not None and effect >= MOVED
    change = "" if effect is None else f'<span class="change">change {max(effect, 0.0):.3f}</span>'
    if isinstance(column, Numbers):
        body = _numbers(column, before if isinstance(before, Numbers) else None, profile.rows)
    else:
        known = before if isinstance(before, Categories) and before.type == column.type else None
        body = _categories(column, known, profile, previous)
    return (
        f'<section class="card{" moved" if moved else ""}"><div class="head"><h2>{html.escape(column.name)}</h2>'
        f'<span class="type">{column.type}</span></div>{change}{body}</section>'
    )


def _numbers(column: Numbers, before: Numbers | None, rows: int) -> str:
    if column.histogram is None:
        return f'<p class="none">No value: {column.missing:,} missing.</p>'
    whole = _histograms(column.histogram, before.histogram if before else None, column.type)
    values = [
        ("min", _number(column.min, column.type)),
        ("median", _number(column.median, column.type)),
        ("max", _number(column.max, column.type)),
        ("missing", html_frame.share(column.missing, rows)),
    ]
    return whole + "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in values) + "</dl>"


def _histograms(now: Histogram, before: Histogram | None, kind: str) -> str:
    """This version's densities as bars, the previous one's as a line, on one axis."""
    both = [now, before] if before else [now]
    low, high = min(one.low for one in both), max(one.high for one in both)
    span = (high - low) or 1.0
    heights = [_densities(one, span) for one in both]
    most = max(max(height) for height in heights) or 1.0
    bars = "".join(
        f'<rect x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{max(width - 0.6, 1):.1f}" height="{height:.1f}"/>'
        for left, width, height in _boxes(now, heights[0], low, span, most)
        if height
    )
    line = ""
    if before:
        boxes = _boxes(before, heights[1], low, span, most)
        steps = "".join(f"V{_HEIGHT - height:.1f}H{left + width:.1f}" for left, width, height in boxes)
        line = f'<path d="M{boxes[0][0]:.1f} {_HEIGHT}{steps}V{_HEIGHT}"/>'
    edges = (math.ceil(low), math.floor(high)) if kind == "Integer" else (low, high)
    ends = f'<div class="ends"><span>{_number(edges[0], kind)}</span><span>{_number(edges[1], kind)}</span></div>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="distribution">'
        f"{bars}{line}</svg>{ends}"
    )


def _densities(one: Histogram, span: float) -> list[float]:
    rows, width = sum(one.counts) or 1, _width(one, span)
    return [count / rows / width for count in one.counts]


def _width(one: Histogram, span: float) -> float:
    """Of a bin, as a part of the axis; a single value is drawn as wide as a bin would be."""
    if one.high == one.low:
        return 1 / 30
    return (one.high - one.low) / span / len(one.counts)


def _boxes(
    one: Histogram, heights: list[float], low: float, span: float, most: float
) -> list[tuple[float, float, float]]:
    """Left, width and height of each bin in the drawing."""
    width = _width(one, span) * _WIDTH
    start = min((one.low - low) / span * _WIDTH, _WIDTH - width)
    return [(start + place * width, width, height / most * (_HEIGHT - 4)) for place, height in enumerate(heights)]


def _categories(
    column: Categories, before: Categories | None, profile: DataProfile, previous: DataProfile | None
) -> str:
    rows = profile.sample or 1
    known = dict(zip(before.values, before.counts, strict=True)) if before else {}
    lines = list(zip(column.values[:_SHOWN_VALUES], column.counts[:_SHOWN_VALUES], strict=True))
    rest = sum(column.counts[_SHOWN_VALUES:]) + column.other
    text = ""
    if column.missing == profile.rows:
        return f'<p class="none">No value: {column.missing:,} missing.</p>'
    if not lines:
        text = '<p class="none">No value is frequent, so none is named.</p>'
    for value, count in lines:
        was = known.get(value, 0) / (previous.sample or 1) if before and previous else None
        text += _value(html.escape(value), count / rows, was)
    if rest:
        text += _value("<em>all others</em>", rest / rows, None)
    if column.missing:
        text += _value("<em>missing</em>", column.missing / (profile.rows or 1), None)
    return text


def _value(name: str, share: float, was: float | None) -> str:
    mark = "" if was is None else f'<u style="left:{min(was, 0.995) * 100:.1f}%"></u>'
    return html_frame.bar(name, share, f"{share * 100:.1f}&nbsp;%", mark)


def _date(value: float) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    except OverflowError:
        return "beyond the calendar"
    return moment.strftime("%Y-%m-%d").replace("-", "&#8209;")  # hyphens that a line is not broken at


def _number(value: float | None, kind: str) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a dash
    if kind == "Timestamp":
        return _date(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.6g}"
