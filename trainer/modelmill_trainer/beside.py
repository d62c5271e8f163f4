"""`python -m modelmill_trainer.beside`: the worker beside pod 0's own process, which trains and schedules.

It is a process of its own, so that what it computes holds up neither the scheduler nor who asks for progress.
"""

import os
import sys
import threading

from modelmill_trainer import log
from modelmill_trainer.cluster import work_once
from modelmill_trainer.workers import Place


def _end_with_who_started_it() -> None:
    sys.stdin.buffer.read()  # its end of the pipe is closed when it is gone, however it went
    os._exit(0)


if __name__ == "__main__":
    log.start()
    threading.Thread(target=_end_with_who_started_it, name="parent", daemon=True).start()
    place = Place.of(os.environ)
    assert place is not None  # noqa: S101 - pod 0 has started it as one of several
    work_once(place)
