"""Several processes on one port: one set of counters, and what happens when one of them dies."""

import http.client
import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import artifacts
import msgspec
import pytest
from artifacts import Made
from calls import INFER, call, channel, request, tensor
from serving import Process, Server, ask, matrix, serving
from test_bins import assert_agree, collected
from test_drain import PATH, Client, connected

from modelmill_contracts import artifact
from modelmill_server.counters import Board

READY = "/v2/health/ready"


def workers_of(server: Server) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_both_answer_and_count_together(cancer: Made) -> None:
    body = msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})
    with serving(cancer, "--workers", "2") as server:
        assert len(workers_of(server)) == 2
        stop = threading.Event()
        clients = [Client([server.port], body, stop) for _ in range(16)]
        for client in clients:
            client.start()
        time.sleep(1)
        during = collected(server)
        stop.set()
        for client in clients:
            client.join(30)
        shares = [cpu_ticks(pid) for pid in workers_of(server)]
        found = collected(server)
        answered = sum(client.answered for client in clients)
        assert [client.failures for client in clients] == [[]] * len(clients)
        assert found.rows == found.requests["200"] == sum(found.request.counts) == answered
        assert {sum(feature.counts) for feature in found.features} == {answered}
        assert 0 < during.rows < found.rows
        assert (found.workers_ready, found.worker_restarts) == (2, 0)
        assert min(shares) > 0
        assert_agree(ask(server.metrics_port, "GET", "/metrics").body.decode(), found)


def cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_a_killed_worker_takes_no_count_with_it_and_is_replaced(cancer: Made) -> None:
    with serving(cancer, "--workers", "2") as server:
        for _ in range(50):
            assert server.infer(matrix(cancer.rows[:3])).status == 200
        server.ask("POST", PATH, b"nonsense")
        before = collected(server)
        killed, other = workers_of(server)
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in workers_of(server))
        # Callers of the other one notice nothing, those of the dead one wait.
        for _ in range(20):
            assert server.ask("GET", READY).status == 200
        until(lambda: len(workers_of(server)) == 2 and collected(server).workers_ready == 2)
        after = collected(server)
        assert (after.rows, after.requests, after.refusals) == (before.rows, before.requests, before.refusals)
        assert (after.features, after.predictions) == (before.features, before.predictions)
        assert (after.started, after.worker_restarts) == (before.started, 1)
        assert other in workers_of(server)
        assert killed not in workers_of(server)
        server.wait_for("worker 0 died by signal 9")

        os.kill(other, signal.SIGKILL)
        until(lambda: collected(server).worker_restarts == 2)
        assert server.infer(matrix(cancer.rows[:1])).status == 200
        server.ask("POST", PATH, b"nonsense")
        total = collected(server)
        assert total.rows == before.rows + 1
        assert total.refusals == {"JsonInvalid": 2}


def test_one_that_keeps_dying_is_started_more_and_more_rarely(cancer: Made) -> None:
    with serving(cancer, "--workers", "2") as server:
        survivor = workers_of(server)[1]
        for _ in range(2):
            until(lambda: len(workers_of(server)) == 2)
            (victim,) = [pid for pid in workers_of(server) if pid != survivor]
            os.kill(victim, signal.SIGKILL)
            until(lambda gone=victim: gone not in workers_of(server))  # type: ignore[misc]
        time.sleep(0.5)
        assert workers_of(server) == [survivor]
        pauses = [line["pause_seconds"] for line in server.lines if line["message"].startswith("worker 0 died")]
        assert pauses == [1.0, 2.0]
        assert server.infer(matrix(cancer.rows[:1])).status == 200
        assert server.ask("GET", READY).status == 200


def test_all_drain_under_load_without_a_lost_request(cancer: Made) -> None:
    body = msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})
    stop = threading.Event()
    options = ("--workers", "2", "--drain-seconds", "2")
    with serving(cancer, *options) as old, serving(cancer) as new:
        target = [old.port]
        clients = [Client(target, body, stop) for _ in range(6)]
        for client in clients:
            client.start()
        time.sleep(0.5)
        old.signal(signal.SIGTERM)
        time.sleep(0.5)
        for _ in range(10):
            assert old.ask("GET", READY).status == 503
        time.sleep(0.5)
        target[0] = new.port
        assert old.wait(30) == 0
        stop.set()
        for client in clients:
            client.join(30)
        assert [client.failures for client in clients] == [[]] * len(clients)


