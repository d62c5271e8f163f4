"""The page of an Experiment: what was tried, what came of it, and which parameters it depends on; one HTML file.

Importance is what a forest that learned the trials' places from their parameters uses these for (the share of its
splits' gain): the idea of fANOVA, and as rough.  It is told from so many trials on as have something to say.
"""

import html
import json
import math
from collections.abc import Sequence

import numpy as np

from modelmill_contracts import digest, html_frame
from modelmill_contracts.report import Report, SearchPageResult
from modelmill_contracts.space import Dimension
from modelmill_contracts.store import Store, blob_key
from modelmill_contracts.task import PlacedTrial, SearchPageTask
from modelmill_trainer.log import phase

_ENOUGH = 10  # trials, for an importance
_LISTED = 200  # rows of the table
_STYLE = """
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:400}tr.best td{font-weight:600}.card{margin:12px 0}
svg.history{height:220px}circle{fill:var(--bar)}circle.stopped{fill:var(--soft)}
"""


def write(task: SearchPageTask) -> Report:
    """Make the page and put it into the store; StoreError."""
    with phase("page", trials=len(task.trials)):
        content = page(task).encode()
    named = digest.of_bytes(content)
    with phase("store", bytes=len(content)):
        Store(task.store).put_once(blob_key(named), content)
    return Report(True, "PageWritten", f"{len(content)} bytes", result=SearchPageResult(named))


def page(task: SearchPageTask) -> str:
    """The page; the same trials give the same bytes."""
    best = next((trial for trial in task.trials if trial.number == task.best), None)
    why = f"<p>{html.escape(task.why)}</p>" if task.why else ""
    body = (
        f"{_facts(task, best)}{why}{_card('History', _history(task))}"
        f"{_card('Importance', _importance(task))}{_card('Trials', _table(task))}"
    )
    return html_frame.document(f"Experiment {task.name}", "Experiment", task.name, body, _STYLE)


def _card(title: str, inside: str) -> str:
    return f'<div class="card"><div class="head"><h2>{title}</h2></div>{inside}</div>' if inside else ""


def _facts(task: SearchPageTask, best: PlacedTrial | None) -> str:
    states = [trial.state for trial in task.trials]
    shown = [(_number(best.value), f"{html.escape(task.metric)} of trial {best.number}, the best")] if best else []
    shown += [(str(states.count("Succeeded")), "trials succeeded")]
    shown += [(str(states.count(s)), words) for s, words in (("Stopped", "stopped early"), ("Failed", "failed"))]
    shown.append((html.escape(task.algorithm), "chose them"))
    return html_frame.facts(shown)


def _valued(task: SearchPageTask) -> list[PlacedTrial]:
    return [trial for trial in task.trials if trial.state == "Succeeded" and trial.value is not None]


