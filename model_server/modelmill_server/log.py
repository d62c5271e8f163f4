"""What the programs of this package print: text for people on a terminal, JSON lines for everything else."""

import datetime
import sys
import traceback
from typing import Any, TextIO

import msgspec

_COLOURS = {"info": "\033[32m", "warning": "\033[33m", "error": "\033[31m"}
_RESET = "\033[0m"


def info(message: str, **fields: Any) -> None:
    _write(sys.stdout, "info", message, fields)


def warning(message: str, **fields: Any) -> None:
    _write(sys.stderr, "warning", message, fields)


def error(message: str, **fields: Any) -> None:
    _write(sys.stderr, "error", message, fields)


def failure(message: str, error_: BaseException) -> None:
    """An exception that nobody expected: its type and where it was raised.

    Its text is left out, since it might hold what a caller sent.
    """
    where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error_.__traceback__)]
    error(message, exception=type(error_).__name__, where=where[-5:])


def _write(stream: TextIO, level: str, message: str, fields: dict[str, Any]) -> None:
    if stream.isatty():
        details = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{_COLOURS[level]}{level:<8}{_RESET}{message}{details}"
    else:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = msgspec.json.encode({"time": now, "level": level, "message": message, **fields}).decode()
    stream.write(f"{line}\n")  # at once, else another process' line may come before its end
    stream.flush()
