"""Rollouts under load on the local cluster, with candidates that misbehave: `python -m tests.bench.campaign [ROW ...]`.

Each row is a rollout with constant load on it meanwhile, for at least 100,000 requests (`--least`).  What is lost is
counted by who asked, in a pod of its own.  Rows that are named are measured anew; the others stay as they are.  The
first line of the table says when and where a row was measured last.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.bench import document
from tests.bench.cluster import place
from tests.live import ROOT

sys.path.append(str(ROOT / "tests"))  # where the end-to-end tests have these from
import node_processes
from rollouts_under_load import LONG, SHORT, Ended, Result, Stage

NAMESPACE = "bench-campaign"
RATE, CONNECTIONS = 1_500, 16
TOLERANCE = "0.3"  # what is late is a failure, and all of this shares the machine's CPUs
KILLS = 20
ROLLOUTS = 20


class Found(NamedTuple):
    """One row."""

    result: Result
    what: str  # came of it
    good: bool


def _run(stage: Stage, least: int, act: Callable[[], str]) -> Found:
    with stage.load(RATE, CONNECTIONS, least) as seen:
        what = act()
    result = seen()
    return Found(result, what, result.lost == 0 and result.refused == 0)


def promotion(stage: Stage, least: int) -> Found:
    def act() -> str:
        stage.good(SHORT)
        stage.promoted()
        last = stage.status["lastRollout"]
        return f"promoted after {last['windows']} windows, {last['requests']:,} requests of the candidate"

    return _run(stage, least, act)


def rollback(stage: Stage, least: int) -> Found:
    def act() -> str:
        stage.good(LONG)
        stage.begun()
        stage.ask("abort")
        stage.back()
        return "rolled back by somebody, at 10 %"

    return _run(stage, least, act)


def crash_at_start(stage: Stage, least: int) -> Found:
    def act() -> str:
        stage.bad("crash", at_once=True)
        time.sleep(20)
        weight = stage.weight()
        stage.back()
        return f"never ready: its weight is {weight}"

    return _run(stage, least, act)


def _bad(way: str) -> Callable[[Stage, int], Found]:
    def row(stage: Stage, least: int) -> Found:
        ended: list[Ended] = []

        def act() -> str:
            stage.bad(way)
            stage.begun(8)
            ended.append(stage.misbehaves())
            stage.nothing_is_left()
            return ""

        found = _run(stage, least, act)
        (end,) = ended
        before = found.result.p99(end.at - 6, end.at)
        during = found.result.p99(end.at, end.at + end.seconds)
        what = (
            f"{end.reason} after {end.windows} windows, {end.requests:,} requests of the candidate,"
            f" {end.seconds:.1f} s; p99 {before / 1000:.1f} ms before, {during / 1000:.1f} ms meanwhile"
        )
        stage.back()
        # One that crashes is started again, and does not fail each request.
        few = way == "crash" or end.windows <= 2 or end.requests < 50 * end.windows
        return found._replace(what=what, good=found.good and few)

    return row


def operator_killed(stage: Stage, least: int) -> Found:
    def act() -> str:
        chance = random.Random(1)
        stage.good(LONG)
        stage.begun()
        weights = set()
        for _ in range(KILLS):
            stage.operator_is_killed(chance.randrange(2))
            time.sleep(chance.uniform(0.2, 4))
            weights.add(stage.weight())
        stage.ask("promote")
        stage.promoted()
        return f"killed {KILLS} times, weight {sorted(weights)} meanwhile; promoted then"

    return _run(stage, least, act)


def pod_deleted(stage: Stage, least: int) -> Found:
    def act() -> str:
        stage.good(LONG)
        stage.begun()
        stage.stable_pod_is_deleted()
        stage.back()
        return "one of two, at 10 %"

    return _run(stage, least, act)


def proxy_restarted(stage: Stage, least: int) -> Found:
    def act() -> str:
        stage.good(LONG)
        stage.begun()
        away = node_processes.restart(stage.system.config, "kube-proxy")
        stage.back()
        return f"away for {away:.1f} s, at 10 %"

    return _run(stage, least, act)


def server_killed(stage: Stage, least: int) -> Found:
    def act() -> str:
        stage.good(LONG)
        stage.begun()
        stage.stable_server_is_killed()
        stage.back()
        return "one of two, at 10 %"

    found = _run(stage, least, act)
    refused = f"{found.result.refused} connections were refused until it was out of the Service"
    what = f"{found.what}; at most the {CONNECTIONS} in flight may be lost; {refused}"
    return found._replace(what=what, good=found.result.lost <= CONNECTIONS)


def same_again(stage: Stage, least: int) -> Found:
    outcomes: list[str] = []

    def act() -> str:
        for _ in range(ROLLOUTS):
            stage.good([{"weight": 50, "hold": "2s"}])
            stage.promoted()
            outcomes.append(stage.status["lastRollout"]["outcome"])
        return f"{outcomes.count('Promoted')} promoted, {outcomes.count('RolledBack')} rolled back"

    found = _run(stage, least, act)
    return found._replace(good=found.good and outcomes.count("RolledBack") == 0)


ROWS: dict[str, tuple[str, Callable[[Stage, int], Found]]] = {
    "promotion": ("a good candidate is promoted", promotion),
    "rollback": ("a good candidate is aborted", rollback),
    "crash-at-start": ("it crashes at start", crash_at_start),
    "crash": ("it crashes under load", _bad("crash")),
    "hang": ("it hangs", _bad("hang")),
    "error": ("it answers 500", _bad("error")),
    "late": ("it answers 200 ms late", _bad("late")),
    "shape": ("it takes requests of another shape", _bad("shape")),
    "operator": ("the operator is killed at random", operator_killed),
    "pod": ("a stable pod is deleted", pod_deleted),
    "proxy": ("kube-proxy is killed and restarted", proxy_restarted),
    "sigkill": ("a stable server is killed by SIGKILL", server_killed),
    "same": (f"{ROLLOUTS} rollouts of the same version, windows of 1 s", same_again),
}
HEAD = "| meanwhile | requests | lost | p99 (median second) | what came of it | as wanted |\n|---|---|---|---|---|---|"


def line(title: str, found: Found) -> str:
    result = found.result
    whole = result.p99(min(result.seconds) + 1, max(result.seconds)) / 1000
    good = "yes" if found.good else "**no**"
    return f"| {title} | {result.requests:,} | {result.lost} | {whole:.1f} ms | {found.what} | {good} |"


def merged(measured: dict[str, str]) -> str:
    """The table with these rows in place of those that it had."""
    before = document.section("campaign")
    kept = {row.split(" | ")[0].removeprefix("| "): row for row in before.splitlines() if row.startswith("| ")}
    rows = [measured.get(name) or kept.get(title) for name, (title, _) in ROWS.items()]
    return "\n".join([document.machine(), "", HEAD, *(row for row in rows if row)])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="which; default: all")
    parser.add_argument("--least", type=int, default=100_000, help="requests of each row (%(default)s)")
    options = parser.parse_args([] if arguments is None else arguments)
    measured: dict[str, str] = {}
    with place(NAMESPACE) as (system, team):
        team.apply_folder("examples/breast-cancer")
        team.run("wait", "--for=condition=Ready", "modeldeployment/triage", "--timeout=180s")
        team.run("delete", "modeldeployment", "triage")
        stage = Stage(system, team, TOLERANCE)
        stage.serve()
        for name in options.rows or ROWS:
            title, row = ROWS[name]
            begun = time.monotonic()
            try:
                found = row(stage, options.least)
            except (AssertionError, subprocess.CalledProcessError) as error:
                print(f"{name}: not measured: {error}", flush=True)
                stage.back()
                continue
            measured[name] = line(title, found)
            print(f"{time.monotonic() - begun:.0f} s  {measured[name]}  {found.result.first}", flush=True)
            document.update("campaign", merged(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
