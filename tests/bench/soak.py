"""Memory over many requests: `python -m tests.bench.server --soak 10000000`.

Nearly all are one row in JSON.  In between come the other workloads, bodies that are refused, and new connections, as
they leak where something leaks.
"""

import http.client
from pathlib import Path

from tests.bench import document, loads, processes
from tests.bench.bodies import Workload
from tests.bench.loads import PATH
from tests.bench.processes import Server

_FIRST = 100_000  # requests until memory is looked at: by then all is allocated that will be
_SECONDS = 10
_SAMPLES = 20
_BAD = (b"", b"[" * 10_000, b'{"inputs": [{"name": "input", "shape": [1, 30], "datatype": "FP32", "data": ["x"]}]}')


def measure(server: Server, files: dict[Workload, Path], requests: int) -> str:
    """Ask `requests` times, and say how much memory the server took meanwhile."""
    one, *others = files
    done = 0
    samples: list[tuple[int, float]] = []
    while done < requests or not samples:
        for workload in others:
            done += loads.closed(server, workload, files[workload], 1).requests
        done += _refused(server)
        while done < (requests * len(samples) // _SAMPLES if samples else _FIRST):
            done += loads.closed(server, one, files[one], _SECONDS if samples else 1).requests
        samples.append((done, processes.resident(server.pid)))
        print(f"{done:,} requests: {samples[-1][1]:.1f} MB", flush=True)
    (_, first), (_, last) = samples[0], samples[-1]
    looked = (samples[0], samples[len(samples) // 2], samples[-1])
    most = max(size for _, size in samples)
    return "\n".join(
        (
            document.machine(),
            "",
            "| after requests | resident memory |",
            "|---|---|",
            *(f"| {count:,} | {size:.1f} MB |" for count, size in looked),
            "",
            f"From the first to the last of {len(samples)} looks: {last - first:+.1f} MB; at most {most:.1f} MB.",
        )
    )


def _refused(server: Server) -> int:
    """Bodies that are no requests, on one connection each; how many."""
    for body in _BAD * 100:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", PATH, body, {"content-type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        if status != 400:
            raise SystemExit(f"a body that is no request was answered {status}")
    return len(_BAD) * 100
