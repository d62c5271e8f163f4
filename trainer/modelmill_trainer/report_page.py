"""The report of a model: the card as one HTML file with charts, for people with a browser.

What it says is in `facts`; how its parts look is shared with the page of a Dataset's version (`html_frame`,
`column_cards`).  Whatever comes from the data or from a manifest is escaped.
"""

import html
import math
from collections.abc import Iterable, Sequence

import msgspec

from modelmill_contracts import digest, html_frame
from modelmill_contracts.evaluation import Bin, Calibration, Confusion, Evaluation, Importance
from modelmill_trainer import column_cards, slicing
from modelmill_trainer import facts as words
from modelmill_trainer.column_cards import MOVED
from modelmill_trainer.facts import Facts

_CARDS = 100  # columns of the data profile; of more, those that differ most
_IMPORTANT = 30  # features
_CELL = 60  # characters of a value
_Z = 1.96  # of a normal distribution, 95 % lie within
_SIDE, _LEFT, _TOP = 220, 34, 10  # of the reliability diagram, in its own units

_STYLE = """
h1,li{overflow-wrap:anywhere}section.part{margin:28px 0 0}
.part>h2{font-size:18px;margin:0 0 6px}h3{font-size:15px;margin:16px 0 4px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;margin:8px 0}
th,td{border-bottom:1px solid var(--line);padding:4px 10px;text-align:right;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600}th[scope=row],td.text,th.text{text-align:left}td.text{color:var(--soft)}
td.worst{color:var(--warn);background:var(--warn-ground)}.matrix td{text-align:center;min-width:52px}
.pair{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:12px;margin-top:12px}
svg.diagram{height:auto;max-width:420px;border:0}svg.diagram line{stroke:var(--line)}
svg.diagram .ideal{stroke:var(--soft);stroke-dasharray:4 4}svg.diagram .interval{stroke:var(--bar);stroke-width:1.5}
svg.diagram circle{fill:var(--bar)}svg.diagram text{fill:var(--soft);font-size:9px}
.importance .value{grid-template-columns:minmax(60px,34%) 1fr 128px}
details{margin:10px 0}summary{cursor:pointer;color:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;color:var(--soft)}
"""


def report_page(facts: Facts) -> str:
    """The report as HTML: the same facts give the same bytes."""
    manifest, evaluated = facts.manifest, facts.evaluation
    target = words.target(facts)
    heading = f"A model of {target}"
    says = f"Predicts {target} ({words.kind(facts)}) from {len(manifest.features)} features."
    quality = [
        f"<p>{_text(words.measured(facts))}</p>",
        _quality(facts),
        _folds(evaluated),
        _slices(evaluated),
    ]
    charts = [
        _confusion(evaluated.confusion),
        _calibration(evaluated.calibration, manifest.classes),
        _importance(evaluated.importance, len(manifest.features)),
    ]
    if any(charts):
        quality.append(f'<div class="pair">{"".join(charts)}</div>')
    body = [
        f"<p>{_text(says)}</p>",
        _numbers(facts),
        _part("Quality", "".join(quality)),
        _part("Data", _data(facts)),
        _part("Training", _training(facts)),
        _part("Features", _features(facts)),
        _part("Serving", _list(words.serving(manifest))),
        _part("Tests", f"<p>{_text(words.TESTS)}</p>"),
        _part("Limits", _list(words.LIMITS)),
    ]
    name = f"recipe {digest.of_json(manifest.recipe)}"
    return html_frame.document(heading, heading, name, "".join(body), _STYLE)


def _numbers(facts: Facts) -> str:
    name, value = next(iter(facts.evaluation.metrics.items()))
    return html_frame.facts(
        [
            (_text(value), _text(name)),
            (f"{facts.rows.train.rows:,}", "rows trained on"),
            (f"{facts.evaluation.rows:,}", "rows tested on"),
            (f"{len(facts.manifest.features):,}", "features"),
            (_text(facts.manifest.runtime), "serves it"),
        ]
    )


def _part(heading: str, body: str) -> str:
    return f'<section class="part"><h2>{heading}</h2>{body}</section>'


