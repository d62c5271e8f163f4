"""Baselines: what pods had counted when the window that is open began.

They live in memory alone: a restart, and a window that somebody else weighed, drop what is open.  So no request is
weighed twice: an answer becomes a baseline only if it was asked for after the window before it was seen to be weighed.
"""

from collections.abc import Mapping
from time import monotonic
from typing import Any

from modelmill.core.plan import Measurement

Window = tuple[str, int]  # its name, and how many were weighed before it


class _Open:
    def __init__(self, window: Window, since: float) -> None:
        self.window = window
        self.since = since  # by the collector's clock
        self.answers: dict[str, Any] = {}  # by pod


class Baselines:
    """Of each ModelDeployment that has a window open, by UID."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def opened(self, owner: str, window: Window) -> None:
        """This window is open: nothing is known of where pods are in it, unless it is known already."""
        known = self._open.get(owner)
        if known is None or known.window != window:
            self._open[owner] = _Open(window, monotonic())

    def closed(self, owner: str) -> None:
        self._open.pop(owner, None)

    def answered(self, owner: str, answers: Mapping[str, Measurement]) -> None:
        """The first answer of each pod is where its part of the window begins."""
        known = self._open.get(owner)
        if known is not None:
            for pod, answer in answers.items():
                if answer.asked >= known.since:
                    known.answers.setdefault(pod, answer.value)

    def weighed(self, owner: str, window: Window, answers: Mapping[str, Any]) -> None:
        """We have weighed what these pods had counted, and so the window is open that begins there."""
        known = self._open.get(owner)
        if known is not None and known.window == window:
            known.answers = dict(answers)

    def gone(self, owner: str | None, pod: str) -> None:
        if owner in self._open:
            self._open[owner].answers.pop(pod, None)

    def seconds(self, owner: str) -> float:
        """How long the window has been open."""
        known = self._open.get(owner)
        return monotonic() - known.since if known is not None else 0.0

    def of(self, owner: str) -> Mapping[str, Any]:
        known = self._open.get(owner)
        return dict(known.answers) if known is not None else {}
