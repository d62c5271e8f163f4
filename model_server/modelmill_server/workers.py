"""Several processes on one port: the parent of the workers.

It opens the ports, verifies the artifact, makes the memory for the counters, imports what is slow to import, and forks.
It loads no model: onnxruntime's sessions may have threads, which do not survive a fork.  Then it only waits: for
signals, which it hands on, and for workers that die, which it starts again.

    it dies ---------------------------------> it is started again at once
    it dies within 10 s of its start --------> ... after a pause of 1, 2, 4 ... 30 s
    it dies before it was ever ready,
    or ends having said why -----------------> all end, and so does the parent
    it hangs (see `heartbeat`) --------------> it is killed, and started again
    it does not end when it has to ----------> it is killed

Each worker has a listening socket on each port (SO_REUSEPORT).  With one socket for all, whoever is awake takes most
connections: of 32, 30 and 2 instead of 15 and 17.  The parent holds them too, so that callers of a worker that is
started at once wait and are not lost; during a pause its socket is closed, and the others get its callers.
"""

import gc
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from modelmill_contracts.artifact import Manifest
from modelmill_contracts.folder import ArtifactError
from modelmill_server import heartbeat, log, model, ports, termination, welcome
from modelmill_server.counters import Board
from modelmill_server.errors import NotServableError
from modelmill_server.life import longest_end
from modelmill_server.ports import Settings, Sockets

# A worker's life, which ends with an exit code: `serve.live`.
Live = Callable[[Settings, Sockets, socket.socket, Board, int, int | None], int]

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds
_LIVED = 10.0  # seconds, after which a death has nothing to do with the one before
_POLL_SECONDS = 0.02  # until all are ready
_LOOK_SECONDS = 1.0  # between two looks whether they live
_SPARE_SECONDS = 3.0  # beyond what a worker needs to end
_CRASHED = 70  # the exit code of a worker that did not say why


@dataclass(slots=True)
class _Worker:
    index: int
    sockets: Sockets | None  # None while nobody is to wait for it
    pid: int = 0  # 0: none runs
    born: float = 0.0
    due: float = 0.0  # when it is to be started
    pause: float = 0.0  # before it is started again
    pulse: heartbeat.Pulse | None = None  # since it was ready: what loads a model may hold it up


