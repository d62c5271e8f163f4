"""What asking a thousand pods costs the operator: `python -m tests.bench.collector`.

The pods are one small server in a process of its own, at as many addresses of loopback (127.1.0.0/16) as there are
pods, which answers every snapshot with the counts of a model of thirty features that grow.  The operator's side is what
ships: the cache, the collector, the core that compares the windows; there is no API server, and a status that is to be
written goes straight back into the cache.  A ModelDeployment has ten pods and a window of 45 seconds, so that each
measurement has all of them compared once or twice.  CPU is the measuring process' own, user and system.
"""

import argparse
import asyncio
import functools
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

from tests.bench import document

from modelmill.core.kinds import CONTROLLERS
from modelmill.core.plan import SetStatus, Settings
from modelmill.core.resources import MANAGED_BY, OWNER_LABEL
from modelmill.shell.cache import Cache, ObjectKey
from modelmill.shell.collector import Collector
from modelmill.shell.metrics import Metrics
from modelmill.shell.reconciler import utc_now
from modelmill_contracts import counters
from modelmill_contracts.counters import Bins, Latency, Reference, Snapshot, Trained

PODS, EACH, FEATURES, PORT = 1_000, 10, 30, 19_090
SECONDS = 60.0  # a measurement
NAMESPACE = "bench"


