"""Logs: one JSON object a line, with the object that it is about."""

import json
import logging
import sys
from datetime import UTC, datetime

_FIELDS = ("kind", "namespace", "object", "identity")


class JsonFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{field: getattr(record, field) for field in _FIELDS if hasattr(record, field)},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def about(key: tuple[str, str, str]) -> dict[str, str]:
    """The fields of a record about an object: its kind, namespace and name."""
    return {"kind": key[0], "namespace": key[1], "object": key[2]}


def _retries_are_warnings(record: logging.LogRecord) -> bool:
    """kopf calls a request an error that it will try again, such as while an API server starts; it is none yet."""
    if record.levelno == logging.ERROR and record.name.startswith("kopf.") and "will retry" in record.getMessage():
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def _ending_is_no_error(record: logging.LogRecord) -> bool:
    """kopf leaves its watch-streams to the event loop when it ends, which says so where one does not end at once."""
    return not (record.name == "asyncio" and "infinite_watch" in record.getMessage())


def configure(level: str) -> None:
    """Everything to standard output as JSON; kopf's own chatter about objects only from warnings on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_retries_are_warnings)
    handler.addFilter(_ending_is_no_error)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf.activities").setLevel(logging.WARNING)
