"""Many objects on an API server without nodes, beside Argo Rollouts' controller: `python -m tests.bench.scale`.

Each run has a control plane of its own.  The same for both: objects are created over four connections; they are
*written* when every child was created and every status tells of the object's generation; they are *settled* when,
in addition, the controller has asked for nothing for ten seconds.  Pods stay Pending, and what the controllers
of Kubernetes make of that is part of it.  Times and requests are the audit log's, CPU and memory are /proc's.
"""

import argparse
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tests.bench import control_plane, document
from tests.bench.audit_log import READS, AuditLog, Request, by_verb
from tests.bench.connection import Connection
from tests.bench.contenders import OURS, Contender, Machine, Program, argo_rollouts, await_quiet_machine, running
from tests.live import ROOT, Kubectl, kubeconfig

NAMESPACE = "bench-scale"
QUIET = 10.0  # seconds without a request after which a controller is done: the pods come at 20 a second
EDITS = 50
IDLE = 60.0


@dataclass(frozen=True)
class Settling:
    """From the first object's creation on."""

    written: float  # seconds until every child and status is written
    settled: float  # seconds until the last request before QUIET
    cpu_written: float
    cpu_settled: float
    peak: float  # MB
    rest: float  # MB
    children: int  # of each object
    requests: list[Request]


@dataclass(frozen=True)
class Restart:
    """The controller killed and started again, with everything in place."""

    last: float  # seconds from the process' start to its last request
    cpu: float
    peak: float
    rest: float
    requests: list[Request]


@dataclass(frozen=True)
class Afterwards:
    edits: list[float]  # seconds from the edit to the child's change
    unchanged: list[Request]  # of the controller, after EDITS changes of labels
    idle_cpu: float  # seconds a minute
    idle: list[Request]


@dataclass(frozen=True)
class Run:
    settling: Settling  # until everything is written, where that is all that was waited for
    restart: Restart | None
    afterwards: Afterwards | None
    others: float  # the share of the CPUs that was taken by others while the objects settled


@contextmanager
def control_plane_of_its_own(name: str, contender: Contender) -> Iterator[str]:
    """A new API server, etcd and controllers with the contender's kinds; its kubeconfig."""
    tool = str(ROOT / "hack/cluster")
    subprocess.run([tool, "down", "--name", name], check=True)
    subprocess.run([tool, "up", "--name", name, "--without-nodes"], check=True, stdout=subprocess.DEVNULL)
    try:
        config = kubeconfig(name)
        kubectl = Kubectl(config)
        kubectl.run("apply", "--server-side", "-k", str(contender.crds))
        kubectl.established()
        for namespace in (NAMESPACE, contender.namespace):
            kubectl.run("create", "namespace", namespace)
        yield config
    finally:
        subprocess.run([tool, "down", "--name", name], check=True)


def measure(contender: Contender, count: int, cluster: str, *, whole: bool) -> Run:
    """One run: until everything is written, or `whole`."""
    with control_plane_of_its_own(cluster, contender) as config, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with running(contender, config, log) as first:
            audit = AuditLog(config, contender.agents)
            if contender is OURS:
                control_plane.store(Kubectl(config, NAMESPACE))
            until_quiet(audit, time.time())
            machine = Machine(cluster, first)
            settling = settle(contender, count, config, audit, first, whole=whole)
            others = machine.others()
        if not whole:
            return Run(settling, None, None, others)
        Kubectl(config, contender.namespace).run("delete", "lease", "--all")  # nobody is to wait for the killed one's
        begun = time.time()
        with running(contender, config, log) as second:
            restart = restarted(audit, second, begun)
            afterwards = edit_and_idle(contender, config, audit, second)
    return Run(settling, restart, afterwards, others)


