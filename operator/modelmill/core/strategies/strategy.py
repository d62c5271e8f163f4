"""What strategies differ in: the steps that a revision takes when nobody declares any, and what its verdicts are."""

from dataclasses import dataclass
from datetime import timedelta

from modelmill.core.verdicts import Policy

COPIES = 100  # percent of the requests, while a step of copies goes on; servers drop copies before requests


@dataclass(frozen=True)
class Step:
    """A step: the candidate's share of requests and of copies in percent, and how long it takes at least."""

    weight: int
    shadow: int
    hold: timedelta | None  # None: until somebody resumes it


@dataclass(frozen=True)
class Strategy:
    """How a revision that is coming up becomes the one that serves."""

    steps: tuple[Step, ...]  # by default; none: it takes over once it is ready
    policies: tuple[Policy, ...] = ()  # the first that says something decides
