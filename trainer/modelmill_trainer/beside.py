"""`python -m modelmill_trainer.beside`: the worker beside pod 0's own process, which trains and schedules.

It is a process of its own, so that what it computes holds up neither the scheduler nor who asks for progress.
"""

import os

from modelmill_trainer import log
from modelmill_trainer.cluster import work_once
from modelmill_trainer.workers import Place

if __name__ == "__main__":
    log.start()
    place = Place.of(os.environ)
    assert place is not None  # noqa: S101 - pod 0 has started it as one of several
    work_once(place)
