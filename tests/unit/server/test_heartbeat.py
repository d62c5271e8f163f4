"""A worker that hangs is found and replaced, and none keeps the server from ending."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from artifacts import Made
from serving import Process, Server, matrix
from test_bins import collected
from test_workers import until, workers_of

from modelmill_server import heartbeat
from modelmill_server.counters import Board
from modelmill_server.heartbeat import HUNG_SECONDS, LONGEST_CALL_SECONDS, Pulse

LOOKS = range(1, 200)  # one a second


def first_found(beat: int = 0, ticks: int = 0, *, every: int = 1) -> int | None:
    """The second in which a worker is found to hang; each second it beats and uses CPU so often."""
    pulse = Pulse(0.0)
    for second in LOOKS:
        if second % every == 0 and pulse.hangs(second * beat, second * ticks, float(second)) is not None:
            return second
    return None


def test_one_that_beats_lives() -> None:
    assert first_found(beat=1) is None


def test_one_that_neither_beats_nor_computes_hangs() -> None:
    assert first_found() == HUNG_SECONDS + 1


def test_a_long_call_of_a_model_is_not_taken_for_one() -> None:
    assert first_found(ticks=100) == LONGEST_CALL_SECONDS + 1


def test_who_looks_rarely_was_stopped_itself_and_says_nothing() -> None:
    assert first_found(every=15) is None


def test_a_worker_that_is_silent_does_not_count_as_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(2)
    for worker in board.workers:
        worker.start()
        worker.beat()
        worker.ready = True
    assert board.ready
    monkeypatch.setattr(heartbeat, "HUNG_SECONDS", 0.0)  # the last beat is always longer ago
    assert not board.ready
    assert not any(worker.answers for worker in board.workers)
    board.workers[1].start()
    board.workers[1].ready = True  # it serves, and its loop has not gone round yet
    assert board.ready


class Impatient(Server):
    """Two workers whose parent is less patient than it is in earnest.  `hung` and `closing` are seconds."""

    def __init__(self, made: Made, *options: str, hung: float, closing: float) -> None:
        set_up = f"heartbeat.HUNG_SECONDS = {hung}; life._CLOSING_SECONDS = {closing}"
        code = f"import sys; from modelmill_server import heartbeat, life; {set_up}"
        code += "; from modelmill_server.__main__ import main; sys.exit(main())"
        ports = ("--port", "0", "--grpc-port", "0", "--metrics-port", "0", "--host", "127.0.0.1")
        what = ("serve", str(made.folder), "--digest", made.digest, "--name", "model", "--version", "7")
        Process.__init__(self, command=[sys.executable, "-c", code, *what, *ports, "--workers", "2", *options])
        self.name = "model"


@contextmanager
def impatient(made: Made, *options: str, hung: float = 3600.0, closing: float = 3600.0) -> Iterator[Impatient]:
    server = Impatient(made, *options, hung=hung, closing=closing)
    pids: list[int] = []
    try:
        server.wait_for("ready")
        pids = workers_of(server)
        yield server
    finally:
        server.end()
        for pid in pids:  # one that is stopped does not read that its parent has ended
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_one_that_hangs_is_killed_and_replaced(cancer: Made) -> None:
    with impatient(cancer, hung=3.0) as server:
        assert server.infer(matrix(cancer.rows[:3])).status == 200
        before = collected(server)
        hung, other = workers_of(server)
        os.kill(hung, signal.SIGSTOP)
        server.wait_for("worker 0 hangs and is killed")
        until(lambda: collected(server).workers_ready == 2)
        after = collected(server)
        assert (after.rows, after.worker_restarts) == (before.rows, 1)
        assert other in workers_of(server)
        assert hung not in workers_of(server)
        for _ in range(20):
            assert server.infer(matrix(cancer.rows[:1])).status == 200


def test_one_that_hangs_while_it_drains(cancer: Made) -> None:
    with impatient(cancer, "--drain-seconds", "600", hung=3.0) as server:
        hung, other = workers_of(server)
        os.kill(hung, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        server.wait_for("worker 0 hangs and is killed")
        until(lambda: workers_of(server) == [other])


def test_one_that_does_not_end_in_time(cancer: Made) -> None:
    with impatient(cancer, "--drain-seconds", "0", closing=0.0) as server:
        os.kill(workers_of(server)[0], signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert [line["message"] for line in server.lines if line.get("level") == "error"] == [
            "worker 0 did not end in time and is killed"
        ]


def test_a_second_interrupt_waits_for_none(cancer: Made) -> None:
    with impatient(cancer, "--drain-seconds", "600") as server:
        hung, _ = workers_of(server)
        os.kill(hung, signal.SIGSTOP)
        server.signal(signal.SIGINT)
        until(lambda: workers_of(server) == [hung])
        server.signal(signal.SIGINT)
        assert server.wait() == 1