def test_workers_end_with_their_parent(cancer: Made) -> None:
    with serving(cancer, "--workers", "2", "--drain-seconds", "600") as server:
        pids = workers_of(server)
        server.signal(signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_an_interrupt_ends_all(cancer: Made) -> None:
    with serving(cancer, "--workers", "2", "--drain-seconds", "600") as server, connected(server):
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_an_artifact_that_is_refused_is_refused_once(cancer: Made) -> None:
    server = Server(cancer.folder, "--digest", "sha256:" + "0" * 64, "--workers", "3")
    try:
        assert server.wait() == 1
        assert [line["level"] for line in server.lines] == ["info", "error"]
    finally:
        server.end()


def test_a_model_that_cannot_be_loaded_ends_all(tmp_path: Path) -> None:
    made = artifacts.regression(tmp_path / "model")
    (made.folder / "model.onnx").write_bytes(b"nonsense")
    digest = artifacts.write(made.folder, artifact.decode((made.folder / artifact.MANIFEST).read_bytes()))
    server = Server(made.folder, "--digest", digest, "--workers", "2")
    try:
        assert server.wait() == 1
        assert any(line.get("reason") == "ModelInvalid" for line in server.lines)
        assert not any(line["message"].startswith("ready") for line in server.lines)
    finally:
        server.end()


def test_a_server_is_ready_when_all_its_workers_were() -> None:
    board = Board(2)
    board.workers[0].start()
    board.workers[0].ready = True
    assert not board.ready
    board.workers[1].ready = True
    assert board.ready
    board.workers[0].stop()  # it died
    assert board.ready
    board.workers[1].ready = False  # and the other one drains
    assert not board.ready


@pytest.mark.parametrize("name", ["A" * 40, "A" * 60])
def test_more_reasons_than_there_is_room_for(name: str) -> None:
    board = Board()
    for index in range(300):
        board.workers[0].refused(f"{name[: -len(str(index))]}{index}"[-39:])
    board.workers[0].start()  # another process goes on
    board.workers[0].refused("New")
    refusals = board.workers[0].refusals
    assert sum(refusals.values()) == 301
    assert refusals["Other"] == 301 - 127
    assert len(refusals) == 128


def test_a_full_worker_refuses_and_the_other_one_answers(cancer: Made) -> None:
    body = msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with serving(cancer, "--workers", "2", "--max-in-flight", "1") as server:
        callers = [connected(server) for _ in range(20)]  # all at one worker: one in 500,000
        for caller in callers:
            caller.sendall(head + body[:100])
        held, refused = [], 0
        for caller in callers:
            caller.settimeout(0.5)
            try:
                answer = caller.recv(65536)
            except TimeoutError:  # it is waited for the rest of its body
                held.append(caller)
            else:
                assert answer.startswith(b"HTTP/1.1 429 ")
                assert b"\r\nretry-after: 1\r\n" in answer
                refused += 1
        assert len(held) == 2
        for caller in held:
            caller.settimeout(30)
            caller.sendall(body[100:])
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.refusals() == {"QueueFull": refused}
        for caller in callers:
            caller.close()


def test_grpc_is_answered_and_counted_by_all(cancer: Made) -> None:
    message = request(tensor("input", "FP32", [1, 30], [1.0] * 30)).SerializeToString()
    with serving(cancer, "--workers", "2") as server, ExitStack() as stack:
        before = [open_files(pid) for pid in workers_of(server)]
        channels = [stack.enter_context(channel(server)) for _ in range(20)]
        for on in channels:
            assert call(on, INFER, message)[0]
        after = [open_files(pid) for pid in workers_of(server)]
        assert min(more - few for more, few in zip(after, before, strict=True)) > 0
        found = collected(server)
        assert (found.rows, found.requests) == (20, {"200": 20})
        assert {sum(feature.counts) for feature in found.features} == {20}


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_connections_are_spread(cancer: Made) -> None:
    with serving(cancer, "--workers", "2") as server:
        kept = []
        for _ in range(32):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", "/v2/health/live")
            assert connection.getresponse().read()
            kept.append(connection)
        files = [open_files(pid) for pid in workers_of(server)]
        assert abs(files[0] - files[1]) < 24  # by chance more than that: one in 40,000
        for connection in kept:
            connection.close()


def test_a_port_that_another_server_has(cancer: Made) -> None:
    with serving(cancer, "--workers", "2") as server:
        second = Process(
            "serve",
            str(cancer.folder),
            "--port",
            str(server.port),
            "--grpc-port",
            "0",
            "--metrics-port",
            "0",
            "--workers",
            "2",
        )
        try:
            assert second.wait() == 1
            assert second.lines[-1]["reason"] == "PortUnavailable"
        finally:
            second.end()


def test_after_the_drain_connections_are_refused(cancer: Made) -> None:
    body = msgspec.json.encode({"inputs": [matrix(cancer.rows[:1])]})
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with serving(cancer, "--workers", "2", "--drain-seconds", "0") as server, connected(server) as slow:
        slow.sendall(head + body[:100])
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        time.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            connected(server)
        slow.sendall(body[100:])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.wait() == 0
