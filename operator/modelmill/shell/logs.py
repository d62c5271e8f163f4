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


_TRIED_AGAIN = ("will retry", "will re-authenticate", "has failed")


def _retries_are_warnings(record: logging.LogRecord) -> bool:
    """kopf calls an error what is tried again: a request, such as while an API server starts, or its watches, which
    are started anew when an answer broke them off."""
    tried_again = any(words in record.getMessage() for words in _TRIED_AGAIN)
    if record.levelno == logging.ERROR and record.name.startswith("kopf.") and tried_again:
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.exc_info = record.exc_text = None
    return True


def _ending_is_no_error(record: logging.LogRecord) -> bool:
    """kopf leaves streams to the event loop when it ends, which says so where one does not end at once."""
    return not (record.name == "asyncio" and any(what in record.getMessage() for what in ("infinite_watch", "kopf/")))


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
