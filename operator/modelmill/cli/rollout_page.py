"""A rollout as one HTML file: how it went, step by step, and what the evidence said."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelmill_contracts import html_frame

_STYLE = """
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:400;color:var(--soft);font-size:13px}td,th{padding:3px 12px 3px 0}
.scroll{overflow-x:auto}.RolledBack b{color:var(--warn)}.card{margin:12px 0}h2{margin-bottom:8px}
"""
_EXPLAINED = (
    "Evidence may be looked at after every window: where nothing is wrong, ln E reaches its threshold by chance in no"
    " more rollouts than the confidence allows. It grows and falls with what each window says."
)
_OUTCOMES = {
    "Promoted": "it took over",
    "RolledBack": "it was rolled back",
    "Superseded": "something else was asked for",
}


def page(deployment: Mapping[str, Any]) -> str | None:
    """The page of the rollout that goes on or, where none does, of the last one; None where there was none."""
    status = deployment.get("status") or {}
    candidate = status.get("candidate") or {}
    shown = candidate if "startedAt" in candidate else status.get("lastRollout")
    if shown is None:
        return None
    metadata = deployment["metadata"]
    outcome = shown.get("outcome", "Running")
    name = f"{metadata.get('namespace', '')}/{metadata['name']}, revision {shown['revision']}"
    body = [
        _facts(shown, outcome),
        f"<p>{html.escape(shown['message'])}</p>" if shown.get("message") else "",
        _card("Steps", _steps(shown.get("passed") or ())),
        *(_card(gate["gate"], "".join(_gate(gate))) for gate in shown.get("evidence") or ()),
        _queries(shown.get("prometheus") or ()),
        f"<p>{_EXPLAINED}</p>",
    ]
    heading = f"Rollout of {metadata['name']}: {_OUTCOMES.get(outcome, 'it goes on')}"
    return html_frame.document(heading, heading, name, f'<div class="{outcome}">{"".join(body)}</div>', _STYLE)


def _facts(shown: Mapping[str, Any], outcome: str) -> str:
    versions = f"version {shown['version']}" if "version" in shown else shown["revision"]
    return html_frame.facts(
        [
            (html.escape(outcome), html.escape(shown.get("reason") or shown.get("state") or versions)),
            (html.escape(versions), html.escape(f"beside {shown['stable']}" if "stable" in shown else "came up")),
            (str(shown.get("requests", 0)), "requests of the candidate"),
            (str(shown.get("failures", 0)), "of them failed; users got the stable's answer"),
            (str(shown.get("windows", 0)), "times weighed"),
            (html.escape(shown["startedAt"]), html.escape(f"until {shown['endedAt']}" if "endedAt" in shown else "on")),
        ]
    )


def _card(title: str, body: str) -> str:
    return f'<div class="card"><h2>{html.escape(title)}</h2><div class="scroll">{body}</div></div>'


def _steps(passed: Sequence[Mapping[str, Any]]) -> str:
    if not passed:
        return "<p>No step had been passed.</p>"
    titles = ("step", "share", "from", "until", "requests", "failed")
    rows = []
    requests = failures = 0
    for step in passed:
        share = f"{step['shadow']} % copies" if step["shadow"] else f"{step['weight']} %"
        cells = (
            step["step"], share, step["startedAt"], step["endedAt"], step["requests"] - requests,
            step["failures"] - failures,
        )  # fmt: skip
        requests, failures = step["requests"], step["failures"]
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _queries(said: Sequence[Mapping[str, Any]]) -> str:
    """What Prometheus was asked, each query within its bound or not."""
    if not said:
        return ""
    rows = [
        f"<tr>{''.join(f'<td>{html.escape(q[part])}</td>' for part in ('name', 'verdict', 'reason'))}</tr>"
        for q in said
    ]
    return _card("Prometheus", f"<table><tr><th>query</th><th>verdict</th><th>why</th></tr>{''.join(rows)}</table>")


def _gate(gate: Mapping[str, Any]) -> Iterator[str]:
    """How near the evidence came to what it takes, on each side."""
    yield f"<p>{html.escape(gate['verdict'])}</p>"
    for side, share, log_e, threshold in sides(gate):
        yield html_frame.bar(html.escape(side), share, f"{log_e:.2f}")
        yield f"<p>ln E {log_e:.2f} of {threshold:.2f}</p>"


def sides(gate: Mapping[str, Any]) -> Iterator[tuple[str, float, float, float]]:
    """Against the candidate and, of a gate that can speak for it, for it: name, nearness (0 to 1), ln E, threshold."""
    yield "against", *_near(gate["logE"], gate["threshold"])
    if "logEPromotion" in gate:
        yield "for it", *_near(gate["logEPromotion"], gate["thresholdPromotion"])


def _near(log_e: str, threshold: str) -> tuple[float, float, float]:
    found, enough = float(log_e), float(threshold)
    return max(0.0, min(1.0, found / enough)), found, enough