def until_quiet(
    audit: AuditLog, since: float, at_least: float = 5.0, done: Callable[[], bool] = lambda: True
) -> list[Request]:
    """Wait until the controller is done and has asked for nothing in the last seconds; its requests since then."""
    while True:
        time.sleep(0.1)
        audit.read()
        seen, now = audit.since(since), time.time()
        last = seen[-1].at if seen else since
        if now - since > at_least and now - last > QUIET and done():
            return seen
        if now - last > 120:
            raise RuntimeError(f"it hangs: {by_verb(seen)}")


def settle(
    contender: Contender, count: int, config: str, audit: AuditLog, program: Program, *, whole: bool
) -> Settling:
    """Create the objects, and wait until they are written, or settled."""
    connection, collection = Connection(config), contender.collection(NAMESPACE)
    ended = threading.Event()
    samples = [(time.time(), program.cpu())]

    def sample() -> None:
        while not ended.wait(0.1):
            samples.append((time.time(), program.cpu()))

    def everything_written() -> bool:
        found = written(contender, audit.since(begun))
        return contender.plural in found and len(found) > 1 and set(found.values()) == {count}

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        begun = time.time()
        connection.create(collection, contender.manifests(count))
        while not whole and not everything_written():
            time.sleep(0.5)
            audit.read()
        requests = until_quiet(audit, begun, done=everything_written) if whole else audit.since(begun)
    finally:
        ended.set()
        sampler.join()
    while behind := [o["metadata"]["name"] for o in connection.ask("GET", collection)["items"] if not up_to_date(o)]:
        if time.time() - begun > 300:
            raise RuntimeError(f"{len(behind)} statuses are of another generation, such as that of {behind[0]}")
        time.sleep(1)  # it wrote a status that does not tell: counted for it all the same
    complete, cpu = max(first_of_each(contender, requests).values()), samples[0][1]
    return Settling(
        written=complete - begun,
        settled=requests[-1].at - begun,
        cpu_written=next((c for at, c in samples if at >= complete), samples[-1][1]) - cpu,
        cpu_settled=samples[-1][1] - cpu,
        peak=program.memory("VmHWM"),
        rest=program.memory("VmRSS"),
        children=len(written(contender, requests)) - 1,
        requests=requests,
    )


def up_to_date(found: dict[str, Any]) -> bool:
    """Whether the status tells of the object's generation (Argo Rollouts writes it as text)."""
    return str(found.get("status", {}).get("observedGeneration")) == str(found["metadata"]["generation"])


def first_of_each(contender: Contender, requests: list[Request]) -> dict[tuple[str, str], float]:
    """When each child was created and each status first written.

    The objects are not edited meanwhile, so that a status tells of their generation, if it tells of any.
    """
    first: dict[tuple[str, str], float] = {}
    for r in requests:
        child = r.verb == "create" and r.resource != "events"
        status = r.verb in ("patch", "update") and r.resource == f"{contender.plural}/status"
        if r.namespace == NAMESPACE and 200 <= r.code < 300 and (child or status):
            first.setdefault((contender.plural if status else r.resource, r.name), r.at)
    return first


def written(contender: Contender, requests: list[Request]) -> Counter[str]:
    """How many objects have a status, and how many children of each kind were made."""
    return Counter(resource for resource, _ in first_of_each(contender, requests))


def restarted(audit: AuditLog, program: Program, begun: float) -> Restart:
    requests = until_quiet(audit, begun, at_least=10)
    return Restart(
        last=requests[-1].at - begun,
        cpu=program.cpu(),
        peak=program.memory("VmHWM"),
        rest=program.memory("VmRSS"),
        requests=requests,
    )


