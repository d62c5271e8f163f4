"""The page of a version: its profile for people, as one HTML file that needs nothing else.

It has no script and loads nothing.  Of text columns it shows the frequent values that the profile names, and no other.
"""

import html
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from modelmill_trainer.data_profile import Categories, DataProfile, Histogram, Numbers

MOVED = 0.1  # an effect from here on is marked
_CARDS = 500  # of more columns, those that moved most are shown
_SHOWN_VALUES = 8
_WIDTH, _HEIGHT = 300, 72

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6b7c;--line:#dfe4ea;--card:#fff;--ground:#f4f6f8;--bar:#4a7fc1;
--before:#d9822b;--warn:#b3261e;--warn-ground:#fbe9e7}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa7b5;--line:#313a45;--card:#1d232b;--ground:#13171c;
--bar:#6b9fe0;--before:#f0a04b;--warn:#ff9d93;--warn-ground:#43211e}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:22px;margin:0 0 4px}code{font-size:13px;color:var(--soft);overflow-wrap:anywhere}
p{margin:6px 0;color:var(--soft);overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:16px 0}
.fact,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.fact b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.fact span{color:var(--soft);font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:12px}
.card h2{font-size:16px;margin:0;overflow-wrap:anywhere}.card.moved{border-color:var(--warn)}
.head{display:flex;justify-content:space-between;gap:8px;align-items:start;margin-bottom:6px}
.type{font-size:12px;color:var(--soft);border:1px solid var(--line);border-radius:99px;padding:1px 8px;flex:none}
.change{display:inline-block;font-size:13px;color:var(--soft)}
.moved .change{color:var(--warn);background:var(--warn-ground);border-radius:6px;padding:1px 6px}
svg{display:block;width:100%;height:84px;margin:6px 0 2px;border-bottom:1px solid var(--line)}
rect{fill:var(--bar)}path{fill:none;stroke:var(--before);stroke-width:1.5;vector-effect:non-scaling-stroke}
.ends{display:flex;justify-content:space-between;font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:repeat(4,auto);gap:0 10px;margin:8px 0 0;font-size:13px}
dt{color:var(--soft);grid-row:1}dd{margin:0;grid-row:2;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.value{display:grid;grid-template-columns:minmax(60px,38%) 1fr 56px;gap:8px;align-items:center;
font-size:13px;margin:3px 0}
.value>span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.value em{color:var(--soft)}
.track{position:relative;height:12px;background:var(--ground);border-radius:3px}
.track i{position:absolute;inset:0 auto 0 0;background:var(--bar);border-radius:3px}
.track u{position:absolute;top:-2px;bottom:-2px;width:2px;background:var(--before)}
.value>b{font-weight:400;text-align:right;font-variant-numeric:tabular-nums}
.none{margin:14px 0}
"""


def page(profile: DataProfile, previous: DataProfile | None, effects: Mapping[str, float], version: str) -> str:
    """The page of the version; `effects` of its columns against the `previous` one."""
    before = {column.name: column for column in previous.columns} if previous else {}
    shown = profile.columns
    if len(shown) > _CARDS:
        shown = tuple(sorted(shown, key=lambda column: -effects.get(column.name, 0.0))[:_CARDS])
    cards = "".join(
        _card(column, before.get(column.name), effects.get(column.name), profile, previous) for column in shown
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>Data profile {version[:19]}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>Data profile</h1><code>{html.escape(version)}</code>"
        f"{_facts(profile, previous, effects)}{_notes(profile, previous, len(shown))}"
        f'<div class="cards">{cards}</div></main></body></html>\n'
    )


def _facts(profile: DataProfile, previous: DataProfile | None, effects: Mapping[str, float]) -> str:
    cells = profile.rows * len(profile.columns)
    facts = [
        (f"{profile.rows:,}", "rows" + (f" ({profile.rows - previous.rows:+,})" if previous else "")),
        (f"{len(profile.columns):,}", "columns"),
        (_share(sum(column.missing for column in profile.columns), cells), "of all values missing"),
    ]
    if previous:
        moved = sum(effect >= MOVED for effect in effects.values())
        facts.append((f"{moved:,}", "columns moved" if moved != 1 else "column moved"))
    return '<div class="facts">' + "".join(_fact(*fact) for fact in facts) + "</div>"


def _fact(value: str, words: str) -> str:
    return f'<div class="fact"><b>{value}</b><span>{words}</span></div>'


def _notes(profile: DataProfile, previous: DataProfile | None, cards: int) -> str:
    notes = []
    if previous:
        notes.append(
            "Blue: this version. Orange: the previous one. A change is an effect (PSI without what sampling explains);"
            f" from {MOVED} on it is marked."
        )
        old, new = ({column.name for column in side.columns} for side in (previous, profile))
        if new - old:
            notes.append(f"New columns: {_names(new - old)}.")
        if old - new:
            notes.append(f"Columns that are gone: {_names(old - new)}.")
    if profile.sample < profile.rows:
        notes.append(
            f"Distributions and medians are of a uniform sample of {profile.sample:,} rows; all else is of all rows."
        )
    if cards < len(profile.columns):
        notes.append(f"{cards:,} of {len(profile.columns):,} columns are shown, those that moved most first.")
    return "".join(f"<p>{note}</p>" for note in notes)


def _names(names: set[str]) -> str:
    first = ", ".join(html.escape(name) for name in sorted(names)[:10])
    return first + (f" and {len(names) - 10} more" if len(names) > 10 else "")


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
        ("missing", _share(column.missing, rows)),
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
    return (
        f'<div class="value"><span>{name}</span><div class="track"><i style="width:{share * 100:.1f}%"></i>{mark}</div>'
        f"<b>{share * 100:.1f}&nbsp;%</b></div>"
    )


def _share(part: int, whole: int) -> str:
    if not part or not whole:
        return "0&nbsp;%"
    share = part / whole * 100
    return f"{share:.1f}&nbsp;%" if share >= 0.1 else "&lt;0.1&nbsp;%"


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
