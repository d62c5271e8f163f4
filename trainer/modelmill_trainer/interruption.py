"""Being told to end: somebody deleted the pod, its node is drained, or its time is over.

As the container's first process the trainer gets no SIGTERM that it does not ask for, and would be killed half a minute
later, which looks like a failure of its own.
"""

import os
import signal
import threading
from pathlib import Path

from modelmill_contracts import report
from modelmill_contracts.report import EXIT_RETRYABLE, Report
from modelmill_trainer import log

INTERRUPTED = Report(
    False,
    "Interrupted",
    "the pod was told to end before its work was done: it was deleted, its node was drained, or its time was over",
    retryable=True,
)


def watch(path: Path) -> None:
    """From now on end at once at SIGTERM, with a report at `path` that asks for another try."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # The signal's number is written even while the main thread is deep in a library's own code, for minutes perhaps.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading, path), name="interruption", daemon=True).start()


def _wait(reading: int, path: Path) -> None:
    while os.read(reading, 1) != bytes([signal.SIGTERM]):
        pass
    try:
        log.say(INTERRUPTED.message, phase="report", ok=False, reason=INTERRUPTED.reason)
        report.write(INTERRUPTED, path)
    finally:
        os._exit(EXIT_RETRYABLE)