def edit_and_idle(contender: Contender, config: str, audit: AuditLog, program: Program) -> Afterwards:
    """Edits of spec.replicas one after the other, changes that mean nothing, and then nothing at all."""
    connection, collection = Connection(config), contender.collection(NAMESPACE)
    scaled: SimpleQueue[tuple[str, float]] = SimpleQueue()

    def follow() -> None:
        for child in Connection(config).watch(f"/apis/apps/v1/namespaces/{NAMESPACE}/{contender.edited}"):
            if child["spec"]["replicas"] == 2:
                scaled.put((child["metadata"]["ownerReferences"][0]["name"], time.perf_counter()))

    threading.Thread(target=follow, daemon=True).start()
    time.sleep(1)
    edits = []
    for number in range(EDITS):
        name, sent = f"bench-{number}", time.perf_counter()
        connection.patch(f"{collection}/{name}", {"spec": {"replicas": 2}})
        edits.append(await_scaled(scaled, name) - sent)
        time.sleep(0.1)
    until_quiet(audit, time.time() - 60)
    since = time.time()
    for number in range(EDITS):
        labels = {"labels": {"bench": "changed"}}
        connection.patch(f"{collection}/bench-{EDITS + number}", {"metadata": labels})
    time.sleep(5)
    audit.read()
    unchanged = audit.since(since)
    time.sleep(15)
    begun, cpu = time.time(), program.cpu()
    time.sleep(IDLE)
    spent = program.cpu() - cpu
    audit.read()
    return Afterwards(edits, unchanged, spent * 60 / IDLE, [r for r in audit.requests if r.at > begun])


def await_scaled(scaled: SimpleQueue[tuple[str, float]], name: str) -> float:
    """When the child of that object changed, by perf_counter."""
    while True:
        try:
            owner, at = scaled.get(timeout=30)
        except Empty:
            raise RuntimeError(f"the edit of {name} never arrived in its child") from None
        if owner == name:
            return at


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float], digits: int = 1) -> str:
    """Min / median / max; the value where there is only one."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return " / ".join(f"{v:.{digits}f}" for v in (min(values), median(values), max(values)))


def report(runs: dict[str, list[Run]], count: int) -> str:
    """The table of one size; ratios are of runs that followed each other."""
    ours, theirs = runs.values()
    lines = [
        f"| {count:,} objects | {' | '.join(runs)} | ratio | target |",
        "|---|---|---|---|---|",
    ]

    def row(
        what: str, value: Callable[[Any], float], unit: str, target: str, digits: int = 1, *, every: bool = False
    ) -> None:
        """Of the whole runs, or of every one."""
        a, b = ([value(run) for run in some if every or run.restart is not None] for some in (ours, theirs))
        pairs = [one / other for one, other in zip(a, b, strict=True)]
        cells = [f"{spread(values, digits)} {unit}" for values in (a, b)]
        lines.append(f"| {what} | {cells[0]} | {cells[1]} | {median(pairs):.2f} | {target} |")

    row("all children and statuses written", lambda r: r.settling.written, "s", "<= 0.5", every=True)
    row("settled", lambda r: r.settling.settled, "s", "")
    row("CPU until written", lambda r: r.settling.cpu_written, "s", "<= 1.0", every=True)
    row("CPU until settled", lambda r: r.settling.cpu_settled, "s", "<= 1.0")
    row(
        "CPU until settled, per child",
        lambda r: 1000 * r.settling.cpu_settled / (count * r.settling.children),
        "ms", "<= 0.6", 2,
    )  # fmt: skip
    row("memory at most", lambda r: r.settling.peak, "MB", "<= 1.0", 0)
    row("requests per object until settled", lambda r: len(r.settling.requests) / count, "", "")
    row("restart: to the last request", lambda r: r.restart.last, "s", "ours < 3 s")
    row("restart: CPU", lambda r: r.restart.cpu, "s", "")
    row("restart: memory at most", lambda r: r.restart.peak, "MB", "<= 1.0", 0)
    row_of_last(lines, ours[-1], theirs[-1])
    lines += ["", f"Requests until settled per object, last run, {count:,} objects:"]
    for title, some in runs.items():
        settling = some[-1].settling
        lines.append(f"- {title}, {settling.children} of children: {by_verb(settling.requests, count)}.")
    lines += ["", f"Requests after a restart but reads, last run, {count:,} objects (target for ours: none):"]
    for title, some in runs.items():
        restart = some[-1].restart
        lines.append(f"- {title}: {by_verb(writes(restart.requests)) if restart else 'not measured'}.")
    return "\n".join(lines)


def row_of_last(lines: list[str], ours: Run, theirs: Run) -> None:
    a, b = ours.afterwards, theirs.afterwards
    if a is None or b is None:
        return
    edits = [[1000 * s for s in each.edits] for each in (a, b)]
    ratio = median(edits[0]) / median(edits[1])
    lines.append(
        f"| edit of spec.replicas to the child's change, {EDITS} edits | {spread(edits[0])} ms | {spread(edits[1])} ms "
        f"| {ratio:.2f} | ours <= 20 ms |"
    )
    lines.append(
        f"| requests after {EDITS} changes of labels | {by_verb(a.unchanged)} | {by_verb(b.unchanged)} | | none |"
    )
    lines.append(
        f"| idle: CPU a minute | {a.idle_cpu:.2f} s | {b.idle_cpu:.2f} s | {a.idle_cpu / max(b.idle_cpu, 0.01):.2f} "
        "| ours <= 0.1 s |"
    )
    lines.append(f"| idle: requests a minute | {by_verb(a.idle)} | {by_verb(b.idle)} | | |")


def writes(requests: list[Request]) -> list[Request]:
    return [r for r in requests if r.verb not in READS]


def method(runs: list[Run], rounds: dict[int, int]) -> str:
    others = [100 * run.others for run in runs]
    sizes = ", ".join(f"{turns} of {count:,} objects" for count, turns in rounds.items())
    return f"""{document.machine()}
