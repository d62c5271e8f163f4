"""A constant rate of requests, whatever the server does: `python -m tests.bench.open_loop PORT FILE --rate R`.

Request n is due at n / rate.  Its latency is counted from then, so a server that stalls pays for every request that was
due meanwhile, sent or not.  Each connection has one request at a time; where all are taken, what is due waits.

It has a CPU of its own and never sleeps: no timer and no wake-up of its own is in what it measures.  Its own part is in
its result, as how late requests were sent although a connection was free.  It prints JSON: requests, seconds,
errors, and p50, p99 and late (the 99 % quantile) in ms.
"""

import argparse
import gc
import json
import select
import socket
import time
from collections import deque
from pathlib import Path

from tests.bench import bodies

_PATH = "/v2/models/model/infer"
_WARM_UP = 0.1  # of the requests are not counted


def _request(body: bodies.Body) -> bytes:
    head = f"POST {_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    return head.encode() + b"%d\r\n\r\n" % len(body.content) + body.content


def _complete(answer: bytes) -> bool:
    head, found, rest = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    size = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return len(rest) >= int(size)


def run(port: int, requests: list[bytes], connections: int, rate: float, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(connections):
        made = socket.create_connection(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[made.fileno()] = made
        poll.register(made, select.EPOLLIN)
    free, due_of, parts = deque(sockets), dict.fromkeys(sockets, 0.0), dict.fromkeys(sockets, b"")
    count, sent, errors, step = int(rate * seconds), 0, 0, 1 / rate
    latencies: list[float] = []
    late: list[float] = []
    clock = time.perf_counter
    gc.disable()
    began = clock() + 0.05
    give_up = began + seconds + 10
    freed = began
    while len(latencies) < count:
        now = clock()
        due = began + sent * step
        if sent < count and now >= due and free:
            number = free.popleft()
            sockets[number].send(requests[sent % len(requests)])
            due_of[number] = due
            sent += 1
            late.append(now - max(due, freed))  # while all were taken, it was not this program that was late
            continue
        for number, _ in poll.poll(0):
            answer = sockets[number].recv(1 << 16)
            if not answer:
                raise SystemExit(f"port {port}: a connection was closed")
            parts[number] += answer
            if _complete(parts[number]):
                now = clock()
                errors += not parts[number].startswith(b"HTTP/1.1 200 ")
                parts[number] = b""
                latencies.append(now - due_of[number])
                if not free:
                    freed = now
                free.append(number)
        if now > give_up:
            raise SystemExit(f"port {port}: {count - len(latencies)} of {count} requests were not answered in time")
    took = clock() - began
    skip = int(count * _WARM_UP)
    found, lateness = sorted(latencies[skip:]), sorted(late[skip:])
    return {
        "requests": count,
        "seconds": took,
        "errors": errors,
        "p50": found[len(found) // 2] * 1e3,
        "p99": found[len(found) * 99 // 100] * 1e3,
        "late": lateness[len(lateness) * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("bodies", type=Path, help="a file of tests/bench/bodies.py, without binary tensors")
    parser.add_argument("--rate", type=float, required=True, help="requests/s")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    made = [_request(body) for body in bodies.read(options.bodies)]
    print(json.dumps(run(options.port, made, options.connections, options.rate, options.seconds)))
