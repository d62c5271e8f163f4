"""What is known of one window: the requests of a collection interval that either arm was given."""

from dataclasses import dataclass
from operator import add
from typing import Self


@dataclass(frozen=True)
class ArmWindow:
    """One arm's requests in a window, and what became of them.

    A request belongs to the arm that it was assigned to, also where the other one answered it in the end.  `latency`
    counts compute times as `counters.Latency` does, () where none were measured; time-outs and fall-backs are
    failures and have none.
    """

    requests: int = 0
    failures: int = 0
    latency: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.requests, self.failures, *self.latency) < 0:
            raise ValueError(f"an arm's window has a negative count: {self}; after a restart a pod counts from zero")
        if self.failures > self.requests:
            raise ValueError(f"an arm's window has {self.failures} failures of only {self.requests} requests")

    def __add__(self, other: Self) -> "ArmWindow":
        return ArmWindow(
            self.requests + other.requests,
            self.failures + other.failures,
            added(self.latency, other.latency),
        )


@dataclass(frozen=True)
class Window:
    """Both arms in one interval, and how often their answers to the same request (shadow) were the same label."""

    control: ArmWindow = ArmWindow()
    candidate: ArmWindow = ArmWindow()
    compared: int = 0
    agreed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.agreed <= self.compared:
            raise ValueError(f"a window has {self.agreed} agreements of {self.compared} comparisons")

    def __add__(self, other: Self) -> "Window":
        return Window(
            self.control + other.control,
            self.candidate + other.candidate,
            self.compared + other.compared,
            self.agreed + other.agreed,
        )

    def filled(self, candidate_requests: int) -> bool:
        """Whether it says something: else it is better left open, and grows, than committed.

        A window without requests in one arm is no evidence, so that with little traffic short windows would waste what
        the other arm had.  How many requests came does not depend on what became of them: waiting for them is fair.
        """
        return self.control.requests > 0 and self.candidate.requests >= max(candidate_requests, 1)


def added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Counts in the same bins, summed; () is a count of nothing.  ValueError where the bins differ."""
    if not one or not other:
        return one or other
    if len(one) != len(other):
        raise ValueError(f"counts of {len(one)} bins cannot be added to counts of {len(other)} bins")
    return tuple(map(add, one, other))
