"""Progress: how far a pod is with its training, for whoever asks while it works.

It answers `GET /progress` on the metrics port with one small JSON object.  Ours does so in the containers `fetch` and
`trainer`; a container of the user's may do the same.  Nothing depends on an answer: it is shown, and that is all.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

PATH = "/progress"
LIMIT = 4096  # bytes of an answer's body: what is longer is none

# As the API has them, so that no answer makes a status that the API server refuses.
Phase = Annotated[str, Meta(max_length=32, pattern=r"^[a-z][-a-z0-9]*\Z")]
MetricName = Annotated[str, Meta(max_length=64, pattern=r"^[a-z][a-z0-9_]*\Z")]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far it is: what is done of the whole, what it does now, and metrics where there are some already."""

    percent: Annotated[float, Meta(ge=0, le=100)]
    phase: Phase | None = None
    metrics: Annotated[dict[MetricName, float], Meta(max_length=32)] = {}


def encode(progress: Progress) -> bytes:
    """The body of an answer."""
    return msgspec.json.encode(progress)


def decode(body: bytes) -> Progress:
    """The progress in an answer's body; ValueError where it is none.  Numbers are finite: JSON has no others."""
    try:
        return msgspec.json.decode(body, type=Progress)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
