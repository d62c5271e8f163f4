"""Load at a constant rate, in a pod: `python3 steady_load.py HOST MODEL FEATURES RATE CONNECTIONS`, until /tmp/stop.

Request n is due at n / RATE, and its latency is counted from then; where all connections are taken it waits, and when a
quarter of a second's requests wait, the schedule moves on.  A request is lost when it has no answer within 10 s, a
broken one, or another one than 200.  Nothing that was sent is sent again.  A connection that is not accepted carried no
request: it is tried again, and counted.

How many there were by now is in /tmp/count.  The last line that it writes is JSON: `requests`, `lost`, `first` (the
first losses), `refused` (connections), `versions` (answers by the version that gave them), and `seconds`: by second
since the epoch, answers, losses, p50 and p99 in us.
"""

import json
import select
import socket
import sys
import time
from collections import Counter, deque
from pathlib import Path

HOST, MODEL, FEATURES, RATE, CONNECTIONS = (*sys.argv[1:3], *map(int, sys.argv[3:6]))
STOP, STARTED, COUNT = Path("/tmp/stop"), Path("/tmp/started"), Path("/tmp/count")
PATIENCE = 10.0
BODY = json.dumps({"inputs": [{"name": "input", "shape": [1, FEATURES], "datatype": "FP32", "data": [1.0] * FEATURES}]})
REQUEST = (
    f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
    f"content-length: {len(BODY)}\r\n\r\n{BODY}"
).encode()


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.due = 0.0
        self.sent = 0.0
        self.answer = b""


class Load:
    def __init__(self) -> None:
        self.poll = select.epoll()
        self.open: dict[int, Connection] = {}
        self.free: deque[Connection] = deque()
        self.refused = 0
        self.lost: list[str] = []
        self.versions: Counter[str] = Counter()
        self.latencies: dict[int, list[float]] = {}
        self.losses: Counter[int] = Counter()

    def connect(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                sock = socket.create_connection((HOST, 80), timeout=1.0)
                break
            except OSError as error:
                self.refused += 1
                if time.monotonic() > end:
                    sys.exit(f"no connection within {PATIENCE} s: {error}")
                time.sleep(0.01)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        made = self.open[sock.fileno()] = Connection(sock)
        self.poll.register(sock, select.EPOLLIN)
        self.free.append(made)

    def close(self, one: Connection) -> None:
        self.poll.unregister(one.sock)
        del self.open[one.sock.fileno()]
        one.sock.close()
        if one in self.free:
            self.free.remove(one)
        self.connect()

    def lose(self, one: Connection, why: str) -> None:
        self.lost.append(f"{time.time():.3f}: {why}")
        self.losses[int(time.time())] += 1
        self.close(one)

    def send(self, due: float) -> None:
        one = self.free.popleft()
        one.due, one.sent, one.answer = due, time.monotonic(), b""
        try:
            one.sock.sendall(REQUEST)
        except OSError as error:
            self.lose(one, f"while it was sent: {error!r}")

    def read(self, one: Connection) -> None:
        try:
            data = one.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            data, why = b"", repr(error)
        else:
            why = "the connection was closed"
        if not data:
            if one in self.free:  # between two requests: no request is lost
                self.close(one)
            else:
                self.lose(one, f"{why} after {len(one.answer)} bytes of an answer")
            return
        one.answer += data
        head, found, body = one.answer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if len(body) < int(fields.get(b"content-length", b"0")):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self.lose(one, f"{head[:40]!r} {body[:80]!r}")
            return
        self.versions[fields[b"modelmill-model-version"].decode()] += 1
        self.latencies.setdefault(int(time.time()), []).append(time.monotonic() - one.due)
        if fields.get(b"connection") == b"close":
            self.close(one)
        else:
            self.free.append(one)

    def run(self) -> None:
        for _ in range(CONNECTIONS):
            self.connect()
        STARTED.touch()
        step, behind = 1 / RATE, RATE // 4
        due, looked = time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            if now - looked > 0.2:
                looked = now
                written = COUNT.with_suffix(".new")
                written.write_text(str(self.versions.total() + len(self.lost)))
                written.replace(COUNT)  # who reads it sees one or the other
                if STOP.exists():
                    break
                self.give_up(f"no answer within {PATIENCE} s", now - PATIENCE)
            due = max(due, now - behind * step)
            while due <= now and self.free:
                self.send(due)
                due += step
            self.wait(max(0.0, due - time.monotonic()) if self.free else 0.05)
        end = time.monotonic() + PATIENCE
        while len(self.free) < len(self.open) and time.monotonic() < end:
            self.wait(0.1)
        self.give_up("no answer at the end", time.monotonic())

    def wait(self, seconds: float) -> None:
        for number, _ in self.poll.poll(seconds):
            if number in self.open:
                self.read(self.open[number])

    def give_up(self, why: str, sent_before: float) -> None:
        for one in [c for c in self.open.values() if c not in self.free and c.sent < sent_before]:
            self.lose(one, why)

    def result(self) -> dict[str, object]:
        seconds = {}
        for second in sorted({*self.latencies, *self.losses}):
            found = sorted(self.latencies.get(second, ())) or [0.0]
            p50, p99 = (round(1e6 * found[len(found) * part // 100]) for part in (50, 99))
            seconds[second] = (len(self.latencies.get(second, ())), self.losses[second], p50, p99)
        answered = sum(self.versions.values())
        return {
            "requests": answered + len(self.lost), "lost": len(self.lost), "first": self.lost[:5],
            "refused": self.refused, "versions": dict(self.versions), "seconds": seconds,
        }  # fmt: skip


if __name__ == "__main__":
    load = Load()
    load.run()
    print(json.dumps(load.result()))