def main(settings: Settings, sockets: Sockets, metrics: socket.socket, live: Live) -> int:
    """Serve with several workers, each of which does `live`, until a signal says stop; the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    board = Board(settings.workers)
    ports.announce(settings)
    try:
        digest, manifest, layout = model.inspect(settings.folder, settings.digest)
    except (ArtifactError, NotServableError) as error:
        return termination.fail(error.reason, f"cannot serve {settings.folder}: {error}")
    if layout is not None:
        board.bin_rows(layout)
    # Bound for itself until here, so that a port that somebody has is an error.
    sockets.close()
    # Whatever happens to the folder: a worker that is started again serves the same, or nothing.
    settings = replace(settings, digest=digest)
    return _Parent(settings, manifest, metrics, board, live).run()


class _Parent:
    def __init__(
        self, settings: Settings, manifest: Manifest, metrics: socket.socket, board: Board, live: Live
    ) -> None:
        self._live = live
        self._settings = settings
        self._manifest = manifest
        self._metrics = metrics
        self._board = board
        self._began = time.perf_counter()
        self._workers = [_Worker(index, ports.listen(settings, shared=True)) for index in range(settings.workers)]
        self._alive, self._life = os.pipe()  # a worker reads the end of file when this process ends
        self._stopping = self._ready = False
        self._deadline = math.inf  # when all must have ended
        self._code = 0

    def run(self) -> int:
        # What is there now is shared as long as no reference in it is counted or collected.
        gc.collect()
        gc.freeze()
        while not self._stopping or any(worker.pid for worker in self._workers):
            self._start_what_is_due()
            if not self._ready and not self._stopping and self._board.ready:
                self._ready = True
                seconds = round(time.perf_counter() - self._began, 3)
                log.info("ready", model=self._settings.name, workers=len(self._workers), seconds=seconds)
                welcome.show(self._settings, self._manifest)
            received = signal.sigtimedwait(_SIGNALS, self._patience())
            if received is not None and received.si_signo != signal.SIGCHLD:
                self._stop(received.si_signo)
            self._bury()
            self._kill_what_hangs()
        log.info("stopped")
        return self._code

    def _patience(self) -> float:
        if not self._ready and not self._stopping:
            return _POLL_SECONDS
        due = [worker.due for worker in self._workers if not worker.pid and not self._stopping]
        return min(_LOOK_SECONDS, max(0.0, min(due, default=math.inf) - time.monotonic()))

    def _start_what_is_due(self) -> None:
        for worker in self._workers:
            if not self._stopping and not worker.pid and worker.due <= time.monotonic():
                worker.born = time.monotonic()
                worker.sockets = sockets = worker.sockets or ports.listen(self._settings, shared=True)
                worker.pid = os.fork()
                if not worker.pid:
                    self._become(worker.index, sockets)

    def _become(self, index: int, sockets: Sockets) -> None:
        """Be a worker, in the child."""
        code = _CRASHED
        try:
            os.setpgid(0, 0)  # Ctrl-C is for the parent, which hands it on: twice would mean "at once"
            os.close(self._life)
            for other in self._workers:
                if other.index != index and other.sockets is not None:
                    other.sockets.close()
            code = self._live(self._settings, sockets, self._metrics, self._board, index, self._alive)
        except BaseException:  # nothing of the parent may run in the child
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _stop(self, number: int) -> None:
        again, self._stopping = self._stopping, True
        seconds = longest_end(self._settings)
        if number == signal.SIGINT:  # without the drain; a second one ends at once
            seconds = 0.0 if again else seconds - self._settings.drain_seconds
        self._deadline = min(self._deadline, time.monotonic() + seconds + _SPARE_SECONDS)
        self._metrics.close()  # the workers close theirs when they have drained
        for worker in self._workers:
            if worker.sockets is not None:
                worker.sockets.close()
            if worker.pid:
                os.kill(worker.pid, number)

    def _kill_what_hangs(self) -> None:
        now = time.monotonic()
        late = now > self._deadline
        if late:
            self._deadline = now + _SPARE_SECONDS  # for another try
        for worker in self._workers:
            if not worker.pid:
                continue
            counters = self._board.workers[worker.index]
            if worker.pulse is None and counters.ready:
                worker.pulse = heartbeat.Pulse(now)
            silent = worker.pulse and worker.pulse.hangs(counters.last_beat, heartbeat.cpu_ticks(worker.pid), now)
            if silent is not None or late:
                why = "did not end in time" if late else "hangs"
                log.error(f"worker {worker.index} {why} and is killed", silent_seconds=round(silent or 0.0, 1))
                os.kill(worker.pid, signal.SIGKILL)
                worker.pulse = heartbeat.Pulse(now)

    def _bury(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid, worker.pulse = 0, None
                self._board.workers[worker.index].stop()
                self._died(worker, os.waitstatus_to_exitcode(status))

    def _died(self, worker: _Worker, code: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if self._stopping:
            self._code = self._code or (1 if code else 0)
            return
        if code not in (0, _CRASHED) and code > 0:
            self._code = 1  # it has said why
            self._stop(signal.SIGTERM)
        elif not self._board.workers[worker.index].was_ready:
            self._code = termination.fail("WorkerDied", f"a worker ended {how} while it loaded the model; see its log")
            self._stop(signal.SIGTERM)
        else:
            now = time.monotonic()
            lived = now - worker.born
            worker.pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * worker.pause)) if lived < _LIVED else 0.0
            worker.due = now + worker.pause
            if worker.pause and worker.sockets is not None:
                worker.sockets.close()
                worker.sockets = None
            log.error(f"worker {worker.index} died {how} and is started again", pause_seconds=worker.pause)