def _card(heading: str, says: str, body: str, kind: str) -> str:
    return f'<section class="card {kind}"><h2>{heading}</h2><p>{_text(says)}</p>{body}</section>'


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """`head` is what its cells hold, `rows` are whole cells; all HTML."""
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    top = "".join(f"<th>{name}</th>" for name in head)
    return f'<div class="scroll"><table class="{kind}"><tr>{top}</tr>{lines}</table></div>'


def _cells(values: Iterable[object]) -> list[str]:
    return [f"<td>{_text(str(value))}</td>" for value in values]


def _named(value: str | None) -> str:
    """The cell that names a row by a value of the data."""
    return _row_head("<em>missing</em>" if value is None else _short(value))


def _row_head(name: str) -> str:
    return f'<th scope="row">{name}</th>'


def _short(text: str) -> str:
    return _text(text if len(text) <= _CELL else f"{text[:_CELL]}...")


def _text(text: str) -> str:
    return html.escape(text)


# Quality.


def _quality(facts: Facts) -> str:
    found = words.quality(facts)
    if not facts.evaluation.folds:
        return _table(["metric", "value"], [[_named(one.name), *_cells([one.value])] for one in found])
    head = ["metric", "value", f"mean of {len(facts.evaluation.folds)} folds", "standard deviation"]
    return _table(head, [[_named(one.name), *_cells(one[1:])] for one in found])


def _folds(evaluated: Evaluation) -> str:
    if not evaluated.folds:
        return ""
    names = list(evaluated.metrics)
    rows = [
        _cells([number, fold.train_rows, fold.test_rows, *(fold.metrics[name] for name in names)])
        for number, fold in enumerate(evaluated.folds, 1)
    ]
    table = _table(["fold", "trained on", "tested on", *map(_text, names)], rows)
    return f"<details><summary>Every fold of the training rows</summary>{table}</details>"


def _slices(evaluated: Evaluation) -> str:
    if not evaluated.slices:
        return ""
    names = list(evaluated.metrics)
    worst = {one.metric: (one.column, one.value) for one in slicing.worst(evaluated.slices, names)}
    rows = []
    for one in evaluated.slices:
        row = [_named(one.column), _named(one.value), *_cells([one.rows])]
        for name in names:
            value = one.metrics.get(name)
            marked = ' class="worst"' if (one.column, value) == worst.get(name) else ""
            row.append(f"<td{marked}>{'undefined' if value is None else _text(value)}</td>")
        rows.append(row)
    return "<h3>In slices of the test rows</h3>" + _table(["column", "value", "rows", *map(_text, names)], rows)


def _confusion(found: Confusion | None) -> str:
    if found is None:
        return ""
    names = [*map(_short, found.classes), *(["<em>all others</em>"] if found.others else [])]
    rows = []
    for name, counts in zip(names, found.counts, strict=True):
        whole = sum(counts) or 1
        rows.append([_row_head(name), *(f'<td style="{_shade(count / whole)}">{count:,}</td>' for count in counts)])
    says = "Rows: what the test rows are. Columns: what is predicted. Darker: a larger share of the row."
    return _card("What is taken for what", says, _table(["", *names], rows, "matrix"), "confusion")


def _shade(share: float) -> str:
    return f"background:rgba(74,127,193,{0.7 * share:.2f})"


# The reliability diagram.