def _history(task: SearchPageTask) -> str:
    """Each trial as a point, and the best so far as a line."""
    points = [t for t in task.trials if t.value is not None]
    if not points:
        return ""
    values = [float(t.value or 0.0) for t in points]
    low, high = min(values), max(values)
    room, last = (high - low) or 1.0, max(t.number for t in points)

    def place(number: int, value: float) -> tuple[float, float]:
        return 10 + 980 * (number - 1) / max(last - 1, 1), 210 - 200 * (value - low) / room

    dots: list[str] = []
    line: list[str] = []
    leads: float | None = None
    for trial, value in zip(points, values, strict=True):
        x, y = place(trial.number, value)
        kind = ' class="stopped"' if trial.state != "Succeeded" else ""
        dots.append(f'<circle{kind} cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        if trial.state != "Succeeded":
            continue
        better = leads is None or (value > leads if task.maximize else value < leads)
        if better:
            line += [f"L{x:.1f} {place(trial.number, leads)[1]:.1f}"] if leads is not None else []
            line.append(f"{'L' if line else 'M'}{x:.1f} {y:.1f}")
            leads = value
    if leads is not None:
        end = place(last, leads)
        line.append(f"L{end[0]:.1f} {end[1]:.1f}")
    drawn = f'<svg class="history" viewBox="0 0 1000 220" preserveAspectRatio="none"><path d="{" ".join(line)}"/>'
    ends = f'<div class="ends"><span>trial 1</span><span>trial {last}</span></div>'
    words = f"<p>{html.escape(task.metric)} from {_number(low)} to {_number(high)}. Line: the best so far.</p>"
    return f"{drawn}{''.join(dots)}</svg>{ends}{words}"


def _importance(task: SearchPageTask) -> str:
    trials = _valued(task)
    if len(trials) < _ENOUGH:
        return f"<p>It takes {_ENOUGH} trials with a result to tell; there are {len(trials)}.</p>"
    shares = importance(task.space, trials)
    bars = (
        html_frame.bar(html.escape(name), share, html_frame.share(round(share * 1000), 1000))
        for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    )
    return "".join(bars) + "<p>What a forest that predicts a trial's place from its parameters uses them for.</p>"


def importance(space: Sequence[Dimension], trials: Sequence[PlacedTrial]) -> dict[str, float]:
    """The share of each parameter in what is known of the objective; they sum to 1, or are 0 where nothing is."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415 - a second of CPU, for this alone

    columns, owners = [], []
    for index, dimension in enumerate(space):
        texts = [trial.values[index] for trial in trials]
        if dimension.choices:
            columns += [[float(text == choice) for text in texts] for choice in dimension.choices]
            owners += [dimension.name] * len(dimension.choices)
        else:
            columns.append([_placed(dimension, text) for text in texts])
            owners.append(dimension.name)
    # Places instead of values: one that diverged, to 1e200, would be all that there is to learn, or overflow.
    _, places = np.unique([trial.value for trial in trials], return_inverse=True)
    forest = RandomForestRegressor(n_estimators=64, random_state=0, n_jobs=1)
    forest.fit(np.array(columns).T, places)
    shares = {dimension.name: 0.0 for dimension in space}
    for name, share in zip(owners, forest.feature_importances_.tolist(), strict=True):
        shares[name] += share
    return shares


def _placed(dimension: Dimension, text: str | None) -> float:
    """A number for a forest: one that has no meaning is outside of the range."""
    if text is None:
        return dimension.low - 1.0 if not dimension.log else math.log(dimension.low) - 1.0
    value = float(json.loads(text))
    return math.log(value) if dimension.log else value


def _table(task: SearchPageTask) -> str:
    def order(trial: PlacedTrial) -> tuple[bool, float, int]:
        value = trial.value if trial.value is not None else 0.0
        return trial.state != "Succeeded", -value if task.maximize else value, trial.number

    ranked = sorted(task.trials, key=order)
    names = "".join(f"<th>{html.escape(dimension.name)}</th>" for dimension in task.space)
    rows = "".join(_row(trial, trial.number == task.best) for trial in ranked[:_LISTED])
    more = f"<p>The best {_LISTED} of {len(ranked)} trials.</p>" if len(ranked) > _LISTED else ""
    head = (
        f"<tr><th>trial</th><th>state</th><th>{html.escape(task.metric)}</th><th>stddev</th><th>bytes</th>{names}</tr>"
    )
    return f'<div class="wide scroll"><table>{head}{rows}</table></div>{more}'


def _row(trial: PlacedTrial, best: bool) -> str:
    cells = [str(trial.number), trial.state, _number(trial.value), _number(trial.stddev)]
    cells.append(f"{trial.cost:,}" if trial.cost is not None else "")
    cells += [_shown(text) for text in trial.values]
    marked = ' class="best"' if best else ""
    return f"<tr{marked}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def _shown(text: str | None) -> str:
    if text is None:
        return ""
    value = json.loads(text)
    return value if isinstance(value, str) else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