Rounds: {sizes}; ours and theirs in turn, each run on a new control plane; min / median / max, and of the rounds'
ratios the median. Only the last round of each size goes on after everything is written. Of the CPUs, other programs of
the machine took {spread(others, 0)} % meanwhile: that slows down what works, not what waits for its own rate limit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", default="modelmill-scale", help="name of the control plane: made, and taken down")
    parser.add_argument("--sizes", default="200:1,1000:5", help="objects:rounds, by comma; the last is whole")
    parser.add_argument("--only", choices=["ours", "theirs"], help="measure one, and write no document")
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for a machine that is not busy")
    arguments = parser.parse_args()
    rounds = {int(size): int(n) for size, n in (pair.split(":") for pair in arguments.sizes.split(","))}
    theirs = argo_rollouts()
    contenders = {"ours": [OURS], "theirs": [theirs], None: [OURS, theirs]}[arguments.only]
    tables, everything = [], []
    for count, number in rounds.items():
        runs: dict[str, list[Run]] = {c.title: [] for c in contenders}
        for turn in range(number):
            for contender in contenders:
                await_quiet_machine(arguments.patience)
                run = measure(contender, count, arguments.cluster, whole=turn == number - 1)
                show(contender, count, run)
                runs[contender.title].append(run)
                everything.append(run)
        if arguments.only is None:
            tables.append(report(runs, count))
    if arguments.only is None:
        document.update("scale", "\n\n".join([method(everything, rounds), *tables]))


def show(contender: Contender, count: int, run: Run) -> None:
    """One run, while one waits for the next."""
    s, r, a = run.settling, run.restart, run.afterwards
    print(f"{contender.title}, {count}: written {s.written:.1f} s {s.cpu_written:.2f} CPU s", flush=True)
    if r is None or a is None:
        return
    print(
        f"  settled {s.settled:.1f} s {s.cpu_settled:.2f} CPU s, {s.children} kinds of children, "
        f"memory {s.peak:.0f} / {s.rest:.0f} MB, others {run.others:.0%}"
        f"\n  {by_verb(s.requests, count)}"
        f"\n  restart: last request {r.last:.1f} s, {r.cpu:.2f} CPU s, {r.peak:.0f} / {r.rest:.0f} MB, "
        f"writes {by_verb(writes(r.requests))}",
        flush=True,
    )
    print(
        f"  edits {spread([1000 * e for e in a.edits])} ms; unchanged: {by_verb(a.unchanged)}; "
        f"idle {a.idle_cpu:.2f} CPU s, {by_verb(a.idle)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
