"""`kubectl mill rollout NAME`: who gets which requests, what the evidence says, and what is waited for."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelmill.api.modeldeployment import ModelDeployment
from modelmill.cli.cluster import Cluster, CommandError, Manifest
from modelmill.cli.rollout_page import page, sides
from modelmill.cli.tree import UNICODE, Lines

NAME = "rollout"
HELP = "Show a rollout and its evidence, live."
_EVERY = 1.0  # seconds
_WIDTH = 30  # characters of a bar
_CLEAR = "\x1b[H\x1b[2J"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a ModelDeployment")
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page of it, or of the last one where none goes on"
    )
    parser.add_argument("--once", action="store_true", help="show it as it is now, and end")


def run(arguments: argparse.Namespace, cluster: Cluster, lines: Lines) -> str:
    if arguments.html is not None:
        return _written(arguments.html, found(cluster, arguments.name))
    if arguments.once or not sys.stdout.isatty():
        return "\n".join(drawn(found(cluster, arguments.name), lines))
    try:
        while True:
            print(_CLEAR + "\n".join(drawn(found(cluster, arguments.name), lines)), flush=True)
            time.sleep(_EVERY)
    except KeyboardInterrupt:
        return ""


def _written(path: Path, deployment: Manifest) -> str:
    made = page(deployment)
    if made is None:
        raise CommandError(f"ModelDeployment {deployment['metadata']['name']} has had no rollout by steps yet")
    try:
        path.write_text(made)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    return f"{path} is written"


def found(cluster: Cluster, name: str) -> Manifest:
    """The ModelDeployment of that name; CommandError where there is none."""
    known = cluster.objects(ModelDeployment)
    wanted = next((d for d in known if d["metadata"]["name"] == name), None)
    if wanted is None:
        names = ", ".join(sorted(d["metadata"]["name"] for d in known)) or "none"
        raise CommandError(f"there is no ModelDeployment {name} in namespace {cluster.namespace}; there are: {names}")
    return wanted


def drawn(deployment: Manifest, lines: Lines) -> Iterator[str]:
    """A rollout as lines of text."""
    status = deployment.get("status") or {}
    strategy = ((deployment.get("spec") or {}).get("rollout") or {}).get("strategy", "RollingUpdate")
    stable, candidate = status.get("stable"), status.get("candidate")
    yield f"{deployment['metadata']['name']}  {strategy}" + (f", {_step(candidate)}" if candidate else "")
    if stable:
        yield _arm("stable", stable, 100 - ((candidate or {}).get("weight") or 0), lines)
    if candidate:
        yield _arm("candidate", candidate, candidate.get("weight") or 0, lines)
        if candidate.get("shadow"):
            yield f"           gets copies of {candidate['shadow']} % of the requests, and nobody its answers"
        if "requests" in candidate:
            counted, times = f"{candidate['requests']}, failed {candidate['failures']}", candidate["windows"]
            yield f"  requests {counted}, weighed {times} times"
        for gate in candidate.get("evidence", ()):
            yield from _gate(gate, lines)
        for query in candidate.get("prometheus", ()):
            yield f"  {query['name']}: {query['verdict']} ({query['reason']})"
    last = status.get("lastRollout")
    if last and not candidate:
        ended = f"{last['outcome']} at {last['endedAt']}"
        yield f"  last rollout: {last['revision']}: {ended}; --html FILE writes a page of it"
    back = status.get("rolledBack")
    if back:
        yield f"  rolled back: {back['revision']} at {back['at']}: {back['reason']}: {back['message']}"
    yield f"  {_waits(status)}"


def _step(candidate: Mapping[str, Any]) -> str:
    step, steps = candidate.get("step"), candidate.get("steps")
    if step is None or steps is None:
        return "not begun"
    return f"step {step} of {steps}, {candidate.get('state')}" if step <= steps else "taking over"


def _arm(name: str, arm: Mapping[str, Any], weight: int, lines: Lines) -> str:
    version = f"version {arm['version']}" if "version" in arm else "an artifact"
    return f"  {name:9} {_bar(weight / 100, lines)} {weight:3} %  {arm['revision']} {version}, {arm['ready']} ready"


def _gate(gate: Mapping[str, Any], lines: Lines) -> Iterator[str]:
    """How near the evidence is to what it takes, against the candidate and for it."""
    for number, (side, share, log_e, threshold) in enumerate(sides(gate)):
        title = f"{gate['gate']}: {gate['verdict']}" if number == 0 else ""
        yield f"  {title:22} {side:8} {_bar(share, lines)} ln E {log_e:.2f} of {threshold:.2f}"


def _bar(share: float, lines: Lines) -> str:
    full, empty = ("█", "░") if lines == UNICODE else ("#", ".")
    length = round(share * _WIDTH)
    return full * length + empty * (_WIDTH - length)


def _waits(status: Mapping[str, Any]) -> str:
    ready = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), None)
    if ready is None:
        return "no operator has looked at it yet"
    return f"{ready['reason']}: {ready['message']}"
