"""How a program of this package says why it ended: a line for people, and a report that kubelet hands on."""

import os
from pathlib import Path

from modelmill_contracts import environment, report
from modelmill_server import log


def fail(reason: str, message: str, *, retryable: bool = False) -> int:
    """Say it, and give the exit code.

    Outside of Kubernetes there is no termination log, and none is made.
    """
    log.error(message, reason=reason)
    override = os.environ.get(environment.REPORT)
    path = Path(override) if override else report.PATH
    if override or path.exists():
        try:
            report.write(report.Report(ok=False, reason=reason, message=message, retryable=retryable), path)
        except OSError as error:
            log.warning(f"the report could not be written to {path}: {error.strerror}")
    return 1
