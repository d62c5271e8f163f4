"""What an answer of the candidate's is: one that a caller can have, or a reason why not."""

import re
from collections.abc import Callable
from typing import NamedTuple

from modelmill_contracts.counters import COMPUTE_HEADER, ID_HEADER, VERSION_HEADER
from modelmill_server import answers, framing
from modelmill_server.arms import ArmCounts
from modelmill_server.comparing import Values
from modelmill_server.inference import Outcome
from modelmill_server.upstream import Response, UpstreamError

_VERSION, _COMPUTE, _ID = VERSION_HEADER.encode(), COMPUTE_HEADER.encode(), ID_HEADER.encode()
_LONGEST = 1e6  # seconds
_WORST = (KeyError, *answers.UNREADABLE)
# What a server of ours answers on its short cut (`App.set_date`).
_MOSTLY = re.compile(
    rb"HTTP/1\.1 200 OK\r\ndate: [ -~]*\r\ncontent-type: application/json\r\n"
    rb"%b: ([!-~]+)\r\n%b: ([0-9.]+)\r\ncontent-length: ([0-9]{1,9})\r\n\r\n" % (_VERSION, _COMPUTE)
)

Reply = Response | UpstreamError


class Form(NamedTuple):
    """A protocol: where the candidate takes its requests, and its answers."""

    target: str
    check: Callable[[bytes, int | None], int]  # raises one of `answers.UNREADABLE` for what is none
    read: Callable[[bytes, int | None], Values]


def glance(answer: bytes) -> tuple[dict[bytes, bytes], bytes] | None:
    """Headers that count and body of an answer as most are; None: it is another one, or not whole."""
    found = _MOSTLY.match(answer)
    if found is None:
        return None
    version, compute, size = found.groups()
    end = found.end()
    return ({_VERSION: version, _COMPUTE: compute}, answer[end:]) if len(answer) - end == int(size) else None


def judge(form: Form, reply: Reply) -> Outcome | str:
    """The outcome for the caller; else one of `counters.FALLBACKS`."""
    if isinstance(reply, UpstreamError):
        return reply.reason.removeprefix("Upstream")
    status = reply.status
    if status != 200:
        if status == 429:
            return "Busy"
        if status >= 500:
            return "Failed"
        return "Refused" if status >= 400 else "Invalid"
    headers, body, size = reply.headers, reply.body, None
    try:
        # A server that does not say them is not one of ours.
        version, seconds = headers[_VERSION], float(headers[_COMPUTE]) * 1e-6
        if (said := headers.get(framing.JSON_SIZE_NAME)) is not None:
            size = framing.known_size(said)
            if size is None:
                return "Invalid"
        form.check(body, size)
    except _WORST:
        return "Invalid"
    if not 0 <= seconds < _LONGEST or b"content-encoding" in headers:
        return "Invalid"
    return Outcome(200, body, "", seconds, 0, "", size, version=version, id=headers.get(_ID, b""))


def count(arm: ArmCounts, outcome: Outcome) -> None:
    """Count an answer of the own model's."""
    status = outcome.status
    if status == 200:
        arm.answered(outcome.seconds)
    elif status == 429 or status >= 500:
        arm.failed()
    else:
        arm.refused()