def answer(rows: int) -> bytes:
    """A snapshot after so many rows."""
    import msgspec

    def counted(name: str, bins: int) -> Bins:
        return Bins(name, (rows // bins,) * bins)

    def trained(name: str, bins: int) -> Trained:
        return Trained(name, (5000 // bins,) * bins)

    features = [f"feature {index}" for index in range(FEATURES)]
    times = Latency((rows // 160,) * (len(counters.LATENCY_EDGES) + 1), rows / 1000)
    whole = Snapshot(
        model="m", model_version="1", arm="", digest="", edges="e", started=1.0, ready=True, workers_ready=1,
        worker_restarts=0, in_flight=0, requests={"200": rows}, refusals={}, rows=rows, request=times, compute=times,
        features=tuple(counted(name, 11) for name in features), predictions=counted("predict", 2),
        scores=counted("score", 20),
        reference=Reference(
            tuple(trained(name, 11) for name in features), trained("predict", 2), trained("score", 20)
        ),
    )  # fmt: skip
    return msgspec.json.encode(whole)


async def pods() -> None:
    """Answer as all pods at once, until the process is ended."""
    begun = time.monotonic()
    encoded = functools.lru_cache(4)(answer)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = encoded(100_000 + int(time.monotonic() - begun) * 1_000)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, "0.0.0.0", PORT, backlog=4096)  # noqa: S104 - loopback's addresses
    async with server:
        await server.serve_forever()


def address(pod: int) -> str:
    return f"127.1.{pod // 250}.{pod % 250 + 1}"


class Cluster:
    """A cache with ModelDeployments that declare drift, or do not, and their pods."""

    def __init__(self, *, declared: bool) -> None:
        self.cache = Cache(CONTROLLERS, Settings("trainer", "server"))
        self._versions = 0
        self.compared = 0
        for number in range(PODS // EACH):
            uid = f"uid-{number}"
            spec: dict[str, Any] = {"model": {"uri": "s3://models/x", "digest": "sha256:" + "1" * 64}}
            if declared:
                spec["monitoring"] = {"drift": {"window": "45s"}}
            metadata = {"name": f"m{number}", "namespace": NAMESPACE, "uid": uid, "generation": 1}
            status = {"stable": {"revision": "3fa94c1b", "ready": EACH}}
            self._store("ModelDeployment", {"metadata": metadata, "spec": spec, "status": status})
            for index in range(EACH):
                self._pod(f"m{number}", uid, number * EACH + index)

    def _store(self, kind: str, manifest: dict[str, Any]) -> None:
        self._versions += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self._versions)}
        self.cache.store(kind, {**manifest, "metadata": metadata})

    def _pod(self, deployment: str, uid: str, number: int) -> None:
        labels = {
            **MANAGED_BY,
            OWNER_LABEL: uid,
            "modelmill.dev/modeldeployment": deployment,
            "modelmill.dev/revision": "3fa94c1b",
        }
        metadata = {"name": f"pod-{number}", "namespace": NAMESPACE, "uid": f"pod-{number}", "labels": labels}
        running = [{"name": "server", "state": {"running": {}}}]
        status = {"phase": "Running", "podIP": address(number), "containerStatuses": running}
        self._store("Pod", {"metadata": metadata, "spec": {}, "status": status})

    async def compare(self) -> None:
        """What the reconciler does of drift: when a window is full, once for each ModelDeployment."""
        core = CONTROLLERS["ModelDeployment"]
        due: dict[ObjectKey, float] = {}
        while True:
            for manifest in self.cache.objects("ModelDeployment"):
                key, uid = ("ModelDeployment", NAMESPACE, manifest["metadata"]["name"]), manifest["metadata"]["uid"]
                if due.get(key, 0) > time.monotonic():
                    continue
                observed = self.cache.observe(key)
                assert observed is not None
                plan = core.reconcile(observed, utc_now())
                for write in plan.writes:
                    if isinstance(write, SetStatus) and write.drift_baseline is not None:
                        self.compared += 1
                        self._store("ModelDeployment", {**manifest, "status": {**manifest["status"], **_said(write)}})
                        (written,) = (m for m in self.cache.objects("ModelDeployment") if m["metadata"]["uid"] == uid)
                        self.cache.weighed(written, write)
                due[key] = time.monotonic() + (plan.requeue_after or timedelta(seconds=30)).total_seconds()
            await asyncio.sleep(1)


def _said(write: SetStatus) -> dict[str, Any]:
    return {"drift": write.status["drift"], "conditions": write.status["conditions"]}


async def measure(seconds: float, *, declared: bool) -> tuple[float, int, int, float]:
    """The share of a CPU, the answers and the windows compared in that time, and the resident memory in MB."""
    cluster, metrics = Cluster(declared=declared), Metrics()
    collector = Collector(cluster.cache, lambda _: None, metrics, utc_now, PORT)
    tasks = [asyncio.create_task(collector.run()), asyncio.create_task(cluster.compare())]
    await asyncio.sleep(20)  # until each pod was asked once
    answers = _answers(metrics)
    begun, before = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - before) / (time.monotonic() - begun)
    found = share, _answers(metrics) - answers, cluster.compared
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return *found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _answers(metrics: Metrics) -> int:
    for line in metrics.text().decode().splitlines():
        if line.startswith("modelmill_operator_measurements_total") and 'outcome="answered"' in line:
            return int(float(line.split()[-1]))
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--quick", action="store_true", help="one short round; the document stays as it is")
    parser.add_argument("role", nargs="?", choices=["pods", "once"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "pods":
        asyncio.run(pods())
        return
    if options.role == "once":
        share, answered, compared, peak = asyncio.run(measure(options.seconds, declared=True))
        print(share, answered, compared, peak)
        return
    rounds, seconds = (1, 15.0) if options.quick else (options.rounds, options.seconds)
    server = subprocess.Popen([sys.executable, "-m", __spec__.name, "pods"])
    try:
        time.sleep(1)
        shares, rates, peaks = [], [], []
        for _ in range(rounds):
            command = [sys.executable, "-m", __spec__.name, "once", "--seconds", str(seconds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            share, answered, _, peak = map(float, done.stdout.split())
            shares.append(100 * share)
            rates.append(answered / seconds)
            peaks.append(peak)
        asked_of_none = asyncio.run(measure(5.0, declared=False))
    finally:
        server.terminate()
        server.wait()
    text = _table(rounds, seconds, shares, rates, peaks, asked_of_none)
    if options.quick:
        print(text)
    else:
        document.update("collector", text)


def _table(
    rounds: int,
    seconds: float,
    shares: list[float],
    rates: list[float],
    peaks: list[float],
    undeclared: tuple[float, int, int, float],
) -> str:
    def three(values: list[float], digits: int = 1) -> str:
        found = (min(values), statistics.median(values), max(values))
        return " / ".join(f"{value:.{digits}f}" for value in found)

    none = "yes" if undeclared[1] == 0 else "**no**"
    reached = "yes" if statistics.median(shares) < 25 else "**no**"
    return "\n".join(
        [
            f"{rounds} rounds of {seconds:.0f} s on {os.cpu_count()} CPUs; ranges are min / median / max.",
            "",
            "| what | measured | target | reached |",
            "|---|---|---|---|",
            f"| of one core, {PODS:,} pods asked every 15 s | {three(shares)} % | < 25 % | {reached} |",
            f"| answers a second | {three(rates)} | | |",
            f"| peak memory of the process | {three(peaks, 0)} MB | | |",
            f"| answers of pods whose ModelDeployments declare nothing | {undeclared[1]} | 0 | {none} |",
        ]
    )


if __name__ == "__main__":
    main()
