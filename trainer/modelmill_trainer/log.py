"""JSON lines on stdout: what the container does, and how long it took."""

import logging
import re
import sys
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from modelmill_trainer.progress import METER

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]")
# Whatever begins like a number, times included; no digits within a name, such as float64.
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])[+-]?\.?[0-9][A-Za-z0-9_.:+-]*")
_LOGGER = logging.getLogger("modelmill.trainer")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def start() -> None:
    """Send every log line of this process to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _LOGGER.setLevel(logging.INFO)
    warnings.showwarning = _warn


def redacted(text: str, known: Collection[float] | None = None) -> str:
    """A library's text without what it quotes or lists, which may be values of the data.

    Where `known` is given, without other numbers than these either: those that a manifest has, and sizes.
    """
    text = _QUOTED.sub("...", text)
    return text if known is None else _NUMBER.sub(lambda found: found[0] if _is_in(found[0], known) else "...", text)


def _is_in(number: str, known: Collection[float]) -> bool:
    try:
        return float(number) in known
    except ValueError:
        return False


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del filename, lineno, file, line
    logging.getLogger("py.warnings").warning("%s: %s", category.__name__, redacted(str(message)))


def say(message: str, **facts: Any) -> None:
    """Log one line; `facts` become fields of it."""
    _LOGGER.info(message, extra={"facts": facts})


def crash(message: str) -> None:
    """Log the exception that is being handled, with its traceback."""
    _LOGGER.exception(message)


@contextmanager
def phase(name: str, **facts: Any) -> Iterator[None]:
    """Log when a phase ends, and the seconds of wall time that it took; who asks is told when it begins."""
    METER.begin(name)
    start_time = time.monotonic()
    yield
    say(f"done: {name}", phase=name, seconds=round(time.monotonic() - start_time, 3), **facts)
