"""What the user sees: lines on stderr, long steps with elapsed time, and errors that say what to do.

stdout is left to output that a script may want (a path, a status, YAML).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

TICK_SECONDS = 15.0


class ClusterError(Exception):
    """Something the user can act on: shown as one message, without a traceback."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _colour(text: str, code: str) -> str:
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\033[{code}m{text}\033[0m"
    return text


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    say(_colour(f"warning: {text}", "33"))


def fail(text: str) -> None:
    say(_colour(f"error: {text}", "31"))


@contextlib.contextmanager
def step(title: str, expected: str = "") -> Iterator[None]:
    """One long step: its start (with the expected duration), a line every 15 s while it runs, and how long it
    took."""
    say(f"{_colour('==>', '36')} {title}" + (f" (about {expected})" if expected else ""))
    began = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK_SECONDS):
            say(f"    ... {title}: {time.monotonic() - began:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    took = time.monotonic() - began
    if took >= 1.0:
        say(f"    done in {took:.1f} s")