def _calibration(found: Calibration | None, classes: Sequence[str]) -> str:
    if found is None:
        return ""
    ends = [value for one in found.bins for value in (one.predicted, one.observed)]
    low, high = (min(ends), max(ends)) if found.of == "Number" else (0.0, 1.0)
    span = (high - low) or 1.0
    marks = "".join(_mark(one, low, span, found.of != "Number") for one in found.bins)
    right, bottom = _LEFT + _SIDE, _TOP + _SIDE
    texts = (
        _label(_LEFT, bottom + 12, "start", f"{low:.4g}"),
        _label(right, bottom + 12, "end", f"{high:.4g}"),
        _label(_LEFT + _SIDE / 2, bottom + 12, "middle", "predicted"),
        _label(_LEFT - 4, bottom, "end", f"{low:.4g}"),
        _label(_LEFT - 4, _TOP + 8, "end", f"{high:.4g}"),
    )
    drawing = (
        f'<svg class="diagram" viewBox="0 0 {right + 10} {bottom + 18}" role="img" aria-label="reliability diagram:'
        f' observed over predicted"><line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        f'<line x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{bottom}"/>'
        f'<line class="ideal" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{_TOP}"/>{marks}{"".join(texts)}</svg>'
    )
    rows = [_cells([f"{one.rows:,}", f"{one.predicted:g}", f"{one.observed:g}"]) for one in found.bins]
    table = f"<details><summary>The numbers</summary>{_table(['rows', 'predicted', 'observed'], rows)}</details>"
    says = words.of_calibration(found, classes) + " On the dashed line a model says how it is."
    if found.of != "Number":
        says += " Bars: 95 % intervals (Wilson)."
    return _card("Calibration", says, drawing + table, "calibration")


def _mark(one: Bin, low: float, span: float, shares: bool) -> str:
    """A bin's circle, and the interval of its share."""

    def down(value: float) -> str:
        return f"{_TOP + _SIDE * (1 - (value - low) / span):.1f}"

    across = f"{_LEFT + _SIDE * (one.predicted - low) / span:.1f}"
    circle = f'<circle cx="{across}" cy="{down(one.observed)}" r="3"/>'
    if not shares:
        return circle
    least, most = interval(one.observed, one.rows)
    return f'<line class="interval" x1="{across}" y1="{down(least)}" x2="{across}" y2="{down(most)}"/>{circle}'


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'


def interval(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share that so many rows have (Wilson, 1927)."""
    square = _Z * _Z / rows
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / rows + square / (4 * rows)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _importance(found: Importance | None, features: int) -> str:
    if found is None:
        return ""
    most = max((one.worse for one in found.features), default=0.0)
    bars = "".join(
        html_frame.bar(
            _text(one.feature),
            max(one.worse, 0.0) / most if most > 0 else 0.0,
            f"{one.worse:.3g} &plusmn; {one.stddev:.2g}",
        )
        for one in found.features[:_IMPORTANT]
    )
    if len(found.features) > _IMPORTANT:
        bars += f"<p>{len(found.features) - _IMPORTANT} more are in evaluation.json.</p>"
    return _card("What each feature is good for", words.of_importance(found, features), bars, "importance")


# Data and training.


def _data(facts: Facts) -> str:
    rows = facts.rows
    shown = column_cards.most_moved(rows.train, rows.effects, _CARDS)
    legend = "Blue: the rows that were trained on. Orange: those that were tested on. A change is an effect (PSI"
    notes = [f"{legend} without what sampling explains); from {MOVED} on it is marked."]
    if len(shown) < len(rows.train.columns):
        notes.append(f"{len(shown):,} of {len(rows.train.columns):,} features are shown, those that moved most first.")
    if rows.train.sample < rows.train.rows:
        notes.append(f"Distributions are of a uniform sample of {rows.train.sample:,} rows that were trained on.")
    said = "".join(f"<p>{_text(note)}</p>" for note in notes)
    return said + column_cards.cards(shown, rows.train, rows.test, rows.effects)


def _training(facts: Facts) -> str:
    lines = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td class="text">{_text(text)}</td></tr>'
        for name, text in words.training(facts)
    )
    whole = _text(msgspec.json.format(digest.canonical_json(facts.manifest.recipe), indent=1).decode())
    return (
        f'<div class="scroll"><table class="recipe">{lines}</table></div>'
        f"<details><summary>The whole recipe</summary><pre>{whole}</pre></details>"
    )


def _features(facts: Facts) -> str:
    rows = [
        [_named(feature.name), *_cells([feature.type, "yes" if feature.missing else "no"])]
        for feature in facts.manifest.features
    ]
    table = _table(["feature", "type", "may be missing"], rows)
    return f"<details><summary>{len(rows)} features, in the order in which they are sent</summary>{table}</details>"
